"""The real file system as a Host: what the simulated drivers read and write when run as an executable."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from errno import EINVAL, ENODEV, ENOSYS, ENOTSUP, ENOTTY, ENXIO, EOPNOTSUPP
from functools import partial
from mmap import mmap

from simulator.block import fdsets
from simulator.block.host import SAFE_ALIGNMENT, Host, HostFile, HostListener, HostStream, HostTerminal
from simulator.serve import network
from simulator.serve.outgoing import OfCommand, Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from simulator.block.host import Accept, Receive

# linux/falloc.h
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16
_ALIGNMENTS = (1, 512, 1024, 2048, SAFE_ALIGNMENT)
_UNSUPPORTED = (EOPNOTSUPP, ENOSYS, ENODEV, ENOTTY)

# struct flock of x86-64 and aarch64 Linux: l_type, l_whence, l_start, l_len, l_pid (0 for OFD locks).
_FLOCK = struct.Struct("=hh4xqqi4x")


class DiskHost(Host):
    """Files of the machine this runs on. Locks are the same bytes that QEMU locks, so each refuses the
    other. `on_connect` is given what was connected, to carry its bytes; `on_listen` a socket that listens
    and what is to be done when somebody has connected, or None when it is about to be closed."""

    on_connect: Callable[[socket.socket, Outgoing], None]
    on_listen: Callable[[socket.socket, Callable[[], None] | None], None]

    def connect(self, address: dict[str, Any], receive: Receive) -> HostStream:
        sock = network.connect(address)
        stream = Outgoing(receive)
        self.on_connect(sock, stream)
        return stream

    def run_command(self, command: str, receive: Receive) -> HostStream:
        sock, process = network.shell(command)
        stream = OfCommand(receive, process)
        self.on_connect(sock, stream)
        return stream

    def listen(self, address: dict[str, Any], accept: Accept) -> HostListener:
        return _Listener(self, network.listen(address), accept)

    def open_terminal(self) -> HostTerminal:
        return _Terminal()

    def open(self, path: str, read_only: bool = False, create: bool = False) -> HostFile:
        if path.startswith(fdsets.PREFIX) and self.fdsets is not None:
            return self._open_passed(self.fdsets, path, not read_only)
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return DiskFile(os.open(path, flags, 0o644), path, not read_only)

    @staticmethod
    def _open_passed(sets: fdsets.FdSets, path: str, writable: bool) -> HostFile:
        number, descriptor = sets.open(path, writable)
        copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)
        return PassedFile(copy, path, writable, partial(sets.closed, number))

    def may_open(self, descriptor: int, writable: bool) -> bool:
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        return access == (os.O_RDWR if writable else os.O_RDONLY)

    def close_descriptor(self, descriptor: int) -> None:
        os.close(descriptor)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rename(self, path: str, new_path: str) -> None:
        os.rename(path, new_path)

    def mkdir(self, path: str) -> None:
        os.mkdir(path)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))


class DiskFile(HostFile):
    """One open file description of the real host."""

    __slots__ = ("_fd", "is_device", "is_regular", "path", "writable")

    def __init__(self, fd: int, path: str, writable: bool) -> None:
        self._fd, self.path, self.writable = fd, path, writable
        mode = os.fstat(fd).st_mode
        self.is_regular = stat.S_ISREG(mode)
        self.is_device = stat.S_ISBLK(mode) or stat.S_ISCHR(mode)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def read(self, offset: int, length: int) -> bytes:
        payload = os.pread(self._fd, length, offset)
        if len(payload) == length:
            return payload
        pieces, have = [payload], len(payload)
        while have < length and pieces[-1]:
            pieces.append(os.pread(self._fd, length - have, offset + have))
            have += len(pieces[-1])
        return b"".join(pieces) + bytes(length - have)

    def write(self, offset: int, payload: bytes) -> None:
        done = os.pwrite(self._fd, payload, offset)
        view = memoryview(payload)
        while done < len(payload):
            done += os.pwrite(self._fd, view[done:], offset + done)

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        if unmap:
            self.discard(offset, length)
            return
        try:
            _fallocate(self._fd, _ZERO_RANGE, offset, length)
        except OSError as error:
            if error.errno != ENOTSUP:
                raise
            # A tmpfs has only the two steps (handle_aiocb_write_zeroes, block/file-posix.c, 7.2).
            self.discard(offset, length)
            _fallocate(self._fd, 0, offset, length)

    def discard(self, offset: int, length: int) -> None:
        _fallocate(self._fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length)

    def truncate(self, size_bytes: int) -> None:
        os.ftruncate(self._fd, size_bytes)

    def size_bytes(self) -> int:
        if self.is_device:
            return os.lseek(self._fd, 0, os.SEEK_END)
        return os.fstat(self._fd).st_size

    def allocated_bytes(self) -> int:
        return os.fstat(self._fd).st_blocks * 512

    def run_at(self, offset: int, limit: int) -> tuple[int, bool]:
        try:
            data = os.lseek(self._fd, offset, os.SEEK_DATA)
            if data > offset:
                return min(data, limit), False
            return min(os.lseek(self._fd, offset, os.SEEK_HOLE), limit), True
        except OSError as error:
            # ENXIO: a hole up to the end of the file, or behind it. Anything else: nothing is known.
            return limit, error.errno != ENXIO

    def direct_alignment(self) -> tuple[int, int]:
        """By trying (raw_probe_alignment, block/file-posix.c, 7.2)."""
        try:
            fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            return SAFE_ALIGNMENT, 1
        try:
            with mmap(-1, SAFE_ALIGNMENT) as page, memoryview(page) as buffer:
                taken = [length for length in _ALIGNMENTS if _takes(fd, buffer[:length])]
        finally:
            os.close(fd)
        return min(filter(lambda each: each > 1, taken), default=SAFE_ALIGNMENT), min(taken, default=1)

    def flush(self) -> None:
        os.fdatasync(self._fd)

    def lock_byte(self, byte: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))

    def unlock_byte(self, byte: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))

    def locked_by_another(self, byte: int) -> bool:
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        found = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, wanted)
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _takes(fd: int, buffer: memoryview) -> bool:
    try:
        os.preadv(fd, [buffer], 0)
    except OSError as error:
        return error.errno != EINVAL
    finally:
        buffer.release()
    return True


class PassedFile(DiskFile):
    """One that a client has opened and passed: its set is told when it is closed."""

    __slots__ = ("_on_close",)

    def __init__(self, fd: int, path: str, writable: bool, on_close: Callable[[], None]) -> None:
        super().__init__(fd, path, writable)
        self._on_close = on_close

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._on_close()


_libc_fallocate = None


class _Terminal(HostTerminal):
    """As long as nobody has the other side open, reading and writing fail, and nobody does."""

    def __init__(self) -> None:
        self._descriptor, other = os.openpty()
        super().__init__(os.ttyname(other))
        os.close(other)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), which the os module does not have. ENOTSUP if the file system cannot."""
    # ctypes takes some milliseconds to import, and most runs never get here.
    global _libc_fallocate
    import ctypes

    if _libc_fallocate is None:
        function = ctypes.CDLL(None, use_errno=True).fallocate64
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        _libc_fallocate = function
    if length > 0 and _libc_fallocate(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        number = ENOTSUP if number in _UNSUPPORTED else number
        raise OSError(number, os.strerror(number))


class _Listener(HostListener):
    def __init__(self, host: DiskHost, listener: network.Listener, accept: Accept) -> None:
        self._host, self._listener, self._accept = host, listener, accept
        self.closed = False
        host.on_listen(listener.socket, self._ready)

    def _ready(self) -> None:
        try:
            sock, _ = self._listener.socket.accept()
        except OSError:
            return
        stream = Outgoing(lambda payload: receive(payload))
        receive = self._accept(stream)
        self._host.on_connect(sock, stream)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._host.on_listen(self._listener.socket, None)
            self._listener.close()
