"""HMP: objects that users make (monitor/hmp-cmds.c, qom/qom-hmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import object_values
from simulator.monitor.commands import iothreads
from simulator.monitor.commands import objects as commands
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.parser import HmpError
from simulator.qapi import keyval, qemu_opts
from simulator.qapi.errors import ArgumentError
from simulator.qapi.truth import FALSE, TRUE
from simulator.wire.json_stream import ParseError, encode_line, parse_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def object_add(machine: Machine, arguments: Arguments) -> str:
    """Options as -object takes them, without JSON."""
    schema = machine.schema
    if "object-add" in schema.unchecked:
        return await _object_add_by_properties(machine, arguments)
    if "object" not in arguments:
        raise HmpError('object_add: string expected\nTry "help object_add" for more information')
    try:
        given = keyval.parse(arguments["object"], "qom-type")
        given = schema.convert_keyval(schema.by_name["object-add"]["arg-type"], given)
    except ArgumentError as error:
        raise QmpError(error.desc) from None
    await commands.object_add(machine, given)
    return ""


async def _object_add_by_properties(machine: Machine, arguments: Arguments) -> str:
    try:
        given = qemu_opts.parse(arguments.get("object", ""), "qom-type").to_dict()
    except qemu_opts.OptionError as error:
        raise HmpError(f'{error.desc}\nTry "help object_add" for more information') from None
    await commands.object_add(machine, object_values.read(machine, given, object_values.from_options))
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


async def qom_set(machine: Machine, arguments: Arguments) -> str:
    """A value is JSON with -j, and else text, of which the property makes what it is (hmp_qom_set)."""
    value: Any = arguments["value"]
    if "json" in arguments:
        try:
            value = parse_text(value.encode(), machine.graph.rules.json_pushed)
        except ParseError as error:
            raise QmpError(str(error)) from None
    else:
        value = from_text(value)
    given = {"path": arguments["path"], "property": arguments["property"], "value": value}
    await handlers()["qom-set"](machine, given)
    return ""


def from_text(text: str) -> Any:
    """What a string visitor would make of it, as far as a number or a truth value looks like one."""
    if text in TRUE or text in FALSE:
        return text in TRUE
    try:
        return int(text, 0)
    except ValueError:
        return text


COMMANDS = {
    "qom-set": ("json:-j,path:s,property:s,value:S", qom_set),
    "qom-get": ("path:s,property:s", qom_get),
    "qom-list": ("path:s?", qom_list),
    "info iothreads": ("", info_iothreads),
    "object_add": ("object:S?", object_add),
    "object_del": ("id:s", object_del),
}
