"""The human monitor inside QMP."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.hmp.dispatch import run_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def human_monitor_command(machine: Machine, arguments: dict[str, Any]) -> Any:
    """cpu-index is checked and otherwise ignored: there are no CPUs to look at."""
    if arguments.get("cpu-index", 0) != 0:
        raise QmpError("Parameter 'cpu-index' expects a CPU number")
    return await run_line(machine, arguments["command-line"])


COMMANDS = {"human-monitor-command": human_monitor_command}
