"""HMP: help, from what the version's binary itself printed (monitor/hmp.c:help_cmd, 7.2)."""

from __future__ import annotations

from simulator.monitor.hmp.parser import HmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def show_help(machine: Machine, arguments: dict[str, Any]) -> str:
    name = str(arguments.get("name", "")).strip()
    of_info, _, topic = name.partition(" ")
    what = "help_info" if of_info == "info" else "help"
    text = str(machine.version.recorded(machine.binary, what)).replace("\r", "")
    if not name or name == "info":
        return text
    if of_info != "info":
        return "".join(_of(name, text))
    # Every line begins with "info", which is no part of a topic's name.
    topics = text.replace("\ninfo ", "\n").removeprefix("info ")
    # What follows a command's whole name is not looked at (help_cmd_dump).
    return "info " + "".join(_of(topic.split()[0], topics, "info "))


def _of(name: str, text: str, before: str = "") -> list[str]:
    """Lines about one command. Raises HmpError."""
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
        raise HmpError(f"unknown command: '{before}{name}'")
    return wanted


COMMANDS = {"help": ("name:S?", show_help), "?": ("name:S?", show_help)}
