"""A host's file system in memory, the same on every run; see host.py for what it is to a driver."""

from __future__ import annotations

import posixpath
from errno import EACCES, EBADF, EEXIST, EFBIG, EINVAL, EISDIR, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, EXDEV
from os import strerror

from simulator.block.contents import Contents
from simulator.block.errors import QmpError
from simulator.block.extents import ExtentMap
from simulator.block.host import Host, HostFile, HostStream, HostTerminal, cannot_connect, os_error
from simulator.block.memory_specials import NullDevice, OpenDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from simulator.block.host import Receive

_BLOCK_BYTES = 4096
_DATA, _UNWRITTEN = 1, 2
_NULL_DEVICE = "/dev/null"


def _is_own_or_number(name: str) -> bool:
    """Whether it is the host's own name, or an address as a number."""
    octets = name.split(".")
    is_number = len(octets) == 4 and all(each.isdigit() and int(each) < 256 for each in octets)
    return name in ("", "localhost") or ":" in name or is_number


class _Volume:
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


class _Inode:
    """A regular file in memory. `blocks` says of each 4 KiB block whether it is data, or allocated but
    unwritten (what fallocate leaves), as the tools see through SEEK_DATA and st_blocks."""

    __slots__ = ("blocks", "contents", "linked", "locks", "readable", "volume", "writable")

    def __init__(self, volume: _Volume) -> None:
        self.volume = volume
        self.contents = Contents()
        self.blocks = ExtentMap()
        self.locks: dict[int, list[MemoryFile]] = {}
        self.linked = True
        self.readable = True
        self.writable = True


