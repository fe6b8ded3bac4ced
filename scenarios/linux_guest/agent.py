"""Talks to the Linux guest on its second serial port (see init.sh), and keeps what the kernel says on the
first.

Requests overlap and are answered in any order. All of it is coroutines on asyncio; a wait ends when the
machine does, or at its deadline, and then tells the last that the kernel said.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
from collections.abc import Callable
from typing import Protocol

from scenarios.backends.interface import DeadlinePassed, NbdFailed

BOOT_NS = 90_000_000_000
_REQUEST_NS = 60_000_000_000
_LAST_LINES = 40
_READ_BYTES = 1 << 16
_DUMP_LINE_BYTES = 16
_SECTOR_BYTES = 512
# A longer request of a guest may reach QEMU as several: the kernel cuts where one would have
# too many pieces.
LARGEST_REQUEST_BYTES = 64 << 10
_ERRNO_NAMES = {os.strerror(number): name for number, name in errno.errorcode.items()}
_DATA = re.compile(r"data ([0-9a-f]{8})(?:  ((?:[0-9a-f]{2} ?| )+))?$")


class Waits(Protocol):
    """What of a session an agent needs."""

    async def unless_gone(self, future: asyncio.Future[None], waited_for: str, timeout_ns: int) -> None: ...


class _Answer:
    """One request on its way, and the lines that have come for it."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lines: list[str] = []


class Lines:
    """A connected socket as lines, each handed to `sink` as soon as it is there."""

    def __init__(self, connected: socket.socket, sink: Callable[[str], None]) -> None:
        self._socket, self._sink = connected, sink
        self._partial = b""
        self._loop = asyncio.get_running_loop()
        connected.setblocking(False)
        self._loop.add_reader(connected.fileno(), self._read)
        self._open = True

    def send(self, line: str) -> None:
        """Short enough for the socket's buffer, always."""
        self._socket.sendall(line.encode() + b"\n")

    def _read(self) -> None:
        try:
            piece = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            piece = b""
        if not piece:
            self.close()
            return
        *lines, self._partial = (self._partial + piece).split(b"\n")
        for line in lines:
            self._sink(line.decode(errors="replace").rstrip("\r"))

    def close(self) -> None:
        if self._open:
            self._open = False
            if self._partial:
                self._sink(self._partial.decode(errors="replace"))
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()


class Agent:
    """One booted guest. `kernel` and `agent` are our ends of its serial ports; this owns them."""

    def __init__(self, session: Waits, kernel: socket.socket, agent: socket.socket) -> None:
        self._session = session
        self._said: list[str] = []
        self._waiting: dict[str, _Answer] = {}
        self._devices: dict[str, str] = {}
        self._count = 0
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kernel = Lines(kernel, self._kernel_line)
        self._agent = Lines(agent, self._agent_line)

    @property
    def last_screen(self) -> str:
        """What the kernel, and on its port whoever else, said last."""
        return "\n".join(self._said)

    async def boot(self) -> None:
        """Until the guest takes requests. Raises DeadlinePassed, MachineGone."""
        await self._wait(self._ready, "the Linux guest to boot", BOOT_NS)

    async def see_size(self, disk: str, size: int) -> None:
        """Until the guest's kernel knows that the disk has that many bytes. Raises DeadlinePassed,
        MachineGone."""
        await self.request("sized", disk, size // _SECTOR_BYTES)

    def close(self) -> None:
        self._kernel.close()
        self._agent.close()

    async def request(
        self, verb: str, disk: str, offset: int = 0, length: int = 0, value: int = 0
    ) -> list[str]:
        """The lines of a read's dump; raises NbdFailed with the errno that the guest's program got."""
        self._count += 1
        number = str(self._count)
        answer = self._waiting[number] = _Answer()
        what = f"guest's {verb} {offset} {length} of {disk}"
        try:
            with contextlib.suppress(OSError):  # the machine is gone: the wait below says so
                # The value as printf and tr take it: three octal digits.
                self._agent.send(f"{number} {verb} {self._devices[disk]} {offset} {length} {value:03o}")
            await self._wait(answer.done, what, _REQUEST_NS)
        finally:
            del self._waiting[number]
        return answer.lines

    async def _wait(self, future: asyncio.Future[None], what: str, timeout_ns: int) -> None:
        try:
            await self._session.unless_gone(future, what, timeout_ns)
        except DeadlinePassed as error:
            told = f"{error.waited_for} (the kernel said last: {self.last_screen or 'nothing'})"
            raise DeadlinePassed(told, timeout_ns) from error

    def _kernel_line(self, line: str) -> None:
        self._said = [*self._said[1 - _LAST_LINES :], line]

    def _agent_line(self, line: str) -> None:
        first, _, rest = line.partition(" ")
        answer = self._waiting.get(first)
        if line == "ready" and not self._ready.done():
            self._ready.set_result(None)
        elif first == "disk":
            name, _, device = rest.partition(" ")
            self._devices[name] = device
        elif answer is None or answer.done.done():
            self._kernel_line(f"[second port] {line}")
        elif rest == "ok":
            answer.done.set_result(None)
        elif rest.startswith("failed: "):
            words = rest.rpartition(": ")[2]
            answer.done.set_exception(NbdFailed(_ERRNO_NAMES.get(words, words), rest))
        elif rest.startswith("data "):
            answer.lines.append(rest)
        else:
            answer.done.set_exception(NbdFailed("EPROTO", f"the guest answered {line!r}"))


def bytes_of_dump(lines: list[str]) -> bytes:
    """What `hexdump -C` was given: lines of 16 bytes, "*" for more of the line before. Raises NbdFailed."""
    content = bytearray()
    repeated = False
    for line in lines:
        if line == "data *":
            repeated = True
            continue
        found = _DATA.match(line.rstrip())
        if found is None:
            raise NbdFailed("EPROTO", f"the guest's dump has the line {line!r}")
        start = int(found[1], 16)
        if repeated and len(content) >= _DUMP_LINE_BYTES:
            missing = start - len(content)
            content += content[-_DUMP_LINE_BYTES:] * (missing // _DUMP_LINE_BYTES)
        repeated = False
        if start != len(content):
            raise NbdFailed("EPROTO", f"the guest's dump goes on at {start}, not at {len(content)}")
        content += bytes.fromhex(found[2] or "")
    return bytes(content)


class LinuxDisk:
    """One disk as the guest's programs see it (see interface.Guest)."""

    largest_request_bytes: int | None = LARGEST_REQUEST_BYTES

    def __init__(self, agent: Agent, disk: str) -> None:
        self._agent, self._disk = agent, disk

    async def read(self, offset: int, length: int) -> bytes | None:
        content = bytes_of_dump(await self._agent.request("read", self._disk, offset, length))
        if len(content) != length:
            raise NbdFailed("EPROTO", f"the guest read {len(content)} bytes of {length}")
        return content

    async def verify(self, offset: int, length: int, pattern: int) -> bool:
        return await self.read(offset, length) == pattern.to_bytes() * length

    async def write(self, offset: int, length: int, pattern: int) -> None:
        await self._agent.request("write", self._disk, offset, length, pattern)

    async def zero(self, offset: int, length: int, unmap: bool) -> None:
        await self._agent.request("unmap" if unmap else "zero", self._disk, offset, length)

    async def discard(self, offset: int, length: int) -> None:
        await self._agent.request("discard", self._disk, offset, length)

    async def flush(self) -> None:
        await self._agent.request("flush", self._disk)
