"""HMP: help, from what the version's binary itself printed (monitor/hmp.c:help_cmd, 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.monitor.hmp.parser import next_word

if TYPE_CHECKING:
    from simulator.machine import Machine


async def show_help(machine: Machine, rest: str) -> str:
    name, _ = next_word(rest)
    text: str = machine.version.recorded(machine.binary, "help")
    if not name:
        return text
    wanted: list[str] = []
    shown = False
    for line in text.splitlines(keepends=True):
        if not line[0].isspace():
            # The names of a command stand in front of its parameters: "x|y /fmt addr -- ..."
            shown = name in line.partition(" ")[0].rstrip("\n").split("|")
        if shown:
            wanted.append(line)
    return "".join(wanted)


COMMANDS = {"help": show_help, "?": show_help}
