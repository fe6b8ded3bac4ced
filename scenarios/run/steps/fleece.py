"""`fleece`: take a point in time over some disks and export it."""

from __future__ import annotations

from scenarios.backends.interface import MachineGone, QmpRefused
from scenarios.language.steps import Fleece
from scenarios.run import methods
from scenarios.run.execution import Execution, NotAsExpectedError, Where, words_of
from scenarios.run.history import PointInTime
from scenarios.run.methods.shared import remove_files
from scenarios.run.points import Part, Point


async def run(x: Execution, fleece: Fleece, where: Where) -> None:
    """What was set up before a refusal is undone; with `error` a refusal is expected."""
    if x.method is None:
        raise NotAsExpectedError("a method to fleece with", "a spec without methods")
    async with x.control.taken():
        method = methods.find(x.method)
        point = Point(fleece.id, x.method, fleece.bitmap)
        for disk in fleece.disks:
            point.parts.append(Part(fleece.id, disk, len(x.session.events)))
        refused = await _begin(x, where, fleece, point)
        if refused is not None:
            await method.undo(x, where, point)
            if fleece.error is None or fleece.error not in refused.desc:
                raise NotAsExpectedError(fleece.error or "a point in time", words_of(refused))
            return
        x.points[fleece.id] = point
        if fleece.error is not None:
            raise NotAsExpectedError(f"an error that contains {fleece.error!r}", "success")


async def _begin(x: Execution, where: Where, fleece: Fleece, point: Point) -> QmpRefused | None:
    """Make it and record it. Returns what refused it."""
    record = PointInTime(
        begin=x.history.tick(),
        time_ns=x.session.now_ns(),
        step=where.path,
        fleece_id=fleece.id,
        disks=fleece.disks,
        method=point.method,
    )
    refused = None
    try:
        record.begin, record.end = await methods.find(point.method).begin(x, where, fleece, point)
        point.alive = True
    except MachineGone:
        for part in point.parts:
            remove_files(x, part)
        raise
    except QmpRefused as error:
        refused = error
        record.error, record.end = error.desc, x.history.tick()
    x.history.records.append(record)
    return refused
