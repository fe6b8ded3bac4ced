"""Lists of commands for the real emulator and the simulator, and where their answers differ."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from both_programs import SYSTEM, Running, start

# QMP (name, arguments), or a line of the human monitor.
Command = tuple[str, dict[str, Any]] | str
# (command, reply, events until the machine is quiet); what each test makes of it.
Answer = Any
Tell = Callable[[Running, Sequence[Command]], list[Answer]]


def ask(running: Running, command: Command) -> Any:
    return running.hmp(command) if isinstance(command, str) else running.qmp(*command)


def tell_with_events(quiet_s: Callable[[Command], float], hidden: str = r"(?!)") -> Tell:
    """`quiet_s`: how long the machine must be silent after a command to be taken to have nothing more to
    say. Names that it makes up are left out, and what the expression `hidden` finds in replies."""

    def tell(running: Running, commands: Sequence[Command]) -> list[Answer]:
        answers = []
        for command in commands:
            reply = ask(running, command)
            running.gather(quiet_s(command))
            events = [
                json.dumps([event["event"], event.get("data")], sort_keys=True) for event in running.events
            ]
            running.events.clear()
            shown = re.sub(r"#block\d+", "#block", json.dumps(reply, sort_keys=True))
            answers.append((str(command), re.sub(hidden, "", shown), events))
        return answers

    return tell


def on_both(
    dialogue: tuple[Sequence[str], Sequence[str], Sequence[Command]],
    place: Path,
    disk_bytes: int,
    tell: Tell,
    prepare: Callable[[Path], object] = lambda directory: None,
) -> list[tuple[Command, Answer, Answer]]:
    """The commands whose answers differ, with the real one's and ours. `dialogue`: (base, options, commands).
    The machines run in directories with disk.raw and other.raw of that size, and what `prepare` makes."""
    base, options, commands = dialogue
    answers = []
    for is_real in (True, False):
        directory = place / str(is_real)
        directory.mkdir()
        for file in ("disk.raw", "other.raw"):
            (directory / file).write_bytes(bytes(disk_bytes))
        prepare(directory)
        with start(SYSTEM, is_real, directory, options, base) as running:
            running.negotiate()
            answers.append(tell(running, commands))
    rows = zip(commands, *answers, strict=True)
    return [(command, real, ours) for command, real, ours in rows if real != ours]
