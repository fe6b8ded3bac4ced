"""HMP: objects that users make (monitor/hmp-cmds.c, qom/qom-hmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.commands import iothreads
from simulator.monitor.commands import objects as commands
from simulator.monitor.dispatch import handlers
from simulator.qapi import keyval
from simulator.qapi.errors import ArgumentError
from simulator.wire.json_stream import encode_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def object_add(machine: Machine, arguments: Arguments) -> str:
    """Options as -object takes them, without JSON."""
    schema = machine.schema
    try:
        given = keyval.parse(arguments["object"], "qom-type")
        given = schema.convert_keyval(schema.by_name["object-add"]["arg-type"], given)
    except ArgumentError as error:
        raise QmpError(error.desc) from None
    await commands.object_add(machine, given)
    return ""


async def object_del(machine: Machine, arguments: Arguments) -> str:
    await commands.object_del(machine, {"id": arguments["id"]})
    return ""


async def info_iothreads(machine: Machine, arguments: Arguments) -> str:
    lines = []
    for thread in await iothreads.query_iothreads(machine, {}):
        lines.append(f"{thread.pop('id')}:\n  thread_id={thread.pop('thread-id')}\n")
        lines += [f"  {name}={value}\n" for name, value in thread.items()]
    return "".join(lines)


async def qom_list(machine: Machine, arguments: Arguments) -> str:
    """Without a path it is the tree's root."""
    if "path" not in arguments:
        return "/\n"
    listed = await handlers()["qom-list"](machine, {"path": arguments["path"]})
    return "".join(f"{entry['name']} ({entry['type']})\n" for entry in listed)


async def qom_get(machine: Machine, arguments: Arguments) -> str:
    value = await handlers()["qom-get"](machine, arguments)
    return encode_line(value, pretty=True).decode().replace("\r\n", "\n")


COMMANDS = {
    "qom-get": ("path:s,property:s", qom_get),
    "qom-list": ("path:s?", qom_list),
    "info iothreads": ("", info_iothreads),
    "object_add": ("object:S", object_add),
    "object_del": ("id:s", object_del),
}
