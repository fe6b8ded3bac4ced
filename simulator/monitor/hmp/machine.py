"""HMP: the machine as a whole."""

from __future__ import annotations

from simulator.monitor import board
from simulator.monitor.commands import machine as commands
from simulator.monitor.commands import recorded
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.dispatch import same_as
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


async def system_wakeup(machine: Machine, arguments: dict[str, Any]) -> str:
    await handlers()["system_wakeup"](machine, {})
    return ""


async def watchdog_action(machine: Machine, arguments: dict[str, Any]) -> str:
    action = arguments["action"]
    if action not in _WATCHDOG_ACTIONS:
        raise HmpError(machine.version.texts.hmp_unknown_action.format(action))
    await commands.watchdog_set_action(machine, {"action": action})
    return ""


async def info_cpus(machine: Machine, arguments: dict[str, Any]) -> str:
    lines = []
    for each in await handlers()["query-cpus-fast"](machine, {}):
        model = f" model={_model(each['qom-type'])}" if machine.version.texts.hmp_cpus_with_model else ""
        lines.append(f"* CPU #{each['cpu-index']}: thread_id={each['thread-id']}{model}\n")
    return "".join(lines)


def _model(type_name: str) -> str:
    """qemu64 of qemu64-x86_64-cpu."""
    return type_name.removesuffix("-x86_64-cpu")


async def info_memdev(machine: Machine, arguments: dict[str, Any]) -> str:
    text = ""
    for each in await handlers()["query-memdev"](machine, {}):
        text += f"memory backend: {each['id']}\n"
        # "size" has one blank more than all others.
        text += f"  size:  {each['size']}\n"
        shown = [name for name in ("merge", "dump", "prealloc", "share", "reserve") if name in each]
        text += "".join(f"  {name}: {str(each[name]).lower()}\n" for name in shown)
        nodes = " ".join(map(str, each["host-nodes"]))
        text += f"  policy: {each['policy']}\n  host nodes: {nodes}\n"
    return f"{text}\n"


async def info_memory_size_summary(machine: Machine, arguments: dict[str, Any]) -> str:
    told = await handlers()["query-memory-size-summary"](machine, {})
    return f"base memory: {told['base-memory']}\nplugged memory: {told['plugged-memory']}\n"


async def info_mice(machine: Machine, arguments: dict[str, Any]) -> str:
    mice = await handlers()["query-mice"](machine, {})
    if not mice:
        return "No mouse devices connected\n"
    lines = []
    for mouse in mice:
        mark = "*" if mouse["current"] else " "
        kind = " (absolute)" if mouse["absolute"] else ""
        lines.append(f"{mark} Mouse #{mouse['index']}: {mouse['name']}{kind}\n")
    return "".join(lines)


async def print_number(machine: Machine, arguments: dict[str, Any]) -> str:
    value = arguments["val"]
    unsigned = value & 0xFFFFFFFFFFFFFFFF
    shown = {
        "o": f"0{unsigned:o}" if unsigned else "0",
        "x": f"{unsigned:#x}" if unsigned else "0",
        "u": f"{unsigned}",
        "c": _character(unsigned & 0xFF),
    }
    return shown.get(arguments["fmt"], str(value)) + "\n"


_ESCAPED = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r"}


def _character(code: int) -> str:
    """monitor_printc, monitor/misc.c."""
    shown = chr(code) if 32 <= code <= 126 else f"\\x{code:02x}"
    return "'" + _ESCAPED.get(chr(code), shown) + "'"


async def send_key(machine: Machine, arguments: dict[str, Any]) -> str:
    """Nobody sits at the keyboard's other end: only whether there are such keys is looked at."""
    known = next(entry["values"] for entry in machine.schema.entries if "ctrl_r" in entry.get("values", ()))
    for name in arguments["keys"].split("-"):
        is_number = name.startswith("0x") and name[2:].isalnum()
        if ("less" if name == "<" else name) not in known and not is_number:
            raise HmpError(f"invalid parameter: {name}")
    return ""


_BOOT_DEVICES = "acdn"
_MOST_BOOT_DEVICES = 3


async def boot_set(machine: Machine, arguments: dict[str, Any]) -> str:
    """softmmu/bootdevice.c:validate_bootdevices and hw/i386/pc.c:set_boot_dev, 7.2."""
    devices = arguments["bootdevice"]
    if machine.slots.board == board.NONE:
        raise HmpError("no function defined to set boot device list for this architecture")
    for position, letter in enumerate(devices):
        if not "a" <= letter <= "p":
            raise HmpError(f"Invalid boot device '{letter}'")
        if letter in devices[:position]:
            raise HmpError(f"Boot device '{letter}' was given twice")
    if len(devices) > _MOST_BOOT_DEVICES:
        raise HmpError("Too many boot devices for PC")
    for letter in devices:
        if letter not in _BOOT_DEVICES:
            raise HmpError(f"Invalid boot device for PC: '{letter}'")
    return f"boot device list now set to {devices}\n"


async def do_nothing(machine: Machine, arguments: dict[str, Any]) -> str:
    """What it does nobody sees who has no guest."""
    return ""


async def choose_cpu(machine: Machine, arguments: dict[str, Any]) -> str:
    cpus = await handlers()["query-cpus-fast"](machine, {})
    if arguments["index"] not in [each["cpu-index"] for each in cpus]:
        raise HmpError("invalid CPU index")
    return ""


COMMANDS = {
    "balloon": ("value:M", same_as("balloon")),
    "announce_self": ("interfaces:s?,id:s?", do_nothing),
    "boot_set": ("bootdevice:s", boot_set),
    "closefd": ("fdname:s", same_as("closefd")),
    "cpu": ("index:i", choose_cpu),
    "getfd": ("fdname:s", same_as("getfd")),
    "info cpus": ("", info_cpus),
    "info memdev": ("", info_memdev),
    "info memory_size_summary": ("", info_memory_size_summary),
    "info mice": ("", info_mice),
    "mouse_button": ("button_state:i", do_nothing),
    "mouse_move": ("dx_str:s,dy_str:s,dz_str:s?", do_nothing),
    "netdev_del": ("id:s", same_as("netdev_del")),
    "nmi": ("", same_as("inject-nmi")),
    "p": ("fmt:/,val:l", print_number),
    "print": ("fmt:/,val:l", print_number),
    "sendkey": ("keys:s,hold-time:i?", send_key),
    "set_link": ("name:s,up:b", same_as("set_link")),
    "system_powerdown": ("", same_as("system_powerdown")),
    "watchdog_action": ("action:s", watchdog_action),
    "system_wakeup": ("", system_wakeup),
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
