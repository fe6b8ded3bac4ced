"""HMP: devices that come and go."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.commands import devices as commands
from simulator.monitor.hmp.parser import HmpError
from simulator.qapi import qemu_opts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def device_add(machine: Machine, arguments: dict[str, Any]) -> str:
    try:
        opts = qemu_opts.parse(arguments.get("device", ""), "driver")
        machine.slots.check_id_as_option(opts.id)
    except (qemu_opts.OptionError, QmpError) as error:
        # What is wrong goes to standard error (monitor_parse_arguments, monitor/hmp.c).
        machine.warn(error.desc)
        raise HmpError('Try "help device_add" for more information') from None
    given = opts.to_dict()
    await commands.add(machine, given, is_typed=False)
    return ""


async def device_del(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.device_del(machine, arguments)
    return ""


async def system_reset(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.system_reset(machine, arguments)
    return ""


COMMANDS = {
    "device_add": ("device:O", device_add),
    "device_del": ("id:s", device_del),
    "system_reset": ("", system_reset),
}
