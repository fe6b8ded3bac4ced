"""`fault`: something around the machine goes wrong."""

from __future__ import annotations

from typing import Any

from scenarios.backends.interface import QmpRefused
from scenarios.language.steps import Fault
from scenarios.run import served_fault
from scenarios.run.execution import Execution, Where
from scenarios.run.faults import node_options


async def run(x: Execution, fault: Fault, where: Where) -> None:
    if fault.disk is not None:
        await _break_storage(x, where, fault.disk, fault)
    elif fault.stop is not None:
        await x.session.pause(fault.stop)
    else:
        await x.session.change_monitor()


async def _break_storage(x: Execution, where: Where, disk: str, fault: Fault) -> None:
    """Put the fault below the disk's format node; one that was there before goes."""
    await take_out(x, where, disk)
    if fault.mend:
        return
    name = f"{disk}-fault"
    if fault.is_served:
        await served_fault.put_in(x, where, disk, fault, _format_node(x, disk, name))
        return
    await x.qmp(where, "blockdev-add", node_options(name, f"{disk}-file", fault, below_format=True))
    x.faults[disk] = fault.times
    await x.qmp(where, "blockdev-reopen", {"options": [_format_node(x, disk, name)]})


async def take_out(x: Execution, where: Where, disk: str) -> None:
    """Give the disk its own storage back. What of the fault has not been used up yet may hit the flush that
    goes before that, and be used up by it."""
    server = x.storage.pop(disk, None)
    if server is not None:
        # First of all: until then commands may be waiting for requests in flight, and others for them.
        await server.heal()
    left = x.faults.pop(disk, None)
    if left is None:
        return
    if server is not None:
        await served_fault.take_out(x, where, disk, server, _format_node(x, disk, f"{disk}-file"))
        return
    back = {"options": [_format_node(x, disk, f"{disk}-file")]}
    for _ in range(left):
        try:
            await x.qmp(where, "blockdev-reopen", back)
            break
        except QmpRefused as error:
            if "Error flushing drive" not in error.desc:
                raise
    else:
        await x.qmp(where, "blockdev-reopen", back)
    await x.qmp(where, "blockdev-del", {"node-name": f"{disk}-fault"})


def _format_node(x: Execution, disk: str, storage: str) -> dict[str, Any]:
    """All options, as blockdev-reopen resets those left out."""
    driver = x.disk(disk).format
    return {"driver": driver, "node-name": x.base_node(disk), "file": storage, "discard": "unmap"}
