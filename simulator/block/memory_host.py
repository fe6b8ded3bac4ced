"""A host's file system in memory, the same on every run; see host.py for what it is to a driver."""

from __future__ import annotations

import posixpath
from errno import EACCES, ECONNREFUSED, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EXDEV
from os import strerror

from simulator.block import memory_streams
from simulator.block.errors import QmpError
from simulator.block.host import Host, HostFile, HostListener, HostTerminal, cannot_connect, os_error
from simulator.block.memory_files import Inode, MemoryFile, Volume
from simulator.block.memory_specials import NullDevice, OpenDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from simulator.block.host import Accept, HostStream, Receive
    from simulator.block.memory_streams import Later

_NULL_DEVICE = "/dev/null"


def _check_port(address: dict[str, Any]) -> None:
    """This host knows no services by name. Raises QmpError."""
    if address["type"] == "inet" and not str(address["port"]).isdigit():
        place = f"{address['host']}:{address['port']}"
        raise QmpError(f"address resolution failed for {place}: Servname not supported for ai_socktype")


def _is_own_or_number(name: str) -> bool:
    """Whether it is the host's own name, or an address as a number."""
    octets = name.split(".")
    is_number = len(octets) == 4 and all(each.isdigit() and int(each) < 256 for each in octets)
    return name in ("", "localhost") or ":" in name or is_number


class MemoryHost(Host):
    """A file system in memory, the same on every run.

    `capacity_bytes` bounds what all files together allocate (ENOSPC), but for those in directories that
    something is mounted on, `file_limit_bytes` the size of each (EFBIG). `servers`: what listens on a unix
    socket of that path, and makes a connection when called. `later`: what carries bytes between processes.
    """

    def __init__(self, capacity_bytes: int | None = None, cwd: str = "/") -> None:
        self.file_limit_bytes = (1 << 63) - 1
        self._root = Volume(capacity_bytes, is_tmpfs=False)
        self._mounted: dict[str, Volume] = {}  # by full path
        self.cwd = cwd
        self._terminals = 0  # opened so far
        self._inodes: dict[str, Inode] = {}
        self._directories: dict[str, None] = {"/": None}
        self.servers: dict[str, Callable[[Receive], HostStream]] = {}
        self.later: Later = _at_once
        self.left_sockets: dict[str, None] = {}  # full paths of sockets whose servers have died
        if cwd != "/":
            self.make_directories(cwd)

    @property
    def allocated_bytes(self) -> int:
        """By files where nothing else is mounted."""
        return self._root.allocated_bytes

    def mount(self, path: str, capacity_bytes: int) -> None:
        """A file system of its own on a new directory, as a tmpfs is one: its files share that much room."""
        self.make_directories(path)
        self._mounted[self._resolve(path)] = Volume(capacity_bytes, is_tmpfs=True)

    def _volume(self, full_path: str) -> Volume:
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

    def _inode(self, path: str) -> Inode:
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
            self._inodes[full] = Inode(self._volume(full))
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
            _check_port(address)
            return super().connect(address, receive)
        path = self._socket(address)
        if path not in self.servers:
            raise cannot_connect(address, ECONNREFUSED if path in self.left_sockets else ENOENT)
        return self.servers[path](receive)

    def listen(self, address: dict[str, Any], accept: Accept) -> HostListener:
        if address["type"] != "unix":
            return super().listen(address, accept)
        self.check_listen(address)
        path = self._socket(address)
        self.left_sockets.pop(path, None)
        self.servers[path] = lambda receive: memory_streams.connect(self.later, receive, accept)
        return memory_streams.Listener(self.servers, self.left_sockets, path)

    def _socket(self, address: dict[str, Any]) -> str:
        return posixpath.normpath(posixpath.join(self.cwd, address["path"]))

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


def _at_once(act: Callable[[], None]) -> None:
    """What `later` is where no processes meet."""
    act()
