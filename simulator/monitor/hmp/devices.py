"""HMP: devices that come and go."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.commands import devices as commands
from simulator.qapi import qemu_opts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def device_add(machine: Machine, arguments: dict[str, Any]) -> str:
    try:
        given = qemu_opts.parse(arguments["device"], "driver").to_dict()
    except qemu_opts.OptionError as error:
        raise QmpError(error.desc) from None
    await commands.device_add(machine, given)
    return ""


async def device_del(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.device_del(machine, arguments)
    return ""


async def system_reset(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.system_reset(machine, arguments)
    return ""


COMMANDS = {
    "device_add": ("device:s", device_add),
    "device_del": ("id:s", device_del),
    "system_reset": ("", system_reset),
}
