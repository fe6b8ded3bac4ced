"""HMP: the machine as a whole."""

from __future__ import annotations

from simulator.monitor.commands import machine as commands
from simulator.monitor.commands import recorded
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.parser import HmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


_WATCHDOG_ACTIONS = ("reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi")


async def info_status(machine: Machine, arguments: dict[str, Any]) -> str:
    if machine.run_state == "running":
        return "VM status: running\n"
    more = "" if machine.run_state == "paused" else f" ({machine.run_state})"
    return f"VM status: paused{more}\n"


async def info_version(machine: Machine, arguments: dict[str, Any]) -> str:
    info = machine.version_info()
    triple = info["qemu"]
    return f"{triple['major']}.{triple['minor']}.{triple['micro']}{info['package']}\n"


async def stop(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.stop(machine, {})
    return ""


async def cont(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.cont(machine, {})
    return ""


async def quit_machine(machine: Machine, arguments: dict[str, Any]) -> str:
    await commands.quit_machine(machine, {})
    return ""


async def info_name(machine: Machine, arguments: dict[str, Any]) -> str:
    return f"{machine.name}\n" if machine.name else ""


async def info_uuid(machine: Machine, arguments: dict[str, Any]) -> str:
    return f"{recorded.reply(machine, 'query-uuid')['UUID']}\n"


async def info_kvm(machine: Machine, arguments: dict[str, Any]) -> str:
    return "kvm support: disabled\n"


async def info_iothreads(machine: Machine, arguments: dict[str, Any]) -> str:
    text = ""
    for thread in machine.iothreads.values():
        described = thread.describe()
        text += f"{described.pop('id')}:\n  thread_id={described.pop('thread-id')}\n"
        text += "".join(f"  {name}={value}\n" for name, value in described.items())
    return text


async def system_wakeup(machine: Machine, arguments: dict[str, Any]) -> str:
    await handlers()["system_wakeup"](machine, {})
    return ""


async def watchdog_action(machine: Machine, arguments: dict[str, Any]) -> str:
    action = arguments["action"]
    if action not in _WATCHDOG_ACTIONS:
        raise HmpError(machine.version.texts.hmp_unknown_action.format(action))
    await commands.watchdog_set_action(machine, {"action": action})
    return ""


COMMANDS = {
    "watchdog_action": ("action:s", watchdog_action),
    "system_wakeup": ("", system_wakeup),
    "info iothreads": ("", info_iothreads),
    "info kvm": ("", info_kvm),
    "info name": ("", info_name),
    "info status": ("", info_status),
    "info uuid": ("", info_uuid),
    "info version": ("", info_version),
    "stop": ("", stop),
    "s": ("", stop),
    "cont": ("", cont),
    "c": ("", cont),
    "quit": ("", quit_machine),
    "q": ("", quit_machine),
}
