"""HMP: the NBD server (block/monitor/block-hmp-cmds.c, hmp_nbd_server_*, 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.block.errors import QmpError
from simulator.monitor.commands import exports, nodes
from simulator.monitor.hmp.parser import HmpError, take_flags, words_of

if TYPE_CHECKING:
    from simulator.machine import Machine


def _address(text: str) -> dict[str, Any]:
    """unix:PATH or HOST:PORT as a SocketAddress (socket_parse, util/qemu-sockets.c). Raises QmpError."""
    if text.startswith("unix:"):
        return {"type": "unix", "data": {"path": text[5:]}}
    if text.startswith("tcp:"):
        text = text[4:]
    host, separator, port = text.rpartition(":")
    if not separator:
        raise QmpError(f"error parsing address '{text}'")
    return {"type": "inet", "data": {"host": host, "port": port}}


async def nbd_server_start(machine: Machine, rest: str) -> str:
    flags, words = take_flags(words_of(rest), "aw")
    if not words:
        raise HmpError('nbd_server_start: string expected\nTry "help nbd_server_start" for more information')
    if "w" in flags and "a" not in flags:
        raise QmpError("-w only valid together with -a")
    await exports.COMMANDS["nbd-server-start"](machine, {"addr": _address(words[0])})
    if "a" in flags:
        await _export_all(machine, "w" in flags)
    return ""


async def _export_all(machine: Machine, writable: bool) -> None:
    try:
        for info in await nodes.query_block(machine, {}):
            if "inserted" not in info:
                continue
            arguments = {"device": info["device"], "writable": writable and not info["inserted"]["ro"]}
            await exports.COMMANDS["nbd-server-add"](machine, arguments)
    except QmpError:
        await exports.COMMANDS["nbd-server-stop"](machine, {})
        raise


async def nbd_server_add(machine: Machine, rest: str) -> str:
    flags, words = take_flags(words_of(rest), "w")
    if not words:
        raise HmpError('nbd_server_add: string expected\nTry "help nbd_server_add" for more information')
    arguments: dict[str, Any] = {"device": words[0], "writable": "w" in flags}
    if len(words) > 1:
        arguments["name"] = words[1]
    await exports.COMMANDS["nbd-server-add"](machine, arguments)
    return ""


async def nbd_server_remove(machine: Machine, rest: str) -> str:
    flags, words = take_flags(words_of(rest), "f")
    if not words:
        raise HmpError('nbd_server_remove: string expected\nTry "help nbd_server_remove" for more information')
    arguments = {"name": words[0], "mode": "hard" if "f" in flags else "safe"}
    await exports.COMMANDS["nbd-server-remove"](machine, arguments)
    return ""


async def nbd_server_stop(machine: Machine, rest: str) -> str:
    await exports.COMMANDS["nbd-server-stop"](machine, {})
    return ""


COMMANDS = {
    "nbd_server_start": nbd_server_start,
    "nbd_server_add": nbd_server_add,
    "nbd_server_remove": nbd_server_remove,
    "nbd_server_stop": nbd_server_stop,
}
