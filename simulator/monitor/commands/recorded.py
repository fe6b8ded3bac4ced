"""Commands that ask what the binary is, not how the machine does: answered from the version's recording, that
of a machine with the same board where it says something else."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import board

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


def reply(machine: Machine, command: str) -> Any:
    """The recorded value of `return` of a query without arguments. Raises QmpError if there is no
    recording: the command exists in this version, but it is outside of what is simulated."""
    if command == "query-commands":
        return machine.version.recorded(machine.binary, "commands")
    recording = machine.version.recorded(machine.binary, "queries").get(command)
    if machine.slots.board != board.NONE:
        recording = board.told(machine).get("queries", {}).get(command, recording)
    if recording is None:
        raise QmpError(f"The command {command} is not simulated")
    if "error" in recording:
        raise QmpError(recording["error"]["desc"], recording["error"]["class"])
    return recording["return"]
