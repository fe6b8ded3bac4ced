"""HMP: the NBD server (block/monitor/block-hmp-cmds.c, hmp_nbd_server_*, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.dispatch import same_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


def _address(text: str) -> dict[str, Any]:
    """unix:PATH or HOST:PORT as a SocketAddress (socket_parse, util/qemu-sockets.c). Raises QmpError."""
    if text.startswith("unix:"):
        if text == "unix:":
            raise QmpError("invalid Unix socket address")
        return {"type": "unix", "data": {"path": text[5:]}}
    host, separator, port = text.removeprefix("tcp:").rpartition(":")
    if not separator or not port:
        raise QmpError(f"error parsing address '{text.removeprefix('tcp:')}'")
    return {"type": "inet", "data": {"host": host, "port": port}}


async def nbd_server_start(machine: Machine, arguments: Arguments) -> str:
    if "writable" in arguments and "all" not in arguments:
        raise QmpError("-w only valid together with -a")
    await handlers()["nbd-server-start"](machine, {"addr": _address(arguments["uri"])})
    if "all" in arguments:
        await _export_all(machine, "writable" in arguments)
    return ""


async def _export_all(machine: Machine, writable: bool) -> None:
    try:
        for info in await handlers()["query-block"](machine, {}):
            if "inserted" in info:
                given = {"device": info["device"], "writable": writable}
                await handlers()["nbd-server-add"](machine, given)
    except QmpError:
        await handlers()["nbd-server-stop"](machine, {})
        raise


async def nbd_server_add(machine: Machine, arguments: Arguments) -> str:
    given = {"device": arguments["device"], "writable": "writable" in arguments}
    if "name" in arguments:
        given["name"] = arguments["name"]
    await handlers()["nbd-server-add"](machine, given)
    return ""


async def nbd_server_remove(machine: Machine, arguments: Arguments) -> str:
    given = {"name": arguments["name"], "mode": "hard" if "force" in arguments else "safe"}
    await handlers()["nbd-server-remove"](machine, given)
    return ""


COMMANDS = {
    "nbd_server_start": ("all:-a,writable:-w,uri:s", nbd_server_start),
    "nbd_server_add": ("writable:-w,device:B,name:s?", nbd_server_add),
    "nbd_server_remove": ("force:-f,name:s", nbd_server_remove),
    "nbd_server_stop": ("", same_as("nbd-server-stop")),
}
