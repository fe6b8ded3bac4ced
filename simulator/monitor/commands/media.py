"""Media of drives with a tray, and of drives without a device (block/qapi-sysemu.c, 7.2)."""

from __future__ import annotations

from simulator.block.drive import node_options
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.block.guest import GuestDevice
    from simulator.machine import Machine

    Arguments = dict[str, Any]


class Bay:
    """A drive and the device on it, if there is one. `name` is what the command called it."""

    def __init__(self, machine: Machine, arguments: Arguments) -> None:
        """Raises QmpError."""
        if ("device" in arguments) == ("id" in arguments):
            raise QmpError("Need exactly one of 'device' and 'id'")
        self.machine = machine
        self.device: GuestDevice | None = None
        if "id" in arguments:
            self.name = str(arguments["id"])
            self.backend = self._by_device()
        else:
            self.name = str(arguments["device"])
            self.backend = self._by_drive()

    def _by_device(self) -> BlockBackend:
        self.device = self.machine.slots.disk_of(self.name)
        return self.device.backend

    def _by_drive(self) -> BlockBackend:
        backend = self.machine.graph.backends.get(self.name)
        if backend is None:
            raise QmpError(f"Device '{self.name}' not found", "DeviceNotFound")
        devices = self.machine.devices.by_path.values()
        self.device = next((each for each in devices if each.backend is backend), None)
        return backend

    @property
    def is_fixed(self) -> bool:
        return self.device is not None and self.device.tray_open is None

    def need_removable(self) -> None:
        """Raises QmpError."""
        if self.is_fixed:
            raise QmpError(f"Device '{self.name}' is not removable")

    def move_tray(self, is_open: bool) -> None:
        """Does nothing to a drive without a device, which has no tray, or where the tray is so already."""
        if self.device is None or self.device.tray_open == is_open:
            return
        self.device.tray_open = is_open
        told = {"device": self.backend.name, "tray-open": is_open, "id": self.backend.device_id}
        self.machine.outbox.emit("DEVICE_TRAY_MOVED", told)

    async def remove_medium(self) -> None:
        self.need_removable()
        if self.device is not None and not self.device.tray_open:
            raise QmpError(f"Tray of device '{self.name}' is not open")
        node = self.backend.node
        if node is None:
            return
        self.machine.graph.check_operation(node, "eject")
        self.backend.opens_read_only = node.read_only
        await self.backend.remove()


async def open_tray(machine: Machine, arguments: Arguments) -> Any:
    bay = Bay(machine, arguments)
    bay.need_removable()
    bay.move_tray(True)
    return {}


async def close_tray(machine: Machine, arguments: Arguments) -> Any:
    bay = Bay(machine, arguments)
    bay.need_removable()
    bay.move_tray(False)
    return {}


async def remove_medium(machine: Machine, arguments: Arguments) -> Any:
    await Bay(machine, arguments).remove_medium()
    return {}


async def eject(machine: Machine, arguments: Arguments) -> Any:
    bay = Bay(machine, arguments)
    bay.need_removable()
    bay.move_tray(True)
    await bay.remove_medium()
    return {}


async def insert_medium(machine: Machine, arguments: Arguments) -> Any:
    bay = Bay(machine, arguments)
    name = arguments["node-name"]
    node = machine.graph.nodes.get(name)
    if node is None:
        raise QmpError(f"Node '{name}' not found")
    if any(device.backend.node is node for device in machine.devices.by_path.values()) or any(
        backend.node is node for backend in machine.graph.backends.values()
    ):
        raise QmpError(f"Node '{name}' is already in use")
    if bay.is_fixed:
        raise QmpError("Device is not removable")
    if bay.device is not None and not bay.device.tray_open:
        raise QmpError("Tray of the device is not open")
    if bay.backend.node is not None:
        raise QmpError("There already is a medium in the device")
    await machine.graph.changing()
    bay.backend.insert(node)
    return {}


async def change_medium(machine: Machine, arguments: Arguments) -> Any:
    """The new image is opened before anything else is looked at."""
    bay = Bay(machine, arguments)
    mode = arguments.get("read-only-mode", "retain")
    node = bay.backend.node
    retained = node.read_only if node is not None else bay.backend.opens_read_only
    given = {"file": arguments["filename"]}
    if "format" in arguments:
        given["format"] = arguments["format"]
    if mode == "read-only" or (mode == "retain" and retained):
        given["read-only"] = "on"
    options = node_options(machine.graph, machine.schema, given)
    assert options is not None
    options.pop("auto-read-only", None)
    medium = await machine.graph.open(options)
    try:
        bay.need_removable()
        bay.move_tray(True)
        await bay.remove_medium()
        await machine.graph.changing()
        bay.backend.insert(medium)
    except QmpError:
        await machine.graph.release(medium)
        raise
    bay.move_tray(False)
    return {}


COMMANDS = {
    "blockdev-open-tray": open_tray,
    "blockdev-close-tray": close_tray,
    "blockdev-remove-medium": remove_medium,
    "blockdev-insert-medium": insert_medium,
    "blockdev-change-medium": change_medium,
    "eject": eject,
}
