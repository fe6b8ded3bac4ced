"""The system emulator's own options: drives, devices, the machine and what surrounds it (softmmu/vl.c,
7.2)."""

from __future__ import annotations

import os

from simulator.block.errors import QmpError
from simulator.monitor import board
from simulator.monitor.commands.migration import wait_for_guest
from simulator.qapi import keyval, qemu_opts
from simulator.qapi.integers import UINT64_MAX, signed64
from simulator.serve import readers
from simulator.serve.options import StartError
from simulator.wire.json_stream import parse_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.serve.start import Reader, Start

# Machines of every version, and settings that each has: for them nothing needs to be looked up.
_MACHINES = ("none", "pc", "q35")
_MACHINE_SETTINGS = frozenset(
    ("type", "accel", "usb", "dump-guest-core", "graphics", "memory-backend", "firmware")
)
_ACCELERATORS = ("kvm", "tcg", "xen", "qtest", "hax", "hvf", "nvmm", "whpx")
_DISPLAYS = ("none", "default", "gtk", "sdl", "curses", "egl-headless", "spice-app", "dbus", "vnc")


# -- disks
def drive(start: Start, text: str, shown: str) -> None:
    machine = start.machine
    opts = machine.drives.parse(text)
    start.warn_of(shown, opts.warnings)

    async def effect() -> None:
        default = "none" if start.machine.slots.board == "none" else "ide"
        interface, identifier = await machine.drives.add(machine.schema, opts, default)
        if interface == "none":
            return

        async def attach() -> None:
            await _attach(start, interface, identifier)

        start.plan("device" if interface == "virtio" else "board", shown, attach)

    start.plan("drive", shown, effect)


async def _attach(start: Start, interface: str, identifier: str) -> None:
    if interface == "virtio":
        await start.machine.slots.plug({"driver": "virtio-blk-pci", "drive": identifier}, is_hot=False)
    elif interface == "ide" and start.machine.slots.board != "none":
        await start.machine.devices.add("ide-hd", "", identifier)
    else:
        _, bus, unit = start.machine.drives.places[identifier]
        raise QmpError(f"machine type does not support if={interface},bus={bus},unit={unit}")


def disk_image(start: Start, text: str, shown: str) -> None:
    drive(start, f"index=0,file={text.replace(',', ',,')},media=disk", shown)


def device(start: Start, text: str, shown: str) -> None:
    if text.startswith("{") and start.machine.version.command_line.json_devices:
        given: dict[str, Any] = parse_text(text.encode(), start.machine.version.qmp.json_pushed)
        if "driver" not in given:
            raise QmpError("Parameter 'driver' is missing")
    else:
        given = dict(start.options_of("device", shown, qemu_opts.parse(text, "driver")).to_dict())

    async def effect() -> None:
        await start.machine.slots.plug(given, is_hot=False)

    start.plan("device", shown, effect)


def add_fd(start: Start, text: str, shown: str) -> None:
    """-add-fd: a descriptor that we were started with goes into a set (parse_add_fd, softmmu/vl.c, 7.2)."""
    kinds = {"fd": "num", "set": "num", "opaque": "str"}
    opts = start.options_of("add-fd", shown, qemu_opts.parse(text, None, kinds))
    passed, number = (signed64(opts.get_number(name, UINT64_MAX)) for name in ("fd", "set"))

    async def add() -> None:
        if passed < 0:
            raise QmpError("fd option is required and must be non-negative")
        if passed <= 2:
            raise QmpError("fd cannot be a standard I/O stream")
        try:
            is_ours = not os.get_inheritable(passed)
        except (OSError, OverflowError):
            is_ours = True
        if is_ours:
            raise QmpError("fd is not valid or already in use")
        if number < 0:
            raise QmpError("set option is required and must be non-negative")
        start.machine.fdsets.add(os.dup(passed), number, opts.get("opaque"))
        os.close(passed)

    start.plan("descriptor", shown, add)


