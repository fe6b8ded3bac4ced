"""Driver `blklogwrites`: a filter that logs what is written, as Linux's dm-log-writes does. Source:
block/blklogwrites.c, 7.2."""

from __future__ import annotations

from struct import Struct

from simulator.block import permissions
from simulator.block.driver import Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FILE, _LOG = "file", "log"
_MAGIC, _VERSION = 0x6A736677736872, 1
_SUPER = Struct("<QQQL")  # magic, version, entries, bytes of a sector
_ENTRY = Struct("<QQQQ")  # first sector, sectors, flags, 0
_FLUSH, _DISCARD = 1, 4
_KNOWN_FLAGS = 15
_DEFAULT_SECTOR_BYTES = 512
_DEFAULT_INTERVAL = 4096


class Blklogwrites(Driver):
    """Options `log-append`, `log-sector-size` (bytes), `log-super-update-interval` (requests). The file is
    written before the log."""

    format_name = "blklogwrites"
    is_filter = True
    can_reopen = False
    children = ((_FILE, permissions.FILTERED | permissions.PRIMARY, True), (_LOG, permissions.METADATA, True))
    strong_options = ("log-append", "log-sector-size")
    size_options = ("log-sector-size",)

    _sector_bytes = _DEFAULT_SECTOR_BYTES

    async def open(self, options: dict[str, Any]) -> None:
        self._entries, self._next_sector = 0, 1
        if options.get("log-append", False):
            if "log-sector-size" in options:
                raise QmpError("log-append and log-sector-size are mutually exclusive")
            self._sector_bytes = await self._continue()
        else:
            self._sector_bytes = int(options.get("log-sector-size", _DEFAULT_SECTOR_BYTES))
            self._check_sector()
        self._interval = int(options.get("log-super-update-interval", _DEFAULT_INTERVAL))
        if not self._interval:
            raise QmpError("Invalid log superblock update interval 0")
        await super().open(options)

    @property
    def request_alignment(self) -> int:  # type: ignore[override]
        return self._sector_bytes

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        if name == _LOG and self.node.graph.rules.new_children_are_asked_nothing and not self.node.parents:
            return perm, shared
        return super().child_permissions(name, role, perm, shared)

    def _check_sector(self) -> None:
        size = self._sector_bytes
        if size.bit_count() != 1 or not _ENTRY.size <= size < 1 << 24:
            raise QmpError(f"Invalid log sector size {size}")

    async def _continue(self) -> int:
        """Where a log that is there ends; returns the bytes of its sectors. Raises QmpError."""
        log = self.node.children[_LOG]
        if not log.node.size_bytes:
            return _DEFAULT_SECTOR_BYTES
        magic, version, entries, size = _SUPER.unpack(await log.read(0, _SUPER.size))
        if magic != _MAGIC:
            raise QmpError("Invalid log superblock magic")
        if version != _VERSION:
            raise QmpError(f"Unsupported log version {version}")
        self._sector_bytes = size
        self._check_sector()
        for index in range(entries):
            entry = await log.read(self._next_sector * size, _ENTRY.size)
            _, sectors, flags, _ = _ENTRY.unpack(entry)
            if flags & ~_KNOWN_FLAGS:
                raise QmpError(f"Invalid flags 0x{flags:x} in log entry {index}")
            self._next_sector += 1 if flags & _DISCARD else 1 + sectors
        self._entries = entries
        return int(size)

    async def _log(self, offset: int, length: int, flags: int, payload: bytes, zeroes: int = 0) -> None:
        """One entry, with `payload` or that many zeroes behind it."""
        size, log = self._sector_bytes, self.node.children[_LOG]
        place = self._next_sector * size
        head = _ENTRY.pack(offset // size, length // size, flags, 0)
        written = head + bytes(size - len(head)) + payload
        self._entries += 1
        self._next_sector += (len(written) + zeroes) // size
        await log.write(place, written)
        if zeroes:
            await log.write_zeroes(place + len(written), zeroes)
        if flags & _FLUSH or self._entries % self._interval == 0:
            block = _SUPER.pack(_MAGIC, _VERSION, self._entries, size)
            await log.write(0, block + bytes(size - len(block)))
            await log.flush()

    # -- requests, in whole sectors of the log
    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        size = self._sector_bytes
        end = offset + len(payload)
        start, stop = offset - offset % size, end + -end % size
        head = await self.file.read(start, offset - start) if start < offset else b""
        tail = await self.file.read(end, stop - end) if end < stop else b""
        whole = head + payload + tail
        await self.file.write(start, whole, flags)
        await self._log(start, len(whole), 0, whole)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        if (offset | length) % self._sector_bytes:
            await self.write(offset, bytes(length), flags)
            return
        await self.file.write_zeroes(offset, length, flags)
        await self._log(offset, length, 0, b"", length)

    async def discard(self, offset: int, length: int) -> None:
        size = self._sector_bytes
        start, end = offset + -offset % size, (offset + length) // size * size
        if start < end:
            await self.file.discard(start, end - start)
            await self._log(start, end - start, _DISCARD, b"")

    async def flush_to_disk(self) -> None:
        await self.file.flush()
        await self._log(0, 0, _FLUSH, b"")
