"""`fault`: something around the machine goes wrong, or is well again."""

from __future__ import annotations

from typing import Any

from scenarios.backends.interface import QmpRefused
from scenarios.language.steps import Fault
from scenarios.run import breakpoints, faults
from scenarios.run.execution import Execution, Where


async def run(x: Execution, fault: Fault, where: Where) -> None:
    if fault.wait is not None:
        await breakpoints.wait(x, fault.wait)
    elif fault.resume is not None:
        await breakpoints.resume(x, where, fault.resume)
    elif fault.disk is not None:
        await take_out(x, where, fault.disk)
        if not fault.mend:
            await _put_in(x, where, fault.disk, fault)
    elif fault.stop is not None:
        await x.session.pause(fault.stop)
    else:
        await x.session.change_monitor()


async def _put_in(x: Execution, where: Where, disk: str, fault: Fault) -> None:
    """Below the disk's format node."""
    node = f"{disk}-fault"
    x.faults[disk] = fault
    await faults.add(x, where, node, f"{disk}-file", fault, below_format=True)
    await x.qmp(where, "blockdev-reopen", {"options": [_format_node(x, disk, node)]})


async def take_out(x: Execution, where: Where, disk: str) -> None:
    """Give the disk its own storage back, if it has another. What of a fault has not been used up yet may hit
    the flush that goes before that, and be used up by it."""
    fault = x.faults.pop(disk, None)
    if fault is None:
        return
    node = f"{disk}-fault"
    await breakpoints.let_go(x, where, node)
    back = {"options": [_format_node(x, disk, f"{disk}-file")]}
    for _ in range(fault.times):
        try:
            await x.qmp(where, "blockdev-reopen", back)
            break
        except QmpRefused as error:
            if "Error flushing drive" not in error.desc:
                raise
    else:
        await x.qmp(where, "blockdev-reopen", back)
    await faults.remove(x, where, node)


def _format_node(x: Execution, disk: str, storage: str) -> dict[str, Any]:
    """All options, as blockdev-reopen resets those left out."""
    driver = x.disk(disk).format
    return {"driver": driver, "node-name": x.base_node(disk), "file": storage, "discard": "unmap"}
