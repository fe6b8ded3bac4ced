"""The object tree, as far as disks go: their devices and the drive they stand on."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.iothreads import IoThread
from simulator.block.secrets import Secret
from simulator.monitor import device_values, object_values, qom_paths, told_objects
from simulator.monitor.board import MEMORY_BACKEND, MEMORY_DEFAULTS
from simulator.qapi.errors import ArgumentError
from simulator.qapi.glib_table import ChildTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.guest import GuestDevice
    from simulator.block.throttle_groups import ThrottleGroup
    from simulator.machine import Machine
    from simulator.monitor.told_objects import Told

    Arguments = dict[str, Any]

_TYPE = {"name": "type", "type": "string"}
_READ_ONLY = ("type", "hotplugged", "hotpluggable")
_OF_SECRET = ("data", "file", "format", "iv", "keyid")


def _device(machine: Machine, path: str, given: str) -> GuestDevice:
    """`given` is what the path was resolved from."""
    device = machine.devices.find(path)
    if device is None:
        raise qom_paths.not_found(given)
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
        try:
            group.set_limits(object_values.limits(name, value, object_values.from_json))
        except ArgumentError as error:
            raise QmpError(error.desc) from None
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
    """One of object-add, or None."""
    folder, _, identifier = path.rpartition("/")
    return machine.objects.get(identifier) if folder == qom_paths.OBJECTS else None


def _properties(machine: Machine, found: Any) -> dict[str, tuple[str, Any]]:
    """Those of the table that the version's object has."""
    names = {entry["name"] for entry in _listed(machine, found.type_name)}
    return {name: known for name, known in _PROPERTIES.get(found.type_name, {}).items() if name in names}


def _property_of(machine: Machine, found: Any, name: str) -> Any:
    if name == "type":
        return found.type_name
    if isinstance(found, IoThread) and name in found.properties:
        return found.properties[name]
    if name in found.properties and any(name == entry["name"] for entry in _listed(machine, found.type_name)):
        return found.properties[name]
    known = _properties(machine, found)
    if name not in known:
        raise _no_property(found.type_name, name)
    return known[name][1]


def _device_property(machine: Machine, device: GuestDevice, name: str) -> Any:
    """What the device was given, or the default, empty for texts; numbers that realizing it finds out are not
    all modelled."""
    if name == "realized":
        return True
    recorded = machine.version.recorded(machine.binary, "objects")["device"][device.type_name]["return"]
    entries = [entry for entry in recorded if entry["name"] == name]
    if not entries:
        raise _no_property(device.type_name, name)
    given = machine.slots.settings.get(device.path, {})
    kind, default = entries[0]["type"], entries[0].get("default-value")
    if kind == "str":
        return given.get(name, "")
    if kind in ("BlockdevOnError", "OnOffAuto") or (kind == "bool" and default is not None):
        return given.get(name, default)
    if name in device_values.FOUND:
        return given.get(name) or device_values.FOUND[name]
    is_number = kind.startswith(("int", "uint", "size"))
    if is_number and (name in given or name not in device_values.FOUND_OTHERWISE):
        return given.get(name, -1 if default is None else default)
    raise QmpError(f"Property '{device.type_name}.{name}' is not simulated")


def _check_settable(machine: Machine, device: GuestDevice, name: str) -> None:
    """Properties of a device stay what they are once it is there (qdev_prop_allow_set,
    hw/core/qdev-properties.c, 7.2), and some nobody may set at all. Raises QmpError."""
    if name in _READ_ONLY:
        raise QmpError(f"Property '{device.type_name}.{name}' is not writable")
    known = machine.device_properties(device.type_name) or []
    if name not in known:
        raise _no_property(device.type_name, name)
    backend_type = _backend_type(device)
    if backend_type != device.type_name and name in (machine.device_properties(backend_type) or []):
        which = f"anonymous device (type '{backend_type}')"
    elif device.device_id:
        which = f"device '{device.device_id}' (type '{device.type_name}')"
    else:
        which = f"anonymous device (type '{device.type_name}')"
    raise QmpError(f"Attempt to set property '{name}' on {which} after it was realized")


