"""object-add and object-del of what the block layer uses (qom/object_interfaces.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.graph import well_formed_id
from simulator.block.throttle_groups import LIMITS, ThrottleGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


_FIRST_THREAD = 2  # of the host's numbers; the first is the main loop's


class PlainObject:
    """An object that is only named by others: an iothread, a secret."""

    __slots__ = ("properties", "type_name")

    def __init__(self, type_name: str, properties: dict[str, Any]) -> None:
        self.type_name = type_name
        self.properties = properties


async def object_add(machine: Machine, arguments: Arguments) -> Any:
    is_checked = "object-add" not in machine.schema.unchecked
    if not is_checked:
        _check_by_properties(machine, arguments)
    properties = dict(arguments)
    type_name, identifier = properties.pop("qom-type"), properties.pop("id")
    if is_checked and not well_formed_id(identifier):
        raise QmpError("Parameter 'id' expects an identifier")
    made: ThrottleGroup | PlainObject
    if type_name == ThrottleGroup.type_name:
        made = ThrottleGroup(machine.scheduler, identifier, properties)
    else:
        made = PlainObject(type_name, properties)
    if identifier in machine.objects:
        raise QmpError(f"attempt to add duplicate property '{identifier}' to object (type 'container')")
    machine.objects[identifier] = made
    if isinstance(made, ThrottleGroup):
        machine.graph.throttle_groups[identifier] = made
    return {}


def _check_by_properties(machine: Machine, arguments: Arguments) -> None:
    """Where no schema tells what a type takes, its properties do (user_creatable_add_type,
    qom/object_interfaces.c:36, 5.2). Raises QmpError."""
    for member in ("qom-type", "id"):
        if member not in arguments:
            raise QmpError(f"Parameter '{member}' is missing")
    type_name = arguments["qom-type"]
    known = machine.version.recorded(machine.binary, "objects")["object"].get(type_name, {}).get("return")
    if known is None:
        raise QmpError(f"invalid object type: {type_name}")
    names = {entry["name"] for entry in known}
    for name in arguments:
        if name not in names and name not in ("qom-type", "id"):
            raise QmpError(f"Property '{type_name}.{name}' not found")
    check_limits(arguments.get("limits", {}))


def check_limits(limits: dict[str, Any]) -> None:
    """Raises QmpError for one that no throttle group has."""
    for name in limits:
        if name not in LIMITS:
            raise QmpError(f"Parameter 'limits.{name}' is unexpected")


async def object_del(machine: Machine, arguments: Arguments) -> Any:
    identifier = arguments["id"]
    found = machine.objects.get(identifier)
    if found is None:
        raise QmpError(f"object '{identifier}' not found")
    if isinstance(found, ThrottleGroup):
        if found.members:
            raise QmpError(f"object '{identifier}' is in use, can not be deleted")
        del machine.graph.throttle_groups[identifier]
    del machine.objects[identifier]
    return {}


async def query_iothreads(machine: Machine, arguments: Arguments) -> Any:
    """What the version's threads are like unless told otherwise, and what was told of each."""
    settings = machine.version.queries.iothread_settings
    threads: list[dict[str, Any]] = []
    for identifier, item in machine.objects.items():
        if item.type_name == "iothread":
            told = {name: item.properties.get(name, value) for name, value in settings.items()}
            threads.append({"id": identifier, "thread-id": _FIRST_THREAD + len(threads), **told})
    return threads


COMMANDS = {"object-add": object_add, "object-del": object_del, "query-iothreads": query_iothreads}
