"""A guest's requests through HMP `qemu-io`, and what it prints about them on the machine's standard output.

qemu-io reports there, not in the monitor's reply (qemu-io-cmds.c, 7.2): ``wrote N/N bytes at offset O`` and a
line of statistics, or ``aio_write failed: Input/output error``, which does not say which request failed. The
aio_ commands return to the monitor at once, so requests run concurrently and the machine answers QMP
meanwhile. A failure is given to the oldest request of its kind as soon as no success can explain any other,
see QemuIoReports._settle. `flush` prints nothing, not even when it fails.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from scenarios.backends.interface import NbdFailed

Kind = Literal["wrote", "read", "discard"]

_DONE = re.compile(r"(wrote|read|discard) (\d+)/(\d+) bytes at offset (\d+)$")
_FAILED = re.compile(r"(aio_write|write|readv|read|discard) failed: (.*)$")
_OTHER_CONTENT = re.compile(r"Pattern verification failed at offset (\d+), (\d+) bytes$")
_DUMP = re.compile(r"[0-9a-f]{8,}:  ((?:[0-9a-f]{2} )+)")
_KIND_OF: dict[str, Kind] = {
    "aio_write": "wrote",
    "write": "wrote",
    "readv": "read",
    "read": "read",
    "discard": "discard",
}
_ERRNO_NAMES = {os.strerror(number): name for number, name in errno.errorcode.items()}
# What a read may ask to be printed byte by byte; above, it is only verified.
LARGEST_DUMP_BYTES = 16 * 1024
_REQUEST_NS = 60_000_000_000


class Report:
    """One request on its way. The future holds the bytes of a dumping read, b"" for all others."""

    def __init__(self, kind: Kind, offset: int, length: int) -> None:
        self.kind, self.offset, self.length = kind, offset, length
        self.other_content = False
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class QemuIoReports:
    """Reads the machine's standard output and settles the requests that it reports about."""

    def __init__(self) -> None:
        self._partial = b""
        self._waiting: list[Report] = []
        self._failures: dict[Kind, list[str]] = {"wrote": [], "read": [], "discard": []}
        self._dump = bytearray()
        self.of_blkdebug: list[str] = []

    def expect(self, kind: Kind, offset: int, length: int) -> Report:
        """To be called before the command is sent."""
        report = Report(kind, offset, length)
        self._waiting.append(report)
        return report

    def forget(self, report: Report) -> None:
        """The request was refused before it was made, or nobody waits for it any more."""
        if report in self._waiting:
            self._waiting.remove(report)
            self._settle(report.kind)

    def feed(self, piece: bytes) -> None:
        """What the machine printed, in any portions."""
        *lines, self._partial = (self._partial + piece).split(b"\n")
        for line in lines:
            self._line(line.decode(errors="replace").rstrip("\r"))

    def _line(self, line: str) -> None:
        if found := _DONE.match(line):
            self._done(_KIND_OF["write" if found[1] == "wrote" else found[1]], int(found[4]), int(found[3]))
        elif found := _FAILED.match(line):
            kind = _KIND_OF[found[1]]
            if self._of(kind):
                self._failures[kind].append(found[2])
                self._settle(kind)
        elif found := _OTHER_CONTENT.match(line):
            report = self._find("read", int(found[1]), int(found[2]))
            if report is not None:
                report.other_content = True
        elif found := _DUMP.match(line):
            self._dump += bytes.fromhex(found[1])
        elif line.startswith("blkdebug: "):
            self.of_blkdebug.append(line)

    def _of(self, kind: Kind) -> list[Report]:
        return [report for report in self._waiting if report.kind == kind]

    def _find(self, kind: Kind, offset: int, length: int) -> Report | None:
        """Requests of the same kind and range are interchangeable, but for a pattern that was already found
        wrong."""
        alike = [report for report in self._of(kind) if (report.offset, report.length) == (offset, length)]
        return next((report for report in alike if not report.other_content), alike[0] if alike else None)

    def _done(self, kind: Kind, offset: int, length: int) -> None:
        alike = [report for report in self._of(kind) if (report.offset, report.length) == (offset, length)]
        content, self._dump = bytes(self._dump), bytearray()
        if not alike:
            return
        # A wrong pattern is printed right before its own report, so that one is meant.
        report = next((report for report in alike if report.other_content), alike[0])
        self._waiting.remove(report)
        _resolve(report, content)
        self._settle(kind)

    def _settle(self, kind: Kind) -> None:
        """Once there are as many failures as requests left of the kind, each of these has failed."""
        left = self._of(kind)
        if left and len(self._failures[kind]) >= len(left):
            for report, words in zip(left, self._failures[kind], strict=False):
                self._waiting.remove(report)
                if not report.future.done():
                    report.future.set_exception(NbdFailed(_ERRNO_NAMES.get(words, words), words))
        if not self._of(kind):
            self._failures[kind].clear()


def _resolve(report: Report, content: bytes) -> None:
    if not report.future.done():
        report.future.set_result(content)


class Console(Protocol):
    """What a guest needs of its session: the monitor, and waiting that ends when the machine does."""

    async def hmp(self, line: str) -> str: ...

    async def unless_gone(self, future: asyncio.Future[bytes], waited_for: str, timeout_ns: int) -> bytes: ...


class QemuIoGuest:
    """`target` gives the words between ``qemu-io`` and the command: a device (-d PATH), a drive or a node."""

    largest_request_bytes: int | None = None

    def __init__(
        self, console: Console, reports: QemuIoReports, target: Callable[[], Awaitable[str]]
    ) -> None:
        self._console, self._reports, self._target = console, reports, target

    async def write(self, offset: int, length: int, pattern: int) -> None:
        await self._request("wrote", f"aio_write -P {pattern}", offset, length)

    async def zero(self, offset: int, length: int, unmap: bool) -> None:
        await self._request("wrote", "aio_write -z -u" if unmap else "aio_write -z", offset, length)

    async def discard(self, offset: int, length: int) -> None:
        await self._request("discard", "discard", offset, length)

    async def flush(self) -> None:
        await self._command("flush")

    async def read(self, offset: int, length: int) -> bytes | None:
        """The bytes up to 16 KiB, None above: qemu-io prints them in hexadecimal, which is slow."""
        if length > LARGEST_DUMP_BYTES:
            await self._request("read", "aio_read", offset, length)
            return None
        _, content = await self._request("read", "aio_read -v", offset, length)
        return content

    async def verify(self, offset: int, length: int, pattern: int) -> bool:
        report, _ = await self._request("read", f"aio_read -P {pattern}", offset, length)
        return not report.other_content

    async def _request(self, kind: Kind, command: str, offset: int, length: int) -> tuple[Report, bytes]:
        report = self._reports.expect(kind, offset, length)
        try:
            await self._command(f"{command} {offset} {length}")
            what = f"report of guest's {command} {offset} {length}"
            return report, await self._console.unless_gone(report.future, what, _REQUEST_NS)
        finally:
            self._reports.forget(report)

    async def _command(self, command: str) -> None:
        said = (await self._console.hmp(f'qemu-io {await self._target()} "{command}"')).strip()
        if said:
            raise NbdFailed("EINVAL", f"qemu-io {command}: {said}")
