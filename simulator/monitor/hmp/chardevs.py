"""HMP: character devices (monitor/hmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.chardev_backends import make
from simulator.monitor.chardev_options import KINDS, backend_of, kind_of
from simulator.monitor.commands import chardevs as commands
from simulator.monitor.hmp.dispatch import same_as
from simulator.monitor.hmp.parser import HmpError, told_of_flags
from simulator.qapi import qemu_opts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

# How a character that is no text is shown (hmp_ringbuf_read).
_SHOWN = {code: f"\\u{code:04X}" for code in (*range(0x20), 0x7F) if chr(code) not in "\n\t"}
_SHOWN[ord("\\")] = "\\\\"


def _options(machine: Machine, text: str) -> qemu_opts.QemuOpts:
    unknown = machine.version.queries.chardev_options_unknown
    try:
        return qemu_opts.parse(
            text, "backend", {name: kind for name, kind in KINDS.items() if name not in unknown}
        )
    except qemu_opts.OptionError as error:
        hint = error.hint.rstrip("\n")
        told = f"{error.desc}\n{hint}" if hint else error.desc
        raise HmpError(f"{told}\nError: Parsing chardev args failed") from None


async def chardev_add(machine: Machine, arguments: Arguments) -> str:
    """Other than in QMP, the device is made before its name is looked at."""
    opts = _options(machine, arguments["args"])
    told = "".join(told_of_flags(machine, opts))
    if opts.id is None:
        raise QmpError("chardev: no id specified")
    backend = backend_of(opts)
    made = make(machine, kind_of(opts), backend["data"])
    if opts.id in machine.chardevs:
        made.close()
        raise QmpError(f"attempt to add duplicate property '{opts.id}' to object (type 'container')")
    machine.chardevs[opts.id] = made
    return told + _told(made.filename, opts.id)


async def chardev_change(machine: Machine, arguments: Arguments) -> str:
    opts = _options(machine, arguments["args"])
    if opts.id is not None:
        raise QmpError("Unexpected 'id' parameter")
    identifier = arguments["id"]
    await commands.chardev_change(machine, {"id": identifier, "backend": backend_of(opts)})
    return _told(machine.chardevs[identifier].filename, identifier)


def _told(filename: str, label: str) -> str:
    """A terminal says where it is."""
    kind, _, place = filename.partition(":")
    return f"char device redirected to {place} (label {label})\n" if kind == "pty" else ""


async def info_chardev(machine: Machine, arguments: Arguments) -> str:
    told = await commands.query_chardev(machine, {})
    return "".join(f"{each['label']}: filename={each['filename']}\n" for each in told)


async def ringbuf_read(machine: Machine, arguments: Arguments) -> str:
    text: str = await commands.ringbuf_read(machine, arguments)
    return text.partition("\0")[0].translate(_SHOWN) + "\n"


COMMANDS = {
    "chardev-add": ("args:s", chardev_add),
    "chardev-change": ("id:s,args:s", chardev_change),
    "chardev-remove": ("id:s", same_as("chardev-remove")),
    "chardev-send-break": ("id:s", same_as("chardev-send-break")),
    "info chardev": ("", info_chardev),
    "ringbuf_read": ("device:s,size:l", ringbuf_read),
    "ringbuf_write": ("device:s,data:s", same_as("ringbuf-write")),
}
