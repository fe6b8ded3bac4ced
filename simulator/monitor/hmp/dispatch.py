"""Which function runs a human monitor command, and how its errors are printed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import TYPE_CHECKING, Any

from simulator.block.errors import QmpError
from simulator.monitor.hmp.parser import HmpError, next_word

if TYPE_CHECKING:
    from simulator.machine import Machine

# A command gets the rest of its line and returns what it prints, lines ended with "\n".
HmpCommand = Callable[["Machine", str], Coroutine[Any, Any, str]]

_MODULES = ("block", "help", "jobs", "machine", "nbd")
_commands: dict[str, HmpCommand] = {}


def commands() -> dict[str, HmpCommand]:
    """All commands by name; "info block" and its like under both words."""
    if not _commands:
        for module_name in _MODULES:
            _commands.update(import_module(f"simulator.monitor.hmp.{module_name}").COMMANDS)
    return _commands


async def run_line(machine: Machine, line: str) -> str:
    """Run one line and return what the monitor prints, lines ended with CR LF as over QMP."""
    try:
        printed = await _run(machine, line.strip())
    except QmpError as error:
        printed = f"Error: {error.desc}\n"
    except HmpError as error:
        printed = f"{error}\n"
    return printed.replace("\n", "\r\n")


async def _run(machine: Machine, line: str) -> str:
    name, rest = next_word(line)
    if not name:
        return ""
    known = commands()
    if name == "info":
        topic, rest_of_info = next_word(rest)
        command = known.get(f"info {topic}")
        if command is None:
            raise HmpError(f"unknown command: 'info {topic}'" if topic else "info: expected what to show")
        return await command(machine, rest_of_info)
    command = known.get(name)
    if command is None:
        raise HmpError(f"unknown command: '{name}'")
    return await command(machine, rest)
