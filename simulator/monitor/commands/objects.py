"""object-add and object-del of what the block layer uses (qom/object_interfaces.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.ids import well_formed_id
from simulator.block.iothreads import IoThread
from simulator.block.nbd.tls import Authorization, TlsCredentials
from simulator.block.nbd.tls_credentials import Maker
from simulator.block.opening import ABORTED
from simulator.block.secrets import Secret
from simulator.block.throttle_groups import ThrottleGroup
from simulator.monitor import board, monitor_objects, object_values
from simulator.monitor.board import MEMORY_BACKENDS
from simulator.monitor.plain_object import PlainObject
from simulator.qapi.errors import ArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def object_add(machine: Machine, arguments: Arguments) -> Any:
    is_checked = "object-add" not in machine.schema.unchecked
    if not is_checked:
        try:
            arguments = object_values.read(machine, arguments, object_values.from_json)
        except ArgumentError as error:
            raise QmpError(error.desc, error.error_class) from None
    properties = dict(arguments)
    type_name, identifier = properties.pop("qom-type"), properties.pop("id")
    if is_checked and not well_formed_id(identifier):
        raise QmpError("Parameter 'id' expects an identifier")
    if type_name in monitor_objects.TYPES:
        raise QmpError(f"object-add of {type_name} is not simulated")
    if type_name.startswith(MEMORY_BACKENDS):
        _check_memory(type_name, properties)
    made: Any = None
    if type_name == ThrottleGroup.type_name:
        made = ThrottleGroup(machine.scheduler, identifier, properties)
    elif type_name == IoThread.type_name:
        machine.threads_made += 1
        settings = machine.version.queries.iothread_settings
        made = IoThread(identifier, properties, machine.threads_made, settings)
    if identifier in machine.objects:
        raise QmpError(f"attempt to add duplicate property '{identifier}' to object (type 'container')")
    if isinstance(made, ThrottleGroup) and identifier in machine.graph.throttle_groups:
        raise QmpError("A group with this name already exists")
    machine.objects[identifier] = made or _complete(machine, type_name, properties)
    if isinstance(made, ThrottleGroup):
        machine.graph.throttle_groups[identifier] = made
    return {}


def _check_memory(type_name: str, properties: dict[str, Any]) -> None:
    """backends/hostmem.c, 7.2. Raises QmpError."""
    if "size" not in properties:
        raise QmpError("can't create backend with size 0")
    if not properties["size"]:
        raise QmpError(f"property 'size' of {type_name} doesn't take value '0'")


def _complete(machine: Machine, type_name: str, properties: dict[str, Any]) -> Any:
    """What an object looks at once it has its name. Raises QmpError."""
    if type_name == "secret":
        return Secret(properties, machine.host, machine.objects)
    if type_name in ("authz-simple", "authz-list"):
        return Authorization(type_name, properties)
    if type_name in ("tls-creds-x509", "tls-creds-psk", "tls-creds-anon"):
        credentials = TlsCredentials(type_name, properties)
        now_s = (machine.epoch_ns + machine.scheduler.now_ns) // 1_000_000_000
        must_encipher = machine.version.exports.tls_keys_encipher
        Maker(machine.host, machine.objects, now_s, machine.make_tls, must_encipher).load(credentials)
        return credentials
    known = machine.version.recorded(machine.binary, "objects")["object"]
    if type_name not in known and type_name != board.MEMORY_BACKEND:
        raise QmpError(f"invalid object type: {type_name}")
    if type_name == "secret_keyring":
        # Nobody here has a keyring.
        serial = properties["serial"]
        raise QmpError(f"Unable to read serial key {serial:08x}: Required key not available")
    if type_name == "pr-manager-helper":
        address = {"type": "unix", "path": properties["path"]}
        machine.host.connect(address, lambda payload: None).close()
    if type_name == "input-linux":
        _open(machine, properties["evdev"])
    return PlainObject(type_name, properties)


def _open(machine: Machine, path: str) -> None:
    try:
        machine.host.open(path).close()
    except OSError as error:
        raise QmpError(f"Could not open '{path}': {error.strerror}") from None


async def object_del(machine: Machine, arguments: Arguments) -> Any:
    identifier = arguments["id"]
    found = machine.objects.get(identifier)
    if found is None:
        raise QmpError(f"object '{identifier}' not found")
    monitor_objects.check_deleting(getattr(found, "type_name", ""))
    if identifier == machine.slots.memory_id:
        raise QmpError(f"object '{identifier}' is in use, can not be deleted")
    if isinstance(found, IoThread):
        await _end_thread(machine, found)
    if isinstance(found, ThrottleGroup):
        if found.members:
            raise QmpError(f"object '{identifier}' is in use, can not be deleted")
        del machine.graph.throttle_groups[identifier]
    del machine.objects[identifier]
    return {}


async def _end_thread(machine: Machine, thread: IoThread) -> None:
    """A node that is in it has handlers there, which its context must not have as it goes."""
    if machine.slots.has_thread(thread):
        # A device holds it, whose property it is.
        return
    is_used = any(node.iothread is thread for node in machine.graph.nodes.values())
    if is_used and not machine.version.block.used_threads_go:
        await machine.graph.end_process(ABORTED, "Assertion failed in aio_ctx_finalize")


COMMANDS = {"object-add": object_add, "object-del": object_del}
