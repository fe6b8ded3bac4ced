"""A system emulator whose guest is a Linux that the project builds itself: its processor runs, and its
programs make the requests."""

from __future__ import annotations

import asyncio
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from scenarios.backends.interface import Guest, SetupError
from scenarios.backends.qemu import QemuSession
from scenarios.backends.shared_session import Command
from scenarios.linux_guest.agent import Agent, LinuxDisk
from scenarios.linux_guest.build import guest_files

# KVM is never taken: where it is there, guests do not always run on it.
_MACHINE = ("-M", "pc", "-accel", "tcg,tb-size=64", "-m", "128", "-no-reboot", "-display", "none")
_PORTS = ("kernel", "agent")
_BARE = ("-nodefaults", "-no-user-config")
_CONNECTED_S = 5.0
# A panic ends the machine. The rest saves a second of waiting for what is not there.
_KERNEL_COMMAND_LINE = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check tsc=reliable"


class QemuLinuxSession(QemuSession):
    """Serial ports: the first is the kernel's console, the second the agent's (linux_guest/init.sh). A disk
    is found in the guest by its device's serial number, which is its name. All that the machine needs lies in
    the run directory, which it sees wherever it runs."""

    _agent: Agent | None = None

    def guests_in(self) -> list[Command]:
        """A device does not tell its guest that it stands on another node; being told the size that the node
        has, it does."""
        sizes = [
            ("block_resize", {"node-name": name, "size": disk.size})
            for name, disk in self._scenario.disks.items()
        ]
        return [*super().guests_in(), *sizes]

    async def move_in(self) -> None:
        assert isinstance(self._host, QemuLinuxSession)
        self._agent = self._host._agent
        await super().move_in()

    def machine_arguments(self) -> list[str]:
        place = self._launch.place.path
        arguments = [*_MACHINE, *_BARE, "-append", _KERNEL_COMMAND_LINE]
        arguments += ["-kernel", str(place / "vmlinuz"), "-initrd", str(place / "first-files")]
        for port in _PORTS:
            arguments += ["-chardev", f"socket,id={port},path={place / port}.sock"]
            arguments += ["-serial", f"chardev:{port}"]
        return arguments

    def device_options(self, name: str) -> dict[str, str]:
        return {**super().device_options(name), "serial": name}

    async def start(self) -> None:
        files = await asyncio.to_thread(guest_files)
        place = self._launch.place.path
        for source, name in zip(files, ("vmlinuz", "first-files"), strict=True):
            if not (place / name).exists():
                shutil.copyfile(source, place / name)
        with ExitStack() as listeners:
            ports = [listeners.enter_context(_listener(place / f"{port}.sock")) for port in _PORTS]
            await super().start()
            # QEMU connects before it does anything else, and the monitor has answered.
            try:
                kernel, agent = (port.accept()[0] for port in ports)
            except TimeoutError:
                words = f"expected a connection of each serial port within {_CONNECTED_S:g} s"
                raise SetupError(f"{self._program}: {words}") from None
        self._agent = Agent(self, kernel, agent)

    async def ready(self) -> None:
        await self._linux.boot()
        if self._host is not None:
            for name, disk in self._scenario.disks.items():
                await self._linux.see_size(name, disk.size)

    async def restart(self) -> None:
        await super().restart()
        await self.ready()

    @property
    def _linux(self) -> Agent:
        assert self._agent is not None
        return self._agent

    def make_guest(self, disk: str) -> Guest:
        return LinuxDisk(self._linux, disk)

    async def forget_guests(self) -> None:
        await super().forget_guests()
        if self._agent is not None and self._host is None:
            self._agent.close()
            self._agent = None

    async def wait_end(self, timeout_ns: int) -> tuple[int | None, str]:
        """With the last that the guest's kernel said, which tells of a panic."""
        status, stderr = await super().wait_end(timeout_ns)
        screen = self._agent.last_screen if self._agent is not None else ""
        return status, f"{stderr}\nthe guest's last screen:\n{screen}" if screen else stderr


def _listener(path: Path) -> socket.socket:
    """Takes one connection that is there already."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(_CONNECTED_S)
    return listener
