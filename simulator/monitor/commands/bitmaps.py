"""block-dirty-bitmap-* and x-debug-block-dirty-bitmap-sha256 (block/monitor/bitmap-qmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block.opening import CRASHED
from simulator.jobs import dirty_bitmaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def add(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    dirty_bitmaps.add(machine.graph, arguments)
    return {}


async def remove(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    (await dirty_bitmaps.remove_stored(machine.graph, arguments)).release()
    return {}


async def clear(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    dirty_bitmaps.lookup_usable(machine.graph, arguments).clear()
    return {}


async def enable(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    dirty_bitmaps.lookup_usable(machine.graph, arguments, readonly=True).enabled = True
    return {}


async def disable(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    dirty_bitmaps.lookup_usable(machine.graph, arguments, readonly=True).enabled = False
    return {}


async def merge(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    _, before = dirty_bitmaps.merge(machine.graph, arguments)
    if before is None and machine.graph.rules.empty_merge_crashes:
        await machine.graph.end_process(CRASHED, "Segmentation fault")
    return {}


async def sha256(machine: Machine, arguments: Arguments) -> dict[str, str]:
    return {
        "sha256": dirty_bitmaps.digest(
            dirty_bitmaps.lookup(machine.graph, arguments["node"], arguments["name"])
        )
    }


COMMANDS = {
    "block-dirty-bitmap-add": add,
    "block-dirty-bitmap-clear": clear,
    "block-dirty-bitmap-disable": disable,
    "block-dirty-bitmap-enable": enable,
    "block-dirty-bitmap-merge": merge,
    "block-dirty-bitmap-remove": remove,
    "x-debug-block-dirty-bitmap-sha256": sha256,
}
