"""Devices that come and go while the machine runs (softmmu/qdev-monitor.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def device_add(machine: Machine, arguments: Arguments) -> Any:
    return await add(machine, arguments, machine.version.qmp.device_values_are_typed)


async def add(machine: Machine, arguments: Arguments, is_typed: bool) -> Any:
    """`is_typed`: values are not option text. Raises QmpError."""
    graph, devices = machine.graph, machine.devices
    inserted, made = devices.backends_inserted, devices.made
    try:
        await machine.slots.plug(arguments, is_hot=True, is_typed=is_typed)
    except QmpError:
        if devices.backends_inserted > inserted:
            await graph.changing()
            # As in BlockBackend.remove, and where it had been made it was reset, and is again when it goes.
            await _drain(machine, arguments["drive"], 4 if devices.made > made else 2)
            await graph.changing()
        raise
    if devices.backends_inserted > inserted:
        # A backend of the device's own is put on the node; a drive is there already.
        await graph.changing()
    if devices.made > made and arguments.get("drive"):
        # It is reset, for which its backend is drained (virtio_blk_reset, scsi_device_purge_requests).
        await _drain(machine, arguments["drive"], 1)
    return {}


async def _drain(machine: Machine, drive: str, times: int) -> None:
    backend = machine.graph.backends.get(drive)
    node = backend.node if backend is not None else machine.graph.nodes[drive]
    if node is None:
        return
    for _ in range(times):
        async with machine.graph.drained(node):
            pass


async def device_del(machine: Machine, arguments: Arguments) -> Any:
    await machine.slots.unplug(arguments["id"])
    return {}


async def system_reset(machine: Machine, arguments: Arguments) -> Any:
    if machine.actions["reboot"] == "shutdown":
        await machine.shut_down_as_told("host-qmp-system-reset")
        return {}

    def reset() -> None:
        if machine.run_state not in ("running", "inmigrate", "finish-migrate"):
            # Whatever it waited for before, it is as if just made (main_loop_should_exit).
            machine.run_state = "prelaunch"
        machine.outbox.emit("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        machine.slots.after_reset()

    machine.in_main_loop(reset)
    return {}


COMMANDS = {"device_add": device_add, "device_del": device_del, "system_reset": system_reset}
