"""HMP: the machine as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.monitor.commands import machine as commands

if TYPE_CHECKING:
    from simulator.machine import Machine


async def info_status(machine: Machine, rest: str) -> str:
    paused = "" if machine.run_state == "running" else f" ({machine.run_state})"
    return f"VM status: {'running' if not paused else 'paused'}{paused if machine.run_state != 'paused' else ''}\n"


async def info_version(machine: Machine, rest: str) -> str:
    info = machine.version_info()
    triple = info["qemu"]
    return f"{triple['major']}.{triple['minor']}.{triple['micro']}{info['package']}\n"


async def stop(machine: Machine, rest: str) -> str:
    await commands.stop(machine, {})
    return ""


async def cont(machine: Machine, rest: str) -> str:
    await commands.cont(machine, {})
    return ""


async def quit_machine(machine: Machine, rest: str) -> str:
    await commands.quit_machine(machine, {})
    return ""


COMMANDS = {
    "info status": info_status,
    "info version": info_version,
    "stop": stop,
    "s": stop,
    "cont": cont,
    "c": cont,
    "quit": quit_machine,
    "q": quit_machine,
}
