"""Which function runs a human monitor command, and how its errors are printed."""

from __future__ import annotations

from importlib import import_module

from simulator.block.errors import QmpError
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp import others
from simulator.monitor.hmp.parser import HmpError, parse_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.machine import Machine

    # A command gets its arguments and returns what it prints, lines ended with "\n".
    HmpCommand = Callable[["Machine", dict[str, Any]], Coroutine[Any, Any, str]]

_MODULES = (
    *("block", "chardevs", "devices", "help", "jobs", "machine", "media", "migration", "nbd", "objects"),
    *("pci", "snapshots"),
)
_commands: dict[str, tuple[str, HmpCommand]] = {}


def same_as(name: str) -> HmpCommand:
    """A command that hands its arguments to the QMP command `name`, and prints nothing."""

    async def run(machine: Machine, arguments: dict[str, Any]) -> str:
        await handlers()[name](machine, arguments)
        return ""

    return run


def commands() -> dict[str, tuple[str, HmpCommand]]:
    """All commands by name, "info block" and its like under both words: (types of the arguments, what
    runs it)."""
    if not _commands:
        for module_name in _MODULES:
            _commands.update(import_module(f"simulator.monitor.hmp.{module_name}").COMMANDS)
    return _commands


async def run_line(machine: Machine, line: str) -> str:
    """Run one line and return what the monitor prints, lines ended with CR LF as over QMP."""
    try:
        printed = await _run(machine, line.strip())
    except QmpError as error:
        printed = f"Error: {machine.version.reword(error.console_text)}\n"
    except HmpError as error:
        machine.print(error.aside)
        printed = f"{error}\n"
    return printed.replace("\n", "\r\n")


async def _run(machine: Machine, line: str) -> str:
    name, rest = _split(line)
    if not name:
        return ""
    topic, rest_of_info = _split(rest) if name == "info" else ("", "")
    if topic:
        name, rest = f"info {topic}", rest_of_info
    elif name == "info":
        name, rest = "help", "info"
    typed = line.removesuffix(rest) if rest else line
    if others.full_name(machine, name) is None:
        raise HmpError(f"unknown command: '{line.removesuffix(rest)}'")
    types, command = commands().get(name) or others.find(machine, name, line.removesuffix(rest.lstrip()))
    if name == "drive_add" and machine.version.dialect.drive_add_without_slot and len(rest.split()) == 1:
        types = types.replace("pci_addr:s,", "")
    return await command(machine, _arguments(machine, name, types, rest, typed))


def _arguments(machine: Machine, name: str, types: str, rest: str, typed: str) -> dict[str, Any]:
    """Raises HmpError, which has the name that the version's table of commands has."""
    try:
        return parse_arguments(name, types, rest, typed)
    except HmpError:
        return parse_arguments(others.full_name(machine, name) or name, types, rest, typed)


def _split(text: str) -> tuple[str, str]:
    """(a command's name, what follows). Quotes mean nothing yet, and a slash ends the name
    (get_command_name, monitor/hmp.c:552)."""
    text = text.lstrip()
    end = next((at for at, letter in enumerate(text) if letter == "/" or letter.isspace()), len(text))
    return text[:end], text[end:]
