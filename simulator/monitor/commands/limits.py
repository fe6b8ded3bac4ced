"""Limits that are set from outside, and told when they are passed (block/qapi-sysemu.c,
block/write-threshold.c, 7.2)."""

from __future__ import annotations

from simulator.block import backend_limits
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def block_set_write_threshold(machine: Machine, arguments: Arguments) -> Any:
    node = machine.graph.nodes.get(arguments["node-name"])
    if node is None:
        raise QmpError(f"Device '{arguments['node-name']}' not found")
    node.write_threshold = arguments["write-threshold"]
    return {}


def _backend(machine: Machine, arguments: Arguments) -> BlockBackend:
    """qmp_get_blk. Raises QmpError."""
    if ("id" in arguments) == ("device" in arguments):
        raise QmpError("Need exactly one of 'device' and 'id'")
    if "id" in arguments:
        return machine.slots.disk_of(arguments["id"]).backend
    backend = machine.graph.backends.get(arguments["device"])
    if backend is None:
        raise QmpError(f"Device '{arguments['device']}' not found", "DeviceNotFound")
    return backend


async def block_set_io_throttle(machine: Machine, arguments: Arguments) -> Any:
    backend = _backend(machine, arguments)
    if backend.node is None:
        raise QmpError("Device has no medium")
    named_by: str = arguments["id" if "id" in arguments else "device"]
    await backend_limits.set_limits(backend, arguments, named_by)
    return {}


COMMANDS = {
    "block-set-write-threshold": block_set_write_threshold,
    "block_set_io_throttle": block_set_io_throttle,
}
