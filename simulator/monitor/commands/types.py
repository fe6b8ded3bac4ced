"""Types of objects and their properties, as they were recorded from the binary (qom/qom-qmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_INTERFACE = "interface"


def _ancestors(parents: dict[str, str | None], name: str) -> list[str]:
    """The type itself first."""
    found = [name]
    while (parent := parents.get(found[-1])) is not None:
        found.append(parent)
    return found


async def qom_list_types(machine: Machine, arguments: Arguments) -> Any:
    recorded = machine.version.recorded(machine.binary, "objects")["types"]
    types = [entry for entry in recorded if arguments.get("abstract") or not entry.get("abstract")]
    wanted = arguments.get("implements")
    if wanted is None:
        return types
    parents = {entry["name"]: entry.get("parent") for entry in recorded}
    if _INTERFACE in _ancestors(parents, wanted):
        having = machine.version.recorded(machine.binary, "interfaces").get(wanted, [])
        by_name = {entry["name"]: entry for entry in types}
        return [by_name[name] for name in having if name in by_name]
    return [entry for entry in types if wanted in _ancestors(parents, entry["name"])]


def _recorded(machine: Machine, kind: str, type_name: str, word: str) -> Any:
    found = machine.version.recorded(machine.binary, "objects")[kind].get(type_name)
    if found is None:
        raise QmpError(f"{word} '{type_name}' not found", "DeviceNotFound")
    if "error" in found:
        raise QmpError(found["error"]["desc"], found["error"]["class"])
    return found["return"]


async def qom_list_properties(machine: Machine, arguments: Arguments) -> Any:
    return _recorded(machine, "object", arguments["typename"], "Class")


async def device_list_properties(machine: Machine, arguments: Arguments) -> Any:
    return _recorded(machine, "device", arguments["typename"], "Device")


COMMANDS = {
    "qom-list-types": qom_list_types,
    "qom-list-properties": qom_list_properties,
    "device-list-properties": device_list_properties,
}
