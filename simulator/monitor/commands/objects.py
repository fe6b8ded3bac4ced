"""object-add and object-del of what the block layer uses (qom/object_interfaces.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.graph import well_formed_id
from simulator.block.iothreads import IoThread
from simulator.block.throttle_groups import ThrottleGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


class PlainObject:
    """An object that is only named by others: a secret."""

    __slots__ = ("properties", "type_name")

    def __init__(self, type_name: str, properties: dict[str, Any]) -> None:
        self.type_name = type_name
        self.properties = properties


async def object_add(machine: Machine, arguments: Arguments) -> Any:
    properties = dict(arguments)
    type_name, identifier = properties.pop("qom-type"), properties.pop("id")
    if not well_formed_id(identifier):
        raise QmpError("Parameter 'id' expects an identifier")
    made: ThrottleGroup | IoThread | PlainObject
    if type_name == ThrottleGroup.type_name:
        made = ThrottleGroup(machine.scheduler, identifier, properties)
    elif type_name == IoThread.type_name:
        machine.threads_made += 1
        made = IoThread(identifier, properties, machine.threads_made)
    else:
        made = PlainObject(type_name, properties)
    if identifier in machine.objects:
        raise QmpError(f"attempt to add duplicate property '{identifier}' to object (type 'container')")
    if isinstance(made, ThrottleGroup) and identifier in machine.graph.throttle_groups:
        raise QmpError("A group with this name already exists")
    machine.objects[identifier] = made
    if isinstance(made, ThrottleGroup):
        machine.graph.throttle_groups[identifier] = made
    return {}


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


COMMANDS = {"object-add": object_add, "object-del": object_del}
