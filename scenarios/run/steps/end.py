"""`end`: take a point in time away."""

from __future__ import annotations

from scenarios.backends.interface import QmpRefused
from scenarios.language.steps import End
from scenarios.run import methods
from scenarios.run.execution import Execution, NotAsExpectedError, Where
from scenarios.run.history import PointEnded
from scenarios.run.points import Point


async def run(x: Execution, end: End, where: Where) -> None:
    async with x.control.taken():
        point = x.points.get(end.id)
        if point is None or not point.alive:
            if where.racing:
                return
            raise NotAsExpectedError(f"a point in time {end.id}", "none of that id is alive")
        await end_point(x, point, end.by, where)


async def end_point(x: Execution, point: Point, by: str, where: Where) -> None:
    """Raises QmpRefused (the point in time is then still alive), MachineGone, DeadlinePassed."""
    record = PointEnded(
        begin=x.history.tick(), time_ns=x.session.now_ns(), step=where.path, fleece_id=point.id, by=by
    )
    x.history.records.append(record)
    point.ending = True
    try:
        await methods.find(point.method).end(x, where, point, by)
    except QmpRefused as error:
        point.ending = False
        record.error, record.end = error.desc, x.history.tick()
        raise
    point.alive = False
    record.end = x.history.tick()