def _set_boot_index(machine: Machine, device: GuestDevice, value: Any) -> None:
    """Of a device that is there, too (device_set_bootindex, softmmu/bootdevice.c). Raises QmpError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise QmpError("Invalid parameter type for 'bootindex', expected: integer")
    settings = machine.slots.settings
    if value >= 0 and any(each.get("bootindex", -1) == value for each in settings.values()):
        raise QmpError(f"The bootindex {value} has already been used")
    settings[device.path] = {**settings.get(device.path, {}), "bootindex": value}


def _listed(machine: Machine, type_name: str) -> list[dict[str, Any]]:
    """The properties of an object, in the order in which the binary walked them."""
    told = machine.version.recorded(machine.binary, "objects")["object"].get(type_name, {})
    recorded = told.get("return", [_TYPE])
    return [{"name": entry["name"], "type": entry["type"]} for entry in recorded]


def _parts(machine: Machine, found: Any, identifier: str) -> list[dict[str, Any]]:
    """What else an object of memory has: the region that it is."""
    if found.type_name != MEMORY_BACKEND:
        return []
    types = [entry["name"] for entry in machine.version.recorded(machine.binary, "objects")["types"]]
    region = "memory-region" if "memory-region" in types else "qemu:memory-region"
    return [{"name": f"{identifier}[0]", "type": f"child<{region}>"}]


async def qom_set(machine: Machine, arguments: Arguments) -> Any:
    path, name = qom_paths.resolve(machine, arguments["path"]), arguments["property"]
    if path in qom_paths.CONTAINERS:
        problem = "is not writable" if name == "type" else "not found"
        raise QmpError(f"Property 'container.{name}' {problem}")
    group = _throttle_group(machine, path)
    if group is not None:
        _set_on_group(machine, group, name, arguments["value"])
        return {}
    found = _object(machine, path)
    if isinstance(found, IoThread) and name in found.properties:
        found.set(name, arguments["value"])
        return {}
    if isinstance(found, Secret) and name in _OF_SECRET:
        # What it hides stays what it was made of.
        found.properties[name] = arguments["value"]
        return {}
    if found is not None and name not in _properties(machine, found):
        raise _no_property(found.type_name, name)
    device = _device(machine, path, arguments["path"])
    if name == "bootindex":
        _set_boot_index(machine, device, arguments["value"])
        return {}
    if name != "drive":
        _check_settable(machine, device, name)
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
    path, name = qom_paths.resolve(machine, arguments["path"]), arguments["property"]
    if path in qom_paths.CONTAINERS:
        return _of_container(machine, path, name)
    group = _throttle_group(machine, path)
    if group is not None and name != "type":
        limits = group.limits()
        if name == "limits":
            return limits
        if not name.startswith("x-") or name.removeprefix("x-") not in limits:
            raise _no_property(group.type_name, name)
        return limits[name.removeprefix("x-")]
    found = _object(machine, path)
    if found is not None:
        return _property_of(machine, found, name)
    if path == told_objects.MACHINE:
        return told_objects.machine_value(machine, name)
    told = told_objects.at(machine, path)
    if told is None:
        raise qom_paths.not_found(arguments["path"])
    return _told_property(machine, told, name)


def _told_property(machine: Machine, told: Told, name: str) -> Any:
    disk = told.plugged.disk
    if name == "drive" and disk is not None:
        return disk.drive_name
    if name == "type":
        return told.type_name
    if told.is_recorded and not told.has(name):
        raise _no_property(told.type_name, name)
    value = told.value(name)
    if value is not None:
        return value
    if disk is None:
        raise QmpError(f"Property '{told.type_name}.{name}' is not simulated")
    return _device_property(machine, disk, name)


def _children(machine: Machine, path: str) -> list[tuple[str, str]]:
    """(name, type) of what a container holds."""
    if path == "/":
        root = ChildTable()
        for name in machine.version.queries.root_folders:
            root[name] = "container"
            if name == "machine":
                root[name] = machine.machine_properties(machine.slots.board)[0]
        return root.in_qom_order()
    if path == qom_paths.PERIPHERAL:
        return machine.devices.named.in_qom_order()
    if path == qom_paths.OBJECTS:
        return [(name, found.type_name) for name, found in machine.objects.in_qom_order()]
    if path == qom_paths.CHARDEVS:
        return [(name, f"chardev-{each.kind}") for name, each in machine.chardevs.in_qom_order()]
    raise QmpError(f"Listing {path} is not simulated")


def _of_container(machine: Machine, path: str, name: str) -> str:
    """A child as a property is its path."""
    if name == "type":
        return "container"
    if name not in dict(_children(machine, path)):
        raise _no_property("container", name)
    return f"{path.rstrip('/')}/{name}"


async def qom_list(machine: Machine, arguments: Arguments) -> Any:
    path = qom_paths.resolve(machine, arguments["path"], tells_of_several=True)
    if path in qom_paths.CONTAINERS:
        children = _children(machine, path)
        return [_TYPE, *({"name": name, "type": f"child<{kind}>"} for name, kind in children)]
    found = _object(machine, path)
    if found is not None:
        return _listed(machine, found.type_name) + _parts(machine, found, path.rpartition("/")[2])
    if path == told_objects.MACHINE:
        return told_objects.machine_list(machine)
    told = told_objects.at(machine, path)
    if told is None:
        raise qom_paths.not_found(arguments["path"])
    return told.listed() or [_TYPE, {"name": "drive", "type": "str"}]


COMMANDS = {"qom-set": qom_set, "qom-get": qom_get, "qom-list": qom_list}
