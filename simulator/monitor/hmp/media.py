"""HMP: media of drives."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.commands import media as commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

_MODES = ("retain", "read-only", "read-write")


async def eject(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.eject(machine, {"device": arguments["device"]})
    return ""


async def change(machine: Machine, arguments: dict[str, Any]) -> str:
    mode = arguments.get("read-only-mode", "retain")
    if mode not in _MODES:
        raise QmpError(f"invalid parameter value: {mode}")
    given = {"device": arguments["device"], "filename": arguments["target"], "read-only-mode": mode}
    if "arg" in arguments:
        given["format"] = arguments["arg"]
    await commands.change_medium(machine, given)
    return ""


COMMANDS = {
    "eject": ("force:-f,device:B", eject),
    "change": ("device:B,target:F,arg:s?,read-only-mode:s?", change),
}
