"""Exports and the NBD server (block/export/export.c, blockdev-nbd.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.nbd.server import DEFAULT_MAX_CONNECTIONS, NbdServer
from simulator.block.nbd.tls import SERVER, authorizer, find_context
from simulator.monitor.commands.descriptors import take_named
from simulator.wire.nbd.messages import ServerPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.nbd.tls import TlsSession
    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def nbd_server_start(machine: Machine, arguments: Arguments) -> Any:
    """The address comes as QMP's {type, data}; the command line gives it flat."""
    given = arguments["addr"]
    from_monitor = "data" in given
    address = {"type": given["type"], **given["data"]} if from_monitor else dict(given)
    if from_monitor and address["type"] == "fd" and machine.nbd_server is None:
        # It is the name of one that was passed with getfd.
        address["descriptor"] = take_named(machine, address["str"])
    await start_server(machine, address, arguments)
    return {}


async def start_server(machine: Machine, address: dict[str, Any], arguments: Arguments) -> None:
    """`address` is a flat SocketAddress. Raises QmpError."""
    if machine.nbd_server is not None:
        raise QmpError("NBD server already running")
    most = arguments.get("max-connections", DEFAULT_MAX_CONNECTIONS)
    listener = None
    if machine.listen is not None:
        listener = machine.listen(address)
    else:
        machine.host.check_listen(address)
    try:
        new_tls = _tls_maker(machine, address, arguments) if "tls-creds" in arguments else None
    except QmpError:
        if listener is not None:
            listener.close()
        raise
    facts = machine.version.exports
    limit_s = arguments.get("handshake-max-seconds", facts.handshake_limit_s)
    machine.nbd_server = NbdServer(
        machine.exports,
        machine.scheduler,
        address,
        most,
        ServerPolicy(
            handshake_limit_ns=limit_s * 1_000_000_000,
            texts=facts.nbd_texts,
            list_needs_structured=facts.list_needs_structured,
            answers_bad_magic=facts.answers_bad_magic,
            extended_headers=facts.extended_headers,
        ),
        on_closed=lambda: machine.on_listen(None),
        new_tls=new_tls,
    )
    machine.on_listen(listener)


def _tls_maker(machine: Machine, address: dict[str, Any], arguments: Arguments) -> Callable[[], TlsSession]:
    """Raises QmpError. The credentials may be deleted while the server goes on with them."""
    context = find_context(machine.objects, arguments["tls-creds"], SERVER)
    if machine.graph.rules.tls_over_ip_only and address["type"] != "inet":
        raise QmpError("TLS is only supported with IPv4/IPv6")
    authorize = authorizer(machine.objects, arguments["tls-authz"]) if "tls-authz" in arguments else None
    return lambda: context.session("", authorize)


async def nbd_server_stop(machine: Machine, arguments: Arguments) -> Any:
    server = machine.nbd_server
    if server is None:
        raise QmpError("NBD server not running")
    await server.close()
    machine.nbd_server = None
    return {}


async def nbd_server_add(machine: Machine, arguments: Arguments) -> Any:
    device = arguments["device"]
    node = machine.graph.lookup(device, device)
    # This older command exports a read-only node read-only, whatever was asked for.
    writable = arguments.get("writable", False) and not node.read_only
    name = arguments.get("name", device)
    options = {"type": "nbd", "id": name, "node-name": node.node_name, "name": name, "writable": writable}
    if "description" in arguments:
        options["description"] = arguments["description"]
    if "bitmap" in arguments:
        options["bitmaps"] = [arguments["bitmap"]]
    export = await machine.exports.add(options, machine.nbd_server)
    backend = machine.graph.backends.get(device)
    if backend is not None:
        backend.on_eject.append(lambda: machine.exports.request_shutdown(export))
    return {}


async def nbd_server_remove(machine: Machine, arguments: Arguments) -> Any:
    await machine.exports.remove(arguments["name"], arguments.get("mode", "safe"))
    return {}


async def block_export_add(machine: Machine, arguments: Arguments) -> Any:
    await machine.exports.add(arguments, machine.nbd_server, machine.iothreads)
    return {}


async def block_export_del(machine: Machine, arguments: Arguments) -> Any:
    await machine.exports.remove(arguments["id"], arguments.get("mode", "safe"))
    return {}


async def query_block_exports(machine: Machine, arguments: Arguments) -> Any:
    return machine.exports.query()


COMMANDS = {
    "nbd-server-start": nbd_server_start,
    "nbd-server-stop": nbd_server_stop,
    "nbd-server-add": nbd_server_add,
    "nbd-server-remove": nbd_server_remove,
    "block-export-add": block_export_add,
    "block-export-del": block_export_del,
    "query-block-exports": query_block_exports,
}
