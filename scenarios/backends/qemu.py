"""`qemu[:PATH]`: a system emulator, started for each run, its CPUs stopped; the guest is HMP's qemu-io on the
device."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from scenarios.backends.asyncio_backend import AsyncioBackend
from scenarios.backends.asyncio_session import AsyncioSession
from scenarios.backends.interface import Backend, Guest, QmpRefused, SetupError
from scenarios.backends.launcher import HostLauncher, Launch, Launcher
from scenarios.backends.processes import Sink
from scenarios.backends.qemu_io import QemuIoGuest, QemuIoReports
from scenarios.backends.run_directory import RunDirectory
from scenarios.language.steps import Disk, Scenario

PREFIX = "qemu"
FORM = "qemu[:PATH]"
PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"

# The small translation buffer saves 10 ms: the default of 1 GiB is zeroed page tables for a guest that rarely
# runs.
MACHINE = ("-M", "pc", "-accel", "tcg,tb-size=4", "-nodefaults", "-no-user-config", "-display", "none", "-S")


def blockdev_arguments(name: str, disk: Disk, option: str, node_name: str | None = None) -> list[str]:
    """Two nodes: the file `name`-file, and the format node on it called `node_name` (or `name`)."""
    file = {
        "driver": "file",
        "filename": f"{name}.{disk.format}",
        "node-name": f"{name}-file",
        "discard": "unmap",
    }
    top = {
        "driver": disk.format,
        "file": f"{name}-file",
        "node-name": node_name or name,
        "discard": "unmap",
    }
    return [option, json.dumps(file), option, json.dumps(top)]


class QemuSession(AsyncioSession):
    """Device `DISK-device` stands on node DISK (attach: device), or on drive DISK (attach: drive), whose
    format node is then called DISK-format, as a drive and a node cannot share a name. Images are named
    without a directory: the machine runs in the one that they are in."""

    def __init__(
        self, program: str, launch: Launch, scenario: Scenario, features: frozenset[str], start_ns: int
    ) -> None:
        super().__init__(program, launch, scenario, features, start_ns)
        self._reports = QemuIoReports()
        self._has_qdev_option: bool | None = None
        self._top: dict[str, str] = {}

    def command_line(self, control: str) -> list[str]:
        arguments = self.machine_arguments()
        for name, disk in self._scenario.disks.items():
            arguments += self._disk_arguments(name, disk)
        return [*arguments, *self.monitors("-chardev", control)]

    def monitor_of(self, chardev: str) -> list[str]:
        return ["-mon", f"chardev={chardev},mode=control"]

    def machine_arguments(self) -> list[str]:
        """What there is besides disks and the monitor."""
        return list(MACHINE)

    def device_options(self, name: str) -> str:
        """The guest's device of one disk."""
        return f"virtio-blk-pci,drive={name},id={name}-device"

    def _disk_arguments(self, name: str, disk: Disk) -> Sequence[str]:
        device = ["-device", self.device_options(name)]
        if self._scenario.attach == "drive":
            drive = (
                f"if=none,id={name},driver={disk.format},node-name={name}-format,discard=unmap,"
                f"file.driver=file,file.filename={name}.{disk.format},file.node-name={name}-file"
            )
            return ["-drive", drive, *device]
        nodes = blockdev_arguments(name, disk, "-blockdev")
        return [*nodes, *device] if self._scenario.attach == "device" else nodes

    def stdout_sink(self) -> Sink:
        return self._reports.feed

    def make_guest(self, disk: str) -> Guest:
        return QemuIoGuest(self, self._reports, lambda: self._target(disk))

    async def forget_guests(self) -> None:
        self._top.clear()

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
        path = f"/machine/peripheral/{disk}-device"
        await self.qmp("qom-set", {"path": path, "property": "drive", "value": node_name})
        self._top[disk] = node_name


class QemuBackend(AsyncioBackend):
    """`program`: path, or a name that the launcher finds; looked up when the backend is opened."""

    def __init__(self, name: str, program: str = PROGRAM, launcher: Launcher | None = None) -> None:
        super().__init__(name)
        self._launcher = launcher or HostLauncher()
        self._program = self._launcher.find(program)

    @property
    def features(self) -> frozenset[str]:
        return frozenset({"hmp", "linux", "machine", "processes", "real"})

    def make_session(self, place: RunDirectory, scenario: Scenario) -> QemuSession:
        kind = QemuSession
        if scenario.guest == "linux":
            from scenarios.backends.qemu_linux import QemuLinuxSession

            kind = QemuLinuxSession
        return kind(self._program, self._launcher.open(place), scenario, self.features, self.start_ns)


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
