"""Threads and the nodes that work in them (iothread.c, blockdev.c, 7.2)."""

from __future__ import annotations

from simulator.block import iothreads
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def query_iothreads(machine: Machine, arguments: Arguments) -> Any:
    return [thread.describe() for thread in machine.iothreads.values()]


async def set_iothread(machine: Machine, arguments: Arguments) -> Any:
    if machine.graph.rules.changes_made_drained:
        # There all is drained from the beginning (observed on 11.1.3).
        async with machine.graph.drained_all():
            return await _set_iothread(machine, arguments)
    return await _set_iothread(machine, arguments)


async def _set_iothread(machine: Machine, arguments: Arguments) -> Any:
    name = arguments["node-name"]
    node = machine.graph.nodes.get(name)
    if node is None:
        raise QmpError(f"Failed to find node with node-name='{name}'")
    if not arguments.get("force") and any(isinstance(edge.parent, BlockBackend) for edge in node.parents):
        raise QmpError(
            f"Node {name} is associated with a BlockBackend and could be in use "
            "(use force=true to override this check)"
        )
    wanted = arguments["iothread"]
    if wanted is not None and wanted not in machine.iothreads:
        raise QmpError(f"Cannot find iothread {wanted}")
    async with machine.graph.drained(node):
        iothreads.move(node, machine.iothreads[wanted] if wanted is not None else None)
    return {}


COMMANDS = {"query-iothreads": query_iothreads, "x-blockdev-set-iothread": set_iothread}
