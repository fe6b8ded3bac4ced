"""Commands about a migration. Guests go from one simulator to another, over sockets or by commands.

Source: qmp_migrate and its like, migration/migration.c, 7.2.
"""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.commands.descriptors import take_named
from simulator.monitor.commands.refusing import refuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.arriving import Arrival

    Arguments = dict[str, Any]

_WAYS = ("unix", "tcp", "exec")
_PROTOCOLS = ("unix", "tcp", "vsock", "rdma", "exec", "fd", "file")
_NO_WAY = "The simulator sends and takes guests by unix:, tcp: and exec: only, not over '{uri}'"
_AGAIN = "Can't migrate the vm that was paused due to previous migration"


async def migrate(machine: Machine, arguments: Arguments) -> Any:
    migration = machine.migration
    rules = machine.version.migration
    uri = _uri(arguments)
    if len([each for each in arguments.get("channels", []) if each["channel-type"] == "main"]) > 1:
        raise QmpError("Channel list has more than one main entry")
    if rules.checks_address_first:
        _check_address(uri)
    if arguments.get("resume"):
        raise QmpError("Cannot resume if there is no paused migration")
    if machine.run_state == "inmigrate":
        raise QmpError("Guest is waiting for an incoming migration")
    if machine.run_state == "postmigrate" and rules.refuses_again:
        raise QmpError(_AGAIN)
    migration.check_at_rest()
    migration.error, migration.departure = "", None
    migration.go_to("setup")
    try:
        _check_address(uri)
        later = _open_way_out(machine, uri)
    except QmpError as error:
        if error.desc.startswith("unknown migration protocol"):
            migration.fail()
            raise QmpError("Parameter 'uri' expects a valid migration protocol") from None
        migration.fail(error.desc)
        raise
    # Connecting goes on beside the command.
    if migration.departure is not None:
        machine.spawn(migration.departure.go(), "a guest that leaves")
    else:
        machine.spawn(_fail_later(machine, later), "a migration that cannot begin")
    return {}


async def _fail_later(machine: Machine, error: str) -> None:
    machine.warn(f"qemu-system-x86_64: {error}")
    machine.migration.fail(error)


def _open_way_out(machine: Machine, uri: str) -> str:
    """What is found out about an address after the command has returned. Raises QmpError for what it waits
    for."""
    protocol, _, place = uri.partition(":")
    if protocol == "fd":
        machine.host.close_descriptor(take_named(machine, place))
    elif protocol in _WAYS:
        from simulator.monitor.departing import Departure

        try:
            machine.migration.departure = Departure(machine, _address(protocol, place))
        except QmpError as error:
            return error.desc
    return _NO_WAY.format(uri=uri)


def _address(protocol: str, place: str) -> dict[str, Any]:
    """A SocketAddress, or what there is instead: `type` exec, and a `command`."""
    if protocol == "exec":
        return {"type": "exec", "command": place}
    if protocol == "unix":
        return {"type": "unix", "path": place}
    host, _, port = place.rpartition(":")
    return {"type": "inet", "host": host, "port": port}


async def migrate_incoming(machine: Machine, arguments: Arguments) -> Any:
    if machine.run_state != "inmigrate":
        raise QmpError("'-incoming' was not specified on the command line")
    uri = _uri(arguments)
    if len(arguments.get("channels", [])) > 1:
        raise QmpError("Channel list must have only one entry, for type 'main'")
    if machine.migration.arrival is not None:
        raise QmpError("The incoming migration has already been started")
    wait_for_guest(machine, uri)
    return {}


def wait_for_guest(machine: Machine, uri: str) -> None:
    """qemu_start_incoming_migration. Raises QmpError."""
    tells_early = not machine.version.migration.checks_address_first
    if tells_early:
        machine.outbox.emit("MIGRATION", {"status": "setup"})
    _check_address(uri)
    protocol, _, place = uri.partition(":")
    if protocol == "fd":
        machine.host.close_descriptor(take_named(machine, place))
    if protocol not in _WAYS:
        raise QmpError(_NO_WAY.format(uri=uri))
    from simulator.monitor.arriving import Arrival

    machine.migration.arrival = Arrival(machine, _address(protocol, place))
    if not tells_early:
        machine.migration.tell("setup")


