"""A system emulator whose guest is a Linux that the project builds itself: its processor runs, and its
programs make the requests."""

from __future__ import annotations

import asyncio
import socket

from scenarios.backends.interface import Guest
from scenarios.backends.qemu import QemuSession
from scenarios.linux_guest.agent import Agent, LinuxDisk
from scenarios.linux_guest.build import GuestFiles, guest_files

# KVM is never taken: where it is there, guests do not always run on it.
_MACHINE = ("-M", "pc", "-accel", "tcg,tb-size=64", "-m", "128", "-no-reboot", "-display", "none")
_BARE = ("-nodefaults", "-no-user-config")
# A panic ends the machine. The rest saves a second of waiting for what is not there.
_KERNEL_COMMAND_LINE = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check tsc=reliable"


class QemuLinuxSession(QemuSession):
    """Serial ports: the first is the kernel's console, the second the agent's (linux_guest/init.sh). A disk
    is found in the guest by its device's serial number, which is its name."""

    _files: GuestFiles
    _agent: Agent | None = None

    def machine_arguments(self) -> list[str]:
        arguments = [*_MACHINE, *_BARE, "-append", _KERNEL_COMMAND_LINE]
        arguments += ["-kernel", str(self._files.kernel), "-initrd", str(self._files.first_files)]
        for number, descriptor in enumerate(self.pass_fds):
            arguments += ["-chardev", f"socket,id=serial{number},fd={descriptor}"]
            arguments += ["-serial", f"chardev:serial{number}"]
        return arguments

    def device_options(self, name: str) -> str:
        return f"{super().device_options(name)},serial={name}"

    async def start(self) -> None:
        self._files = await asyncio.to_thread(guest_files)
        pairs = [socket.socketpair() for _ in range(2)]
        self.pass_fds = [theirs.fileno() for _, theirs in pairs]
        try:
            await super().start()
        except BaseException:
            for ours, _ in pairs:
                ours.close()
            raise
        finally:
            for _, theirs in pairs:
                theirs.close()
        self._agent = Agent(self, *(ours for ours, _ in pairs))

    async def ready(self) -> None:
        await self._linux.boot()

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
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    async def wait_end(self, timeout_ns: int) -> tuple[int | None, str]:
        """With the last that the guest's kernel said, which tells of a panic."""
        status, stderr = await super().wait_end(timeout_ns)
        screen = self._agent.last_screen if self._agent is not None else ""
        return status, f"{stderr}\nthe guest's last screen:\n{screen}" if screen else stderr
