"""`fault`: something around the machine goes wrong, or is well again."""

from __future__ import annotations

from typing import Any

from scenarios.backends.interface import QmpRefused
from scenarios.language.steps import Fault
from scenarios.run import breakpoints, faults, served_fault
from scenarios.run.execution import Execution, Where


async def run(x: Execution, fault: Fault, where: Where) -> None:
    if fault.wait is not None:
        await breakpoints.wait(x, fault.wait)
    elif fault.resume is not None:
        await breakpoints.resume(x, where, fault.resume)
    elif fault.disk is not None:
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
    on_fault = _format_node(x, disk, name)
    if fault.is_served:
        await served_fault.put_in(x, where, disk, fault, on_fault)
        return
    x.faults[disk] = fault
    await faults.add(x, where, name, f"{disk}-file", fault, below_format=True)
    await x.qmp(where, "blockdev-reopen", {"options": [on_fault]})


async def take_out(x: Execution, where: Where, disk: str) -> None:
    """Give the disk its own storage back, if it has another. What of a fault has not been used up yet may hit
    the flush that goes before that, and be used up by it."""
    name = f"{disk}-fault"
    server = x.storage.pop(disk, None)
    # First of all: until then commands may be waiting for requests in flight, and others for them.
    if server is not None:
        await server.heal()
    await breakpoints.let_go(x, where, name)
    fault = x.faults.pop(disk, None)
    if fault is None:
        return
    on_file = _format_node(x, disk, f"{disk}-file")
    if server is not None:
        await served_fault.take_out(x, where, disk, server, on_file)
        return
    back = {"options": [on_file]}
    for _ in range(fault.times):
        try:
            await x.qmp(where, "blockdev-reopen", back)
            break
        except QmpRefused as error:
            if "Error flushing drive" not in error.desc:
                raise
    else:
        await x.qmp(where, "blockdev-reopen", back)
    await faults.remove(x, where, name)


def _format_node(x: Execution, disk: str, storage: str) -> dict[str, Any]:
    """All options, as blockdev-reopen resets those left out."""
    driver = x.disk(disk).format
    return {"driver": driver, "node-name": x.base_node(disk), "file": storage, "discard": "unmap"}
