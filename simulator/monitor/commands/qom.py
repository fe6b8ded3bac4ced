"""The object tree, as far as disks go: their devices and the drive they stand on."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.board import MEMORY_BACKEND, MEMORY_DEFAULTS
from simulator.monitor.commands.objects import check_limits
from simulator.qapi.errors import ArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.guest import GuestDevice
    from simulator.block.throttle_groups import ThrottleGroup
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


def _throttle_group(machine: Machine, path: str) -> ThrottleGroup | None:
    folder, _, identifier = path.rpartition("/")
    group = machine.graph.throttle_groups.get(identifier) if folder == "/objects" else None
    return group if group is machine.objects.get(identifier) else None


def _no_property(type_name: str, name: str) -> QmpError:
    return QmpError(f"Property '{type_name}.{name}' not found")


def _set_on_group(machine: Machine, group: ThrottleGroup, name: str, value: Any) -> None:
    """block/throttle-groups.c:799, 7.2."""
    if name.startswith("x-") and name.removeprefix("x-") in group.limits():
        raise QmpError("Property cannot be set after initialization")
    if name != "limits":
        raise _no_property(group.type_name, name)
    limits = machine.schema.type_at("object-add", "=throttle-group", "limits")
    if limits is None:
        # Before QEMU 6.0 the schema told nothing of objects.
        check_limits(value)
        group.set_limits(value)
        return
    schema = machine.schema.with_struct("ThrottleGroupLimits", [("limits", limits, False)])
    try:
        checked = schema.check_type("ThrottleGroupLimits", {"limits": value})
    except ArgumentError as error:
        raise QmpError(error.desc) from None
    group.set_limits(checked["limits"])


# The properties of the objects that are kept with what they were made of: name -> (QOM's type, value unless
# given).
_CREDENTIALS: dict[str, tuple[str, Any]] = {
    "endpoint": ("QCryptoTLSCredsEndpoint", "client"),
    "dir": ("string", ""),
    "verify-peer": ("bool", True),
    "priority": ("string", ""),
}
_PROPERTIES: dict[str, dict[str, tuple[str, Any]]] = {
    "tls-creds-x509": {
        **_CREDENTIALS,
        "sanity-check": ("bool", True),
        "passwordid": ("string", ""),
        "loaded": ("bool", True),
    },
    "tls-creds-psk": {**_CREDENTIALS, "username": ("string", ""), "loaded": ("bool", True)},
    "tls-creds-anon": {**_CREDENTIALS, "loaded": ("bool", True)},
    "authz-simple": {"identity": ("string", "")},
    "authz-list": {"policy": ("QAuthZListPolicy", "deny"), "rules": ("QAuthZListRule", [])},
    MEMORY_BACKEND: {"size": ("int", 0), **{name: ("", value) for name, value in MEMORY_DEFAULTS.items()}},
    "secret": {
        "iv": ("string", ""),
        "keyid": ("string", ""),
        "loaded": ("bool", True),
        "format": ("QCryptoSecretFormat", "raw"),
        "file": ("string", ""),
        "data": ("string", ""),
    },
}


def _object(machine: Machine, path: str) -> Any:
    """One of object-add that is in the table above, or None."""
    folder, _, identifier = path.rpartition("/")
    found = machine.objects.get(identifier) if folder == "/objects" else None
    return found if found is not None and found.type_name in _PROPERTIES else None


def _properties(machine: Machine, found: Any) -> dict[str, tuple[str, Any]]:
    """Those of the table that the version's object has."""
    recorded = machine.version.recorded(machine.binary, "objects")["object"][found.type_name]["return"]
    names = {entry["name"] for entry in recorded}
    return {name: known for name, known in _PROPERTIES[found.type_name].items() if name in names}


def _property_of(machine: Machine, found: Any, name: str) -> Any:
    if name == "type":
        return found.type_name
    known = _properties(machine, found)
    if name not in known:
        raise _no_property(found.type_name, name)
    return found.properties.get(name, known[name][1])


def _device_property(machine: Machine, device: GuestDevice, name: str) -> Any:
    """Texts are what the device was given, or empty; what becomes of numbers is not modelled."""
    recorded = machine.version.recorded(machine.binary, "objects")["device"][device.type_name]["return"]
    kinds = [entry["type"] for entry in recorded if entry["name"] == name]
    if not kinds:
        raise _no_property(device.type_name, name)
    if kinds[0] != "str":
        raise QmpError(f"Property '{device.type_name}.{name}' is not simulated")
    return machine.slots.settings.get(device.path, {}).get(name, "")


def _listed(machine: Machine, type_name: str) -> list[dict[str, Any]]:
    """The properties of an object, in the order in which the binary walked them."""
    recorded = machine.version.recorded(machine.binary, "objects")["object"][type_name]["return"]
    return [{"name": entry["name"], "type": entry["type"]} for entry in recorded]


def _parts(machine: Machine, found: Any, identifier: str) -> list[dict[str, Any]]:
    """What else an object of memory has: the region that it is."""
    if found.type_name != MEMORY_BACKEND:
        return []
    types = [entry["name"] for entry in machine.version.recorded(machine.binary, "objects")["types"]]
    region = "memory-region" if "memory-region" in types else "qemu:memory-region"
    return [{"name": f"{identifier}[0]", "type": f"child<{region}>"}]


async def qom_set(machine: Machine, arguments: Arguments) -> Any:
    group = _throttle_group(machine, arguments["path"])
    if group is not None:
        _set_on_group(machine, group, arguments["property"], arguments["value"])
        return {}
    device = _device(machine, arguments["path"])
    name = arguments["property"]
    if name != "drive":
        raise _no_property(device.type_name, name)
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
    name = arguments["property"]
    group = _throttle_group(machine, arguments["path"])
    if group is not None:
        limits = group.limits()
        if name == "limits":
            return limits
        if not name.startswith("x-") or name.removeprefix("x-") not in limits:
            raise _no_property(group.type_name, name)
        return limits[name.removeprefix("x-")]
    found = _object(machine, arguments["path"])
    if found is not None:
        return _property_of(machine, found, name)
    if (arguments["path"], name) == ("/machine", "type"):
        return machine.machine_properties(machine.slots.board)[0]
    device = _device(machine, arguments["path"])
    if name == "drive":
        return device.drive_name
    if name == "type":
        return device.type_name
    return _device_property(machine, device, name)


async def qom_list(machine: Machine, arguments: Arguments) -> Any:
    path = arguments["path"]
    if path == "/machine/peripheral":
        named = [device for device in machine.devices.by_path.values() if device.device_id]
        children = [{"name": device.device_id, "type": f"child<{device.type_name}>"} for device in named]
        return [{"name": "type", "type": "string"}, *children]
    if path == "/objects":
        children = [
            {"name": name, "type": f"child<{found.type_name}>"}
            for name, found in machine.objects.in_qom_order()
        ]
        return [{"name": "type", "type": "string"}, *children]
    found = _object(machine, path)
    if found is not None:
        return _listed(machine, found.type_name) + _parts(machine, found, path.rpartition("/")[2])
    _device(machine, path)
    return [{"name": "type", "type": "string"}, {"name": "drive", "type": "str"}]


COMMANDS = {"qom-set": qom_set, "qom-get": qom_get, "qom-list": qom_list}
