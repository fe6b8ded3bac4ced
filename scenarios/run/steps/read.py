"""`read`: a client reads a range of a point in time over a connection of its own."""

from __future__ import annotations

from scenarios.backends.interface import NbdFailed
from scenarios.language.steps import Read
from scenarios.run.content import runs_of
from scenarios.run.execution import Execution, NotAsExpectedError, Where
from scenarios.run.history import ClientRead
from scenarios.run.points import Part, Point
from scenarios.run.steps.guest import check_error


async def run(x: Execution, read: Read, where: Where) -> None:
    point = find_point(x, read.source)
    if point is None:
        return
    for part in parts_of(point, read.disk):
        await _read(x, point, part, read, where)
    x.take_events()


def find_point(x: Execution, fleece_id: str) -> Point | None:
    """The point in time of that id, alive or not any more; None if it has never been made, which
    only a race with its making can bring about."""
    point = x.points.get(fleece_id)
    if point is None and not x.stopped:
        raise NotAsExpectedError(f"a point in time {fleece_id}", "it has not been made")
    return point


def parts_of(point: Point, disk: str | None) -> list[Part]:
    return point.parts if disk is None else [point.part(disk)]


def lost_the_race(x: Execution, point: Point, where: Where, ends: int) -> bool:
    """Whether a client may fail: its point in time is being or has been ended beside it, or the machine has.
    `ends` is what x.ends was when it began."""
    return where.racing and (point.ending or not point.alive or x.ends != ends)


async def _read(x: Execution, point: Point, part: Part, read: Read, where: Where) -> None:
    """A step that expects an error gets it once at least, of connecting or of a request."""
    ends, failure = x.ends, None
    try:
        if read.leave:
            await (await x.session.nbd(part.export)).drop((read.at, read.length))
            return
        async with x.nbd(part.export) as client:
            for _ in range(read.times):
                record = ClientRead(
                    begin=x.history.tick(),
                    time_ns=x.session.now_ns(),
                    step=where.path,
                    fleece_id=point.id,
                    disk=part.disk,
                    client="own",
                    offset=read.at,
                    length=read.length,
                )
                x.history.records.append(record)
                try:
                    record.content = runs_of(await client.read(read.at, read.length), read.at)
                except NbdFailed as error:
                    record.error = error.errno_name
                    raise
                finally:
                    record.end = x.history.tick()
    except NbdFailed as error:
        failure = error
    if failure is not None and read.error is None and lost_the_race(x, point, where, ends):
        return
    check_error(read.error, failure)
