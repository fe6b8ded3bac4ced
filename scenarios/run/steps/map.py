"""`map`: ask for the extents of a point in time.

States are nbdinfo's words: of base:allocation "data", "hole", "zero" and "hole,zero"; of a dirty
bitmap "clean" and "dirty"; of qemu:allocation-depth the depth as a number, 0 where nothing is
allocated.
"""

from __future__ import annotations

import json
from typing import Any

from scenarios.backends.interface import NbdFailed
from scenarios.language.steps import Map
from scenarios.run.execution import Execution, NotAsExpectedError, Where
from scenarios.run.history import ClientMap
from scenarios.run.points import Part, Point
from scenarios.run.steps.copy import nbd_uri
from scenarios.run.steps.guest import check_error
from scenarios.run.steps.read import find_point, lost_the_race, parts_of

Extents = list[tuple[int, int, str]]

_ALLOCATION = {0: "data", 1: "hole", 2: "zero", 3: "hole,zero"}
_DIRTY = {0: "clean", 1: "dirty"}


async def run(x: Execution, map_: Map, where: Where) -> None:
    point = find_point(x, map_.source)
    if point is None:
        return
    for part in parts_of(point, map_.disk):
        await _map(x, point, part, map_, where)
    x.take_events()


async def _map(x: Execution, point: Point, part: Part, map_: Map, where: Where) -> None:
    ends = x.ends
    record = ClientMap(
        begin=x.history.tick(),
        time_ns=x.session.now_ns(),
        step=where.path,
        fleece_id=point.id,
        disk=part.disk,
        client=map_.client,
        context=map_.context,
    )
    x.history.records.append(record)
    try:
        record.extents = _joined(await _CLIENTS[map_.client](x, part, map_, where))
    except NbdFailed as error:
        record.error = error.errno_name
        if not lost_the_race(x, point, where, ends):
            check_error(None, error)
        return
    finally:
        record.end = x.history.tick()
    if map_.expect is not None:
        wanted = _joined([(each.at, each.length, each.state) for each in map_.expect])
        if wanted != record.extents:
            raise NotAsExpectedError(_tell(wanted), _tell(record.extents))


def _joined(extents: Extents) -> Extents:
    """Neighbours of equal state are one."""
    joined: Extents = []
    for offset, length, state in extents:
        if joined and joined[-1][2] == state and sum(joined[-1][:2]) == offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + length, state)
        else:
            joined.append((offset, length, state))
    return joined


def _tell(extents: Extents) -> str:
    return ", ".join(f"{offset}+{length} {state}" for offset, length, state in extents)


def context_name(context: str) -> str:
    """The metadata context of a word of the language."""
    names = {"allocation": "base:allocation", "depth": "qemu:allocation-depth"}
    return names.get(context, f"qemu:dirty-bitmap:{context}")


def _state(context: str, flags: int) -> str:
    if context == "depth":
        return str(flags)
    words = _ALLOCATION if context == "allocation" else _DIRTY
    return words.get(flags, f"flags {flags}")


async def _own(x: Execution, part: Part, map_: Map, where: Where) -> Extents:
    context = context_name(map_.context)
    async with x.nbd(part.export, (context,)) as client:
        if context not in client.contexts:
            raise NotAsExpectedError(f"metadata context {context}", f"only {sorted(client.contexts)}")
        extents = await client.block_status(context, 0, client.size)
    return [(offset, length, _state(map_.context, flags)) for offset, length, flags in extents]


async def _nbdinfo(x: Execution, part: Part, map_: Map, where: Where) -> Extents:
    argv = ["nbdinfo", f"--map={context_name(map_.context)}", "--json", nbd_uri(x, part)]
    return [
        (each["offset"], each["length"], _state(map_.context, each["type"]))
        for each in await _json(x, where, argv)
    ]


async def _qemu_img(x: Execution, part: Part, map_: Map, where: Where) -> Extents:
    """qemu-img shows a dirty bitmap in place of the allocation: what is dirty is not "data"."""
    options = f"driver=nbd,server.type=unix,server.path={x.session.nbd_path},export={part.export}"
    if map_.context == "depth":
        raise NotAsExpectedError("a client that asks for depths (own, nbdinfo)", "qemu-img")
    if map_.context != "allocation":
        options += f",x-dirty-bitmap={context_name(map_.context)}"
    extents: Extents = []
    for each in await _json(x, where, ["qemu-img", "map", "--output=json", "--image-opts", options]):
        if map_.context != "allocation":
            state = _DIRTY[not each["data"]]
        else:
            state = _ALLOCATION[(not each["data"]) | each["zero"] << 1]
        extents.append((each["start"], each["length"], state))
    return extents


async def _json(x: Execution, where: Where, argv: list[str]) -> list[dict[str, Any]]:
    status, out, err = await x.tool(where, argv)
    if status != 0:
        raise NbdFailed("EXIT", f"{argv[0]}: {err.strip()}")
    answer: list[dict[str, Any]] = json.loads(out)
    return answer


_CLIENTS = {"own": _own, "nbdinfo": _nbdinfo, "qemu-img": _qemu_img}
