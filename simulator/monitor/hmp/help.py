"""HMP: help, from what the version's binary itself printed (monitor/hmp.c:help_cmd, 7.2)."""

from __future__ import annotations

from simulator.monitor.hmp.parser import HmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def show_help(machine: Machine, arguments: dict[str, Any]) -> str:
    text = str(machine.version.recorded(machine.binary, "help")).replace("\r", "")
    name = str(arguments.get("name", "")).strip()
    if not name:
        return text
    wanted: list[str] = []
    shown = False
    for line in text.splitlines(keepends=True):
        # Lines that go on with the parameters or the description of the one before begin with a bracket
        # or a blank.
        if not line[0].isspace() and line[0] != "[":
            # The names of a command stand in front of its parameters: "x|y /fmt addr -- ..."
            shown = name in line.partition(" ")[0].rstrip("\n").split("|")
        if shown:
            wanted.append(line)
    if not wanted:
        raise HmpError(f"unknown command: '{name}'")
    return "".join(wanted)


COMMANDS = {"help": ("name:S?", show_help), "?": ("name:S?", show_help)}