# -- the machine
def machine_option(start: Start, text: str, shown: str) -> None:
    start.machine_settings.update(keyval.parse(text, "type"))
    start.machine_shown = start.machine_shown or shown


def choose_machine(start: Start) -> None:
    """Raises StartError, in most versions without an option in front: which one it was is forgotten."""
    given = start.machine_settings
    name = str(given.get("type", "pc"))
    start.machine.slots.board = name
    if name not in _MACHINES and name not in start.machine.machine_types():
        facts = start.machine.version.command_line
        place = f"{start.machine_shown}: " if facts.shows_machine_option else ""
        told = place + facts.machine_refusal.format(name=name)
        raise StartError(f"{told}\nUse -machine help to list supported machines")

    async def check_settings() -> None:
        if not _MACHINE_SETTINGS.issuperset(given):
            type_name, known = start.machine.machine_properties(name)
            for setting in given:
                if setting not in _MACHINE_SETTINGS and known is not None and setting not in known:
                    raise StartError(f"Property '{type_name}.{setting}' not found")

    async def furnish() -> None:
        board.furnish(start.machine, start.memory_bytes, str(given.get("memory-backend", "")))

    start.plan("machine", "", check_settings)
    start.plan("board", "", furnish)


def accel(start: Start, text: str, shown: str) -> None:
    name = qemu_opts.parse(text, "accel").get("accel")

    async def check() -> None:
        if name not in _ACCELERATORS:
            raise QmpError(f"invalid accelerator {name}")

    start.plan("accel", shown, check)


def memory(start: Start, text: str, shown: str) -> None:
    opts = qemu_opts.parse(text, "size", {"size": "size", "slots": "num", "maxmem": "size"})
    size = opts.get_size("size", board.DEFAULT_MEMORY_BYTES)
    # A plain number is of MiB.
    start.memory_bytes = size << 20 if (opts.get("size") or "x")[-1].isdigit() else size


def display(start: Start, text: str, shown: str) -> None:
    name = text.partition(",")[0].removeprefix("type=")
    if name not in _DISPLAYS:
        raise QmpError(f"Parameter 'type' does not accept value '{name}'")


def uuid(start: Start, text: str, shown: str) -> None:
    digits = text.replace("-", "")
    lengths = [len(part) for part in text.split("-")]
    if lengths != [8, 4, 4, 4, 12] or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise QmpError("failed to parse UUID string: wrong format")


def name(start: Start, text: str, shown: str) -> None:
    opts = qemu_opts.parse(text, "guest", {"guest": "str", "process": "str", "debug-threads": "bool"})
    start.machine.name = opts.get("guest") or ""


def incoming(start: Start, text: str, shown: str) -> None:
    """-incoming: nodes are inactive from here on (qemu_init, softmmu/vl.c, 7.2). Raises StartError."""
    start.machine.run_state = "inmigrate"
    if text != "defer":

        async def wait() -> None:
            wait_for_guest(start.machine, text)

        start.plan("incoming", shown, wait)


def log_file(start: Start, text: str, shown: str) -> None:
    try:
        with open(text, "wb"):
            pass
    except OSError as error:
        raise StartError(f"Error opening logfile {text}: {error.strerror}") from None


SYSTEM: dict[str, Reader] = {
    "D": log_file,
    "M": machine_option,
    "accel": accel,
    "add-fd": add_fd,
    "blockdev": readers.blockdev,
    "chardev": readers.chardev,
    "device": device,
    "display": display,
    "drive": drive,
    "hda": disk_image,
    "incoming": incoming,
    "m": memory,
    "machine": machine_option,
    "mon": readers.mon,
    "monitor": readers.legacy_monitor("readline", False),
    "name": name,
    "object": readers.system_object,
    "qmp": readers.legacy_monitor("control", False),
    "qmp-pretty": readers.legacy_monitor("control", True),
    "uuid": uuid,
}
