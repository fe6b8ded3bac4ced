"""Paths in the object tree: whole ones, and ends of one that nothing else ends in (object_resolve_path_type,
qom/object.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.machine import Machine

OBJECTS = "/objects"
CHARDEVS = "/chardevs"
PERIPHERAL = "/machine/peripheral"
# Folders that hold children and have no properties but their type.
CONTAINERS = ("/", OBJECTS, CHARDEVS, PERIPHERAL, "/machine/peripheral-anon")


def not_found(path: str) -> QmpError:
    return QmpError(f"Device '{path}' not found", "DeviceNotFound")


def resolve(machine: Machine, path: str, tells_of_several: bool = False) -> str:
    """The whole path; whether something is there is not looked at. Raises QmpError for the end of a path that
    several have, or none; only qom-list tells these two apart."""
    parts = _parts(path)
    if path.startswith("/"):
        return "/" + "/".join(parts)
    found = [each for each in _places(machine) if not parts or _parts(each)[-len(parts) :] == parts]
    if tells_of_several and len(found) > 1:
        raise QmpError(f"Path '{path}' is ambiguous")
    if len(found) != 1:
        raise not_found(path)
    return found[0]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _places(machine: Machine) -> list[str]:
    places = [*CONTAINERS, "/machine", *(f"{OBJECTS}/{name}" for name in machine.objects)]
    places += [f"{CHARDEVS}/{name}" for name in machine.chardevs]
    places += [f"{PERIPHERAL}/{name}" for name in machine.devices.named]
    disks = machine.devices.by_path.values()
    return places + [disk.backend_path for disk in disks if disk.backend_path != disk.path]
