"""`qemu[:PATH]`: a system emulator, started for each run, its CPUs stopped; the guest is HMP's qemu-io on the
device."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenarios.backends.asyncio_backend import AsyncioBackend
from scenarios.backends.asyncio_session import AsyncioSession
from scenarios.backends.interface import Backend, Guest, QmpRefused, SetupError
from scenarios.backends.launcher import HostLauncher, Launch, Launcher
from scenarios.backends.processes import Sink
from scenarios.backends.qemu_io import QemuIoGuest, QemuIoReports
from scenarios.backends.shared_machine import Kind
from scenarios.backends.shared_session import Command, disk_nodes
from scenarios.language.steps import Disk, Scenario

PREFIX = "qemu"
FORM = "qemu[:PATH]"
PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"

# The small translation buffer saves 10 ms: the default of 1 GiB is zeroed page tables for a guest that rarely
# runs.
MACHINE = ("-M", "pc", "-accel", "tcg,tb-size=4", "-nodefaults", "-no-user-config", "-display", "none", "-S")

_PARKED_BYTES = 1 << 20
_DISKS_OF_LINUX = ("vda", "vdb", "vdc")


def blockdev_arguments(name: str, disk: Disk, option: str, suffix: str = "") -> list[str]:
    """The disk's nodes on a command line; `suffix` as in disk_nodes."""
    return [
        word for options in disk_nodes(name, disk, suffix=suffix) for word in (option, json.dumps(options))
    ]


def _parked_node(name: str) -> dict[str, Any]:
    """What the device of a disk stands on while no scenario uses the machine."""
    return {"driver": "null-co", "node-name": f"{name}-parked", "size": _PARKED_BYTES}


def _set_drive(disk: str, node_name: str) -> Command:
    path = f"/machine/peripheral/{disk}-device"
    return "qom-set", {"path": path, "property": "drive", "value": node_name}


class QemuSession(AsyncioSession):
    """Device `DISK-device` stands on node DISK (attach: device), or on drive DISK (attach: drive), whose
    format node is then called DISK-format, as a drive and a node cannot share a name.

    In a shared machine the devices stay, and are put on other nodes: to take a PCI device away needs a
    guest that agrees, or a reset, and 60 ms until the last reference to it has gone (util/rcu.c, 7.2)."""

    def __init__(
        self,
        program: str,
        launch: Launch,
        scenario: Scenario,
        features: frozenset[str],
        start_ns: int,
        host: AsyncioSession | None = None,
    ) -> None:
        super().__init__(program, launch, scenario, features, start_ns, host)
        if host is not None:
            unused = [name for name in host.parked if name not in scenario.disks]
            self.other_nodes = frozenset(f"{name}-parked" for name in unused)
        # What the machine prints goes to the session that started it.
        self._reports: QemuIoReports = host._reports if isinstance(host, QemuSession) else QemuIoReports()
        # Of a machine that others have used: what it told those.
        self._told_before = len(self._reports.of_blkdebug)
        self._has_qdev_option: bool | None = None
        self._top: dict[str, str] = {}

    def command_line(self, control: str) -> list[str]:
        arguments = self.machine_arguments()
        if self._scenario.incoming and self._starts == 1:
            arguments += ["-incoming", "defer"]
        for name in self.parked:
            device = self._device_words({**self.device_options(name), "drive": f"{name}-parked"})
            arguments += ["-blockdev", json.dumps(_parked_node(name)), "-device", device]
        for name, disk in self._scenario.disks.items():
            arguments += self._disk_arguments(name, disk)
        return [*arguments, *self.monitors("-chardev", control)]

    def monitor_of(self, chardev: str) -> list[str]:
        return ["-mon", f"chardev={chardev},mode=control"]

    def machine_arguments(self) -> list[str]:
        """What there is besides disks and the monitor."""
        return list(MACHINE)

    def device_options(self, name: str) -> dict[str, str]:
        """The guest's device of one disk."""
        return {"driver": "virtio-blk-pci", "drive": name, "id": f"{name}-device"}

    @staticmethod
    def _device_words(options: dict[str, str]) -> str:
        members = [f"{key}={value}" for key, value in options.items() if key != "driver"]
        return ",".join([options["driver"], *members])

    def _disk_arguments(self, name: str, disk: Disk) -> Sequence[str]:
        device = ["-device", self._device_words(self.device_options(name))]
        if self._scenario.attach == "drive":
            drive = (
                f"if=none,id={name},driver={disk.format},node-name={name}-format,discard=unmap,"
                f"file.driver=file,file.filename={name}{self.image_suffix}.{disk.format},"
                f"file.node-name={name}-file"
            )
            return ["-drive", drive, *device]
        nodes = blockdev_arguments(name, disk, "-blockdev", self.image_suffix)
        return [*nodes, *device] if self._scenario.attach == "device" else nodes

    def stdout_sink(self) -> Sink:
        return self._reports.feed

    def printed(self) -> list[str]:
        return self._reports.of_blkdebug[self._told_before :]

    def make_guest(self, disk: str) -> Guest:
        return QemuIoGuest(self, self._reports, lambda: self._target(disk))

    async def forget_guests(self) -> None:
        self._top.clear()

    def guests_in(self) -> list[Command]:
        """The devices are there, see `parked`; nodes stay away that no machine of one scenario has."""
        commands = []
        for name in self._guest_names():
            commands += [_set_drive(name, name), ("blockdev-del", {"node-name": f"{name}-parked"})]
        return commands

    def guests_out(self) -> list[Command]:
        commands = []
        for name in self._guest_names():
            commands += [("blockdev-add", _parked_node(name)), _set_drive(name, f"{name}-parked")]
        return commands

    def _guest_names(self) -> list[str]:
        return list(self._scenario.disks) if self._scenario.attach == "device" else []

    async def _target(self, disk: str) -> str:
        """The device where qemu-io takes one (-d), else the drive or the node that stands on top."""
        if self._scenario.attach == "none":
            return self._top.get(disk, disk)
        if self._has_qdev_option is None:
            self._has_qdev_option = "-d" in await self.hmp("help qemu-io")
        if self._has_qdev_option:
            return f"-d /machine/peripheral/{disk}-device/virtio-backend"
        return self._top.get(disk, disk)

    async def put_on_top(self, disk: str, node_name: str) -> None:
        if self._scenario.attach == "none":
            raise QmpRefused("GenericError", f"disk {disk} has no guest device to be put on {node_name}")
        await self.qmp(*_set_drive(disk, node_name))
        self._top[disk] = node_name


