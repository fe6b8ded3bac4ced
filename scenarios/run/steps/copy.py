"""`copy`: a client copies whole disks of a point in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scenarios.backends.interface import MachineGone, NbdFailed
from scenarios.language.steps import Copy
from scenarios.run.content import Run, join, runs_of
from scenarios.run.execution import Execution, NotAsExpectedError, Where
from scenarios.run.history import ClientRead
from scenarios.run.points import Part, Point
from scenarios.run.steps.read import find_point, lost_the_race, parts_of

_CLIENTS: dict[str, Callable[[Execution, Copy, Part, Where], Awaitable[list[Run]]]]


async def run(x: Execution, copy: Copy, where: Where) -> None:
    point = find_point(x, copy.source)
    if point is None:
        return
    for part in parts_of(point, copy.disk):
        await _copy(x, point, part, copy, where)
    x.take_events()


async def _copy(x: Execution, point: Point, part: Part, copy: Copy, where: Where) -> None:
    ends = x.ends
    record = ClientRead(
        begin=x.history.tick(),
        time_ns=x.session.now_ns(),
        step=where.path,
        fleece_id=point.id,
        disk=part.disk,
        client=copy.client,
        offset=0,
        length=x.disk(part.disk).size,
    )
    x.history.records.append(record)
    try:
        record.content = await _CLIENTS[copy.client](x, copy, part, where)
    except (NbdFailed, _ToolFailedError) as error:
        record.error = error.errno_name
        record.end = x.history.tick()
        if copy.error is None and lost_the_race(x, point, where, ends):
            return
        if copy.error is None:
            raise NotAsExpectedError("a copy of the disk", f"{record.error}: {error}") from error
        if copy.error not in (record.error, "any") and copy.error not in str(error):
            raise NotAsExpectedError(f"error {copy.error}", f"{record.error}: {error}") from error
        return
    record.end = x.history.tick()
    if copy.error is not None:
        raise NotAsExpectedError(f"error {copy.error}", "success")


class _ToolFailedError(Exception):
    """An external client failed; str() is what it printed."""

    errno_name = "EXIT"


async def _own(x: Execution, copy: Copy, part: Part, where: Where) -> list[Run]:
    """Each connection takes the next chunk as soon as it has its last."""
    size = x.disk(part.disk).size
    offsets = iter(range(0, size, copy.chunk))
    pieces: dict[int, list[Run]] = {}

    async def connection() -> None:
        async with x.nbd(part.export) as client:
            if client.size != size:
                raise NotAsExpectedError(f"an export of {size} bytes", f"{client.size} bytes")
            for offset in offsets:
                payload = await client.read(offset, min(copy.chunk, size - offset))
                pieces[offset] = runs_of(payload, offset)

    if copy.connections == 1:
        await connection()
    else:
        await x.session.together([connection() for _ in range(copy.connections)])
    return join(run for offset in sorted(pieces) for run in pieces[offset])


async def _nbdcopy(x: Execution, copy: Copy, part: Part, where: Where) -> list[Run]:
    uri = nbd_uri(x, part)
    return await _by_tool(
        x, part, where, lambda out: ["nbdcopy", f"--connections={copy.connections}", uri, out]
    )


async def _qemu_img(x: Execution, copy: Copy, part: Part, where: Where) -> list[Run]:
    source = ["-f", "raw", "-O", "raw", nbd_uri(x, part)]
    workers = ["-m", str(copy.connections)] if copy.connections > 1 else []
    return await _by_tool(x, part, where, lambda out: ["qemu-img", "convert", *workers, *source, out])


async def _by_tool(x: Execution, part: Part, where: Where, argv: Callable[[str], list[str]]) -> list[Run]:
    out = f"{part.export}.copy{where.path}"
    try:
        status, stdout, stderr = await x.tool(where, argv(out))
        if x.session.ended() and status != 0:
            raise MachineGone(stderr.strip())
        if status != 0:
            raise _ToolFailedError(stderr.strip() or stdout.decode(errors="replace").strip())
        return runs_of(x.session.read_file(out))
    finally:
        x.session.remove_file(out)


def nbd_uri(x: Execution, part: Part) -> str:
    return f"nbd+unix:///{part.export}?socket={x.session.nbd_path}"


_CLIENTS = {"own": _own, "nbdcopy": _nbdcopy, "qemu-img": _qemu_img}