def _uri(arguments: Arguments) -> str:
    """Also of a channel, in the older spelling (migrate_uri_parse reversed). Raises QmpError."""
    uri: str | None = arguments.get("uri")
    channels = arguments.get("channels", [])
    if (uri is None) == (not channels):
        raise QmpError("need either 'uri' or 'channels' argument")
    return uri if uri is not None else _uri_of(channels[0]["addr"])


def _uri_of(address: dict[str, Any]) -> str:
    """Of a MigrationAddress. Raises QmpError."""
    transport, kind = address["transport"], address.get("type")
    if transport == "socket" and kind == "unix":
        return f"unix:{address['path']}"
    if transport == "socket" and kind == "inet":
        return f"tcp:{address['host']}:{address['port']}"
    if transport == "exec":
        from shlex import join

        return f"exec:{join(address['args'])}"
    raise QmpError(_NO_WAY.format(uri=f"a channel of transport {transport}"))


def _check_address(uri: str) -> None:
    """Raises QmpError for what is no address."""
    protocol, colon, place = uri.partition(":")
    if not colon or protocol not in _PROTOCOLS:
        raise QmpError(f"unknown migration protocol: {uri}")
    if protocol == "unix" and not place:
        raise QmpError("invalid Unix socket address")
    if protocol == "tcp" and ":" not in place:
        raise QmpError(f"error parsing address '{place}'")


async def query_migrate(machine: Machine, arguments: Arguments) -> Any:
    migration = machine.migration
    told: dict[str, Any] = {}
    if migration.arrival is not None:
        told |= _of_arrival(machine, migration.arrival)
    if migration.status != "none":
        told["status"] = migration.status
        if migration.departure is not None and migration.status != "failed":
            told |= migration.departure.times()
    if migration.error:
        told["error-desc"] = migration.error
    return told


def _of_arrival(machine: Machine, arrival: Arrival) -> dict[str, Any]:
    """fill_destination_migration_info."""
    is_shown = arrival.is_at_socket and arrival.status != "completed"
    told: dict[str, Any] = {"socket-address": [arrival.address]} if is_shown else {}
    if arrival.status != "setup" or machine.version.migration.tells_incoming_setup:
        told["status"] = arrival.status
    return told


async def set_capabilities(machine: Machine, arguments: Arguments) -> Any:
    machine.migration.set_capabilities(arguments["capabilities"])
    return {}


async def query_capabilities(machine: Machine, arguments: Arguments) -> Any:
    return [{"capability": name, "state": state} for name, state in machine.migration.capabilities.items()]


async def set_parameters(machine: Machine, arguments: Arguments) -> Any:
    machine.migration.set_parameters(arguments)
    return {}


async def query_parameters(machine: Machine, arguments: Arguments) -> Any:
    return dict(machine.migration.parameters)


async def migrate_cancel(machine: Machine, arguments: Arguments) -> Any:
    migration = machine.migration
    if migration.departure is not None and migration.status in ("setup", "active", "device"):
        migration.departure.cancel()
    return {}


async def migrate_continue(machine: Machine, arguments: Arguments) -> Any:
    if arguments["state"] != machine.migration.status:
        raise QmpError(f"Migration not in expected state: {machine.migration.status}")
    return {}


async def start_postcopy(machine: Machine, arguments: Arguments) -> Any:
    capabilities = machine.migration.capabilities
    if not capabilities["postcopy-ram"] and not capabilities["dirty-bitmaps"]:
        raise QmpError("Enable postcopy with migrate_set_capability before the start of migration")
    if machine.migration.status == "none":
        raise QmpError("Postcopy must be started after migration has been started")
    if machine.migration.departure is not None:
        machine.migration.departure.wants_postcopy = True
        machine.migration.departure.wake()
    return {}


COMMANDS = {
    "migrate": migrate,
    "migrate-continue": migrate_continue,
    "migrate-incoming": migrate_incoming,
    "migrate-pause": refuses("migrate-pause is currently only supported during postcopy-active state"),
    "migrate-recover": refuses("Migrate recover can only be run when postcopy is paused."),
    "migrate-set-capabilities": set_capabilities,
    "migrate-set-parameters": set_parameters,
    "migrate-start-postcopy": start_postcopy,
    "migrate_cancel": migrate_cancel,
    "query-migrate": query_migrate,
    "query-migrate-capabilities": query_capabilities,
    "query-migrate-parameters": query_parameters,
}
