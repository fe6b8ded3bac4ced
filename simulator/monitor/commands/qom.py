"""The object tree, as far as disks go: their devices and the drive they stand on."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.guest import GuestDevice
    from simulator.machine import Machine

    Arguments = dict[str, Any]


def _device(machine: Machine, path: str) -> GuestDevice:
    device = machine.devices.find(path)
    if device is None or not path.startswith("/"):
        raise QmpError(f"Device '{path}' not found", "DeviceNotFound")
    return device


def _backend_type(device: GuestDevice) -> str:
    """The device on its own bus that a virtio-*-pci device has its properties from."""
    return device.type_name.replace("-pci", "-device")


async def qom_set(machine: Machine, arguments: Arguments) -> Any:
    device = _device(machine, arguments["path"])
    name = arguments["property"]
    if name != "drive":
        raise QmpError(f"Property '{device.type_name}.{name}' not found")
    if not machine.version.block.drive_moves:
        raise QmpError(
            f"Attempt to set property 'drive' on anonymous device (type '{_backend_type(device)}') "
            "after it was realized"
        )
    value = arguments["value"]
    if not isinstance(value, str):
        raise QmpError("Invalid parameter type for 'drive', expected: string")
    await machine.devices.set_drive(device, value)
    return {}


async def qom_get(machine: Machine, arguments: Arguments) -> Any:
    device = _device(machine, arguments["path"])
    name = arguments["property"]
    if name == "drive":
        return device.drive_name
    if name == "type":
        return device.type_name
    raise QmpError(f"Property '{device.type_name}.{name}' not found")


async def qom_list(machine: Machine, arguments: Arguments) -> Any:
    path = arguments["path"]
    if path == "/machine/peripheral":
        named = [device for device in machine.devices.by_path.values() if device.device_id]
        children = [{"name": device.device_id, "type": f"child<{device.type_name}>"} for device in named]
        return [{"name": "type", "type": "string"}, *children]
    _device(machine, path)
    return [{"name": "type", "type": "string"}, {"name": "drive", "type": "str"}]


COMMANDS = {"qom-set": qom_set, "qom-get": qom_get, "qom-list": qom_list}