class MemoryHost(Host):
    """A file system in memory, the same on every run.

    `capacity_bytes` bounds what all files together allocate (ENOSPC), but for those in directories that
    something is mounted on, `file_limit_bytes` the size of each (EFBIG). `servers`: what listens on a unix
    socket of that path, and makes a connection when called.
    """

    def __init__(self, capacity_bytes: int | None = None, cwd: str = "/") -> None:
        self.file_limit_bytes = (1 << 63) - 1
        self._root = _Volume(capacity_bytes, is_tmpfs=False)
        self._mounted: dict[str, _Volume] = {}  # by full path
        self.cwd = cwd
        self._terminals = 0  # opened so far
        self._inodes: dict[str, _Inode] = {}
        self._directories: dict[str, None] = {"/": None}
        self.servers: dict[str, Callable[[Receive], HostStream]] = {}
        if cwd != "/":
            self.make_directories(cwd)

    @property
    def allocated_bytes(self) -> int:
        """By files where nothing else is mounted."""
        return self._root.allocated_bytes

    def mount(self, path: str, capacity_bytes: int) -> None:
        """A file system of its own on a new directory, as a tmpfs is one: its files share that much room."""
        self.make_directories(path)
        self._mounted[self._resolve(path)] = _Volume(capacity_bytes, is_tmpfs=True)

    def _volume(self, full_path: str) -> _Volume:
        while full_path != "/":
            full_path = posixpath.dirname(full_path)
            if full_path in self._mounted:
                return self._mounted[full_path]
        return self._root

    def _resolve(self, path: str) -> str:
        """The absolute path; checks that its directory is there."""
        if not path:
            raise os_error(ENOENT, path)
        full = posixpath.normpath(posixpath.join(self.cwd, path))
        if full.startswith("//"):
            full = full[1:]
        parent = posixpath.dirname(full)
        if parent not in self._directories:
            while parent not in self._directories and parent not in self._inodes:
                parent = posixpath.dirname(parent)
            raise os_error(ENOTDIR if parent in self._inodes else ENOENT, path)
        return full

    def _inode(self, path: str) -> _Inode:
        full = self._resolve(path)
        if full in self._directories:
            raise os_error(EISDIR, path)
        if full not in self._inodes:
            raise os_error(ENOENT, path)
        return self._inodes[full]

    def open(self, path: str, read_only: bool = False, create: bool = False) -> HostFile:
        if path == _NULL_DEVICE:
            return NullDevice(path, not read_only)
        full = self._resolve(path)
        if full in self._directories:
            if create or not read_only:
                raise os_error(EISDIR, path)
            return OpenDirectory(path)
        if full not in self._inodes:
            if not create:
                raise os_error(ENOENT, path)
            self._inodes[full] = _Inode(self._volume(full))
        inode = self._inodes[full]
        if not inode.readable or not (read_only or inode.writable):
            raise os_error(EACCES, path)
        return MemoryFile(self, inode, path, not read_only)

    def exists(self, path: str) -> bool:
        try:
            full = self._resolve(path)
        except OSError:
            return False
        return full in self._inodes or full in self._directories

    def unlink(self, path: str) -> None:
        self._inode(path)
        # What is still open keeps its bytes until it is closed, as on the host; that is not counted any more.
        inode = self._inodes.pop(self._resolve(path))
        inode.volume.allocated_bytes -= inode.blocks.covered_bytes
        inode.linked = False

    def rename(self, path: str, new_path: str) -> None:
        inode = self._inode(path)
        new_full = self._resolve(new_path)
        if new_full in self._directories:
            raise os_error(EISDIR, new_path)
        if self._volume(new_full) is not inode.volume:
            raise os_error(EXDEV, new_path)
        if self._inodes.get(new_full) is inode:
            return
        if new_full in self._inodes:
            self.unlink(new_path)
        del self._inodes[self._resolve(path)]
        self._inodes[new_full] = inode

    def mkdir(self, path: str) -> None:
        full = self._resolve(path)
        if full in self._directories or full in self._inodes:
            raise os_error(EEXIST, path)
        self._directories[full] = None

    def make_directories(self, path: str) -> None:
        """Like mkdir -p."""
        full = posixpath.normpath(posixpath.join("/", path))
        parent = posixpath.dirname(full)
        if full in self._directories:
            return
        self.make_directories(parent)
        self.mkdir(full)

    def rmdir(self, path: str) -> None:
        full = self._resolve(path)
        if full not in self._directories:
            raise os_error(ENOTDIR if full in self._inodes else ENOENT, path)
        if self.list(path):
            raise os_error(ENOTEMPTY, path)
        del self._directories[full]

    def list(self, path: str) -> list[str]:
        full = posixpath.normpath(posixpath.join(self.cwd, path))
        if full not in self._directories:
            raise os_error(ENOTDIR if full in self._inodes else ENOENT, path)
        prefix = full if full.endswith("/") else full + "/"
        everything = [*self._inodes, *self._directories]
        return sorted(
            name[len(prefix) :]
            for name in everything
            if name.startswith(prefix) and len(name) > len(prefix) and "/" not in name[len(prefix) :]
        )

    def connect(self, address: dict[str, Any], receive: Receive) -> HostStream:
        if address["type"] != "unix":
            return super().connect(address, receive)
        if address["path"] not in self.servers:
            raise cannot_connect(address, ENOENT)
        return self.servers[address["path"]](receive)

    def check_listen(self, address: dict[str, Any]) -> None:
        """This host knows no other name than its own."""
        if address["type"] == "inet" and not _is_own_or_number(address["host"]):
            place = f"{address['host']}:{address['port']}"
            raise QmpError(f"address resolution failed for {place}: Name or service not known")
        if address["type"] == "unix" and not address.get("abstract"):
            try:
                self._resolve(address["path"])
            except OSError as error:
                reason = strerror(error.errno or EINVAL)
                raise QmpError(f"Failed to bind socket to {address['path']}: {reason}") from None

    def open_terminal(self) -> HostTerminal:
        self._terminals += 1
        return HostTerminal(f"/dev/pts/{self._terminals}")

    def set_mode(self, path: str, readable: bool = True, writable: bool = True) -> None:
        """Later opens without the right fail with EACCES."""
        inode = self._inode(path)
        inode.readable, inode.writable = readable, writable

    def files(self) -> Iterator[str]:
        """The full paths of all regular files, oldest first."""
        yield from self._inodes


class MemoryFile(HostFile):
    """An open file of a MemoryHost."""

    __slots__ = ("_host", "_inode", "closed", "path", "writable")

    def __init__(self, host: MemoryHost, inode: _Inode, path: str, writable: bool) -> None:
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
