"""Files of a host in memory, and the file systems that they are on."""

from __future__ import annotations

from errno import EBADF, EFBIG, EINVAL, ENOSPC

from simulator.block.contents import Contents
from simulator.block.extents import ExtentMap
from simulator.block.host import HostFile, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.memory_host import MemoryHost

_BLOCK_BYTES = 4096
_DATA, _UNWRITTEN = 1, 2


class Volume:
    """A file system: what its files may allocate together (None: no end), and do. On a tmpfs ranges
    become zero by a hole that is then allocated (it has no FALLOC_FL_ZERO_RANGE), and a hole up to the end of
    a file leaves the last block if it does not cover all of it."""

    __slots__ = ("allocated_bytes", "capacity_bytes", "is_tmpfs")

    def __init__(self, capacity_bytes: int | None, is_tmpfs: bool) -> None:
        self.capacity_bytes, self.is_tmpfs = capacity_bytes, is_tmpfs
        self.allocated_bytes = 0

    def room_bytes(self) -> int | None:
        """Whole blocks only."""
        if self.capacity_bytes is None:
            return None
        left = self.capacity_bytes - self.allocated_bytes
        return left - left % _BLOCK_BYTES


class Inode:
    """A regular file in memory. `blocks` says of each 4 KiB block whether it is data, or allocated but
    unwritten (what fallocate leaves), as the tools see through SEEK_DATA and st_blocks."""

    __slots__ = ("blocks", "contents", "linked", "locks", "readable", "volume", "writable")

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.contents = Contents()
        self.blocks = ExtentMap()
        self.locks: dict[int, list[MemoryFile]] = {}
        self.linked = True
        self.readable = True
        self.writable = True


class MemoryFile(HostFile):
    """An open file of a MemoryHost."""

    __slots__ = ("_host", "_inode", "closed", "path", "writable")

    def __init__(self, host: MemoryHost, inode: Inode, path: str, writable: bool) -> None:
        self._host, self._inode, self.path, self.writable = host, inode, path, writable
        self.closed = False

    def read(self, offset: int, length: int) -> bytes:
        self._check(False)
        return self._inode.contents.read(offset, length)

    def write(self, offset: int, payload: bytes) -> None:
        """Where room runs out, what there is room for is written (as on the host: a short write, and only
        then the error)."""
        if payload:
            self._check(True)
            end = offset + len(payload)
            limit = self._last_with_room(offset, end)
            if limit > offset:
                self._allocate(offset, limit)
                self._inode.contents.write(offset, payload[: limit - offset])
            if limit < end:
                raise os_error(ENOSPC)

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        self._check(True)
        end = offset + length
        if unmap:
            self.discard(offset, length)
            return
        if self._inode.volume.is_tmpfs:
            self.discard(offset, length)
        self._allocate(offset, end)
        inode = self._inode
        inode.contents.fill(offset, length, 0)
        first, last = offset + -offset % _BLOCK_BYTES, end - end % _BLOCK_BYTES
        if end == inode.contents.size_bytes:
            last = end + -end % _BLOCK_BYTES
        inode.blocks.set(first, last, _UNWRITTEN)

    def discard(self, offset: int, length: int) -> None:
        self._check(True)
        inode = self._inode
        end = min(offset + length, inode.contents.size_bytes)
        if offset >= end:
            return
        inode.contents.punch(offset, end - offset)
        first, last = offset + -offset % _BLOCK_BYTES, end - end % _BLOCK_BYTES
        beyond = offset + length > inode.contents.size_bytes
        if inode.volume.is_tmpfs:
            last = (offset + length) // _BLOCK_BYTES * _BLOCK_BYTES
        elif beyond:
            # A hole that ends just where the file does leaves its last block (ext4_punch_hole).
            last = end + -end % _BLOCK_BYTES
        self._release(first, last)

    def truncate(self, size_bytes: int) -> None:
        self._check(True)
        if size_bytes < 0:
            raise os_error(EINVAL)
        if size_bytes > self._host.file_limit_bytes:
            raise os_error(EFBIG)
        old = self._inode.contents.size_bytes
        self._inode.contents.resize(size_bytes)
        self._release(size_bytes + -size_bytes % _BLOCK_BYTES, old + -old % _BLOCK_BYTES)

    def size_bytes(self) -> int:
        return self._inode.contents.size_bytes

    def allocated_bytes(self) -> int:
        return self._inode.blocks.covered_bytes

    def run_at(self, offset: int, limit: int) -> tuple[int, bool]:
        self._check(False)
        end_of_file = self.size_bytes()
        if offset >= end_of_file:
            return limit, False
        blocks = self._inode.blocks
        end, kind = blocks.run_at(offset, limit)
        while end < limit:
            next_end, next_kind = blocks.run_at(end, limit)
            if (next_kind == _DATA) != (kind == _DATA):
                break
            end = next_end
        if kind == _DATA:
            return min(end, end_of_file), True
        return end, False

    def direct_alignment(self) -> tuple[int, int]:
        return 512, 512 if self.run_at(0, 1)[1] else 1

    def flush(self) -> None:
        self._check(False)

    def lock_byte(self, byte: int) -> None:
        self._check(False)
        holders = self._inode.locks.setdefault(byte, [])
        if self not in holders:
            holders.append(self)

    def unlock_byte(self, byte: int) -> None:
        holders = self._inode.locks.get(byte, [])
        if self in holders:
            holders.remove(self)

    def locked_by_another(self, byte: int) -> bool:
        holders = self._inode.locks.get(byte)
        return holders is not None and len(holders) > (self in holders)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            for holders in self._inode.locks.values():
                if self in holders:
                    holders.remove(self)

    def _check(self, for_write: bool) -> None:
        if self.closed or (for_write and not self.writable):
            raise os_error(EBADF)

    def _last_with_room(self, offset: int, end: int) -> int:
        """Up to where [offset, end) has its blocks or can get them, from its start."""
        blocks, room = self._inode.blocks, self._inode.volume.room_bytes()
        if room is None:
            return end
        at = offset - offset % _BLOCK_BYTES
        last = end + -end % _BLOCK_BYTES
        while at < last:
            run_end, present = blocks.run_at(at, last)
            if not present:
                if run_end - at > room:
                    return max(at + room, offset)
                room -= run_end - at
            at = run_end
        return end

    def _allocate(self, offset: int, end: int) -> None:
        """Room for [offset, end), as data, or for none of it."""
        volume, blocks = self._inode.volume, self._inode.blocks
        if end > self._host.file_limit_bytes:
            raise os_error(EFBIG)
        first, last = offset - offset % _BLOCK_BYTES, end + -end % _BLOCK_BYTES
        run_end, present = blocks.run_at(first, last)
        if run_end == last and present == _DATA:
            return
        missing = last - first - blocks.covered_in(first, last)
        room = volume.room_bytes()
        if room is not None and missing > room:
            raise os_error(ENOSPC)
        blocks.set(first, last, _DATA)
        if self._inode.linked:
            volume.allocated_bytes += missing

    def _release(self, first: int, last: int) -> None:
        if first < last:
            freed = self._inode.blocks.covered_in(first, last)
            self._inode.blocks.clear(first, last)
            if freed and self._inode.linked:
                self._inode.volume.allocated_bytes -= freed