class QemuBackend(AsyncioBackend):
    """`program`: path, or a name that the launcher finds; looked up when the backend is opened."""

    def __init__(self, name: str, program: str = PROGRAM, launcher: Launcher | None = None) -> None:
        super().__init__(name, program, launcher or HostLauncher())

    @property
    def features(self) -> frozenset[str]:
        return frozenset({"hmp", "linux", "machine", "processes", "real", "shell"})

    def kind_of(self, scenario: Scenario) -> Kind:
        """A Linux guest takes seconds to boot: it gets as many disks as most scenarios have at most."""
        disks = tuple(scenario.disks) if scenario.attach == "device" else ()
        if scenario.guest == "linux" and set(disks) <= set(_DISKS_OF_LINUX):
            disks = _DISKS_OF_LINUX
        return Kind(scenario.guest, disks)

    def can_share(self, scenario: Scenario) -> bool:
        is_movable = "moves" in self._found or not self.kind_of(scenario).disks
        return is_movable and super().can_share(scenario)

    def make_session(
        self, launch: Launch, scenario: Scenario, host: AsyncioSession | None = None
    ) -> QemuSession:
        kind = QemuSession
        if scenario.guest == "linux":
            from scenarios.backends.qemu_linux import QemuLinuxSession

            kind = QemuLinuxSession
        return kind(self._program, launch, scenario, self.features, self.start_ns, host)


def open_backend(name: str, argument: str) -> Backend:
    """`argument`: what follows "qemu:": the program, or a directory that QEMU was built in; empty for the
    program in PATH. Raises SetupError."""
    if os.path.isdir(argument):
        return QemuBackend(name, PROGRAM, HostLauncher(Path(argument)))
    try:
        return QemuBackend(name, argument or PROGRAM)
    except SetupError as error:
        if argument:
            raise
        raise SetupError(f"{error}; Debian has it in {PACKAGE}: apt-get install {PACKAGE}") from error
