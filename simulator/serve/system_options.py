"""The system emulator's own options: drives, devices, the machine and what surrounds it (softmmu/vl.c,
7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.qapi import keyval, qemu_opts
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
# Settings of disk devices that are looked at here, or change nothing that a client of the block layer sees.
_DISK_SETTINGS = frozenset(
    (
        "driver",
        "id",
        "drive",
        "bus",
        "addr",
        "share-rw",
        "serial",
        "bootindex",
        "write-cache",
        "werror",
        "rerror",
        "unit",
    )
)
_SCSI_ADAPTERS = (
    "virtio-scsi",
    "lsi53c",
    "lsi",
    "megasas",
    "mptsas",
    "pvscsi",
    "am53c974",
    "dc390",
    "usb-uas",
    "esp",
)
_BOOLEAN = ("on", "yes", "true", "y", "off", "no", "false", "n")


# -- disks
def drive(start: Start, text: str, shown: str) -> None:
    machine = start.machine
    opts = machine.drives.parse(text)
    start.warn_of(shown, opts.warnings)

    async def effect() -> None:
        default = "none" if start.machine_type == "none" else "ide"
        interface, identifier = await machine.drives.add(machine.schema, opts, default)
        if interface == "none":
            return

        async def attach() -> None:
            _attach(start, interface, identifier)

        start.plan("device" if interface == "virtio" else "board", shown, attach)

    start.plan("drive", shown, effect)


def _attach(start: Start, interface: str, identifier: str) -> None:
    if interface == "virtio":
        _need_bus(start, "virtio-blk-pci")
        start.machine.devices.add("virtio-blk-pci", "", identifier)
    elif interface == "ide" and start.machine_type != "none":
        start.machine.devices.add("ide-hd", "", identifier)
    else:
        _, bus, unit = start.machine.drives.places[identifier]
        raise QmpError(f"machine type does not support if={interface},bus={bus},unit={unit}")


def disk_image(start: Start, text: str, shown: str) -> None:
    drive(start, f"index=0,file={text.replace(',', ',,')},media=disk", shown)


def device(start: Start, text: str, shown: str) -> None:
    if text.startswith("{"):
        given: dict[str, Any] = parse_text(text.encode())
        if "driver" not in given:
            raise QmpError("Parameter 'driver' is missing")
    else:
        given = dict(start.options_of("device", shown, qemu_opts.parse(text, "driver")).to_dict())

    async def effect() -> None:
        _add_device(start, given)

    start.plan("device", shown, effect)


def _add_device(start: Start, given: dict[str, Any]) -> None:
    if "driver" not in given:
        raise QmpError("Parameter 'driver' is missing")
    machine = start.machine
    driver = str(given["driver"])
    if not machine.devices.is_disk(driver):
        _add_other_device(start, driver, given)
        return
    _need_bus(start, driver)
    _check_properties(start, "virtio-blk-pci" if driver == "virtio-blk" else driver, given, _DISK_SETTINGS)
    share = given.get("share-rw", False)
    if share not in (*_BOOLEAN, True, False):
        raise QmpError("Parameter 'share-rw' expects 'on' or 'off'")
    on_drive = str(given["drive"]) if "drive" in given else None
    machine.devices.add(driver, str(given.get("id", "")), on_drive, share is True or share in _BOOLEAN[:4])


def _need_bus(start: Start, driver: str) -> None:
    bus = start.machine.devices.bus_of(driver)
    if start.machine_type == "none" or (bus == "SCSI" and not start.has_scsi):
        raise QmpError(f"No '{bus}' bus found for device '{driver}'")


def _add_other_device(start: Start, driver: str, given: dict[str, Any]) -> None:
    """A device that is no disk: it must be one of this version's, and then nothing is simulated of it."""
    machine = start.machine
    if not machine.knows_device(driver):
        raise QmpError(f"'{driver}' is not a valid device model name")
    if start.machine_type == "none" and machine.is_pci_device(driver):
        raise QmpError(f"No 'PCI' bus found for device '{driver}'")
    _check_properties(start, driver, given, frozenset(("driver", "id", "bus", "addr")))
    start.has_scsi |= driver.startswith(_SCSI_ADAPTERS)


def _check_properties(start: Start, driver: str, given: dict[str, Any], fine: frozenset[str]) -> None:
    if fine.issuperset(given):
        return
    known = start.machine.device_properties(driver)
    for name in given:
        if name not in fine and known is not None and name not in known:
            raise QmpError(f"Property '{driver}.{name}' not found")


# -- the machine
def machine_option(start: Start, text: str, shown: str) -> None:
    start.machine_settings.update(keyval.parse(text, "type"))


def choose_machine(start: Start) -> None:
    """Raises StartError, without an option in front: QEMU has forgotten by then which one it was."""
    given = start.machine_settings
    name = str(given.get("type", "pc"))
    start.machine_type = name
    if name not in _MACHINES and name not in start.machine.machine_types():
        raise StartError("unsupported machine type\nUse -machine help to list supported machines")

    async def check_settings() -> None:
        if not _MACHINE_SETTINGS.issuperset(given):
            type_name, known = start.machine.machine_properties(name)
            for setting in given:
                if setting not in _MACHINE_SETTINGS and known is not None and setting not in known:
                    raise StartError(f"Property '{type_name}.{setting}' not found")

    start.plan("machine", "", check_settings)


def accel(start: Start, text: str, shown: str) -> None:
    name = qemu_opts.parse(text, "accel").get("accel")

    async def check() -> None:
        if name not in _ACCELERATORS:
            raise QmpError(f"invalid accelerator {name}")

    start.plan("accel", shown, check)


def memory(start: Start, text: str, shown: str) -> None:
    qemu_opts.parse(text, "size", {"size": "size", "slots": "num", "maxmem": "size"})


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
    "blockdev": readers.blockdev,
    "chardev": readers.chardev,
    "device": device,
    "display": display,
    "drive": drive,
    "hda": disk_image,
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
