"""The host's file system as block drivers see it, and QEMU's image locks on top of any.

Paths are POSIX paths. All failures are OSError with the errno that Linux gives, except locks (`LockError`).
"""

from __future__ import annotations

from errno import ECONNREFUSED, ENOENT
from os import strerror

from simulator.block import fdsets, permissions
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from simulator.block.fdsets import FdSets
    from simulator.wire.nbd.messages import Payload

    # Takes what a peer sent; nothing once, when it sends no more.
    Receive = Callable[[bytes], None]
    # Is given the way to a client that has connected, and takes what comes from it.
    Accept = Callable[["HostStream"], Receive]

# block/file-posix.c:128, 7.2: the byte of a permission that is in use, and of one that is not shared.
LOCK_PERM_BASE = 100
LOCK_SHARED_BASE = 200

# Of each set of permissions, the numbers that lock bytes are counted by.
_NUMBERS = tuple(
    tuple(number for number, (bit, _) in enumerate(permissions.NAMES) if perm & bit)
    for perm in range(permissions.ALL + 1)
)


def os_error(number: int, path: str = "") -> OSError:
    return OSError(number, strerror(number), path) if path else OSError(number, strerror(number))


def cannot_connect(address: dict[str, Any], number: int) -> QmpError:
    kind = address["type"]
    place = address["path"] if kind == "unix" else f"{address.get('host')}:{address.get('port')}"
    return QmpError(f"Failed to connect to '{place}': {strerror(number)}")


class LockError(QmpError):
    """Somebody else's use of the image does not go together with ours; `hint` is what tools print below."""

    def __init__(self, desc: str, path: str) -> None:
        super().__init__(desc)
        self.hint = f"Is another process using the image [{path}]?"


# What direct requests are multiples of where nothing else is known.
SAFE_ALIGNMENT = 4096


class HostFile:
    """An open file description. `path` is as it was given to open; `is_regular` is False for a directory."""

    path: str
    writable: bool
    is_regular: bool = True
    is_device: bool = False  # of blocks or characters

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; what is behind the end reads as zero."""
        raise NotImplementedError

    def write(self, offset: int, payload: bytes) -> None:
        raise NotImplementedError

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        """Zeroes that stay allocated and grow the file, or with `unmap` a hole, which does not. ENOTSUP: this
        host cannot."""
        raise NotImplementedError

    def discard(self, offset: int, length: int) -> None:
        """A hole; never grows the file."""
        raise NotImplementedError

    def truncate(self, size_bytes: int) -> None:
        raise NotImplementedError

    def size_bytes(self) -> int:
        raise NotImplementedError

    def allocated_bytes(self) -> int:
        """What the file uses on the host (st_blocks * 512)."""
        raise NotImplementedError

    def run_at(self, offset: int, limit: int) -> tuple[int, bool]:
        """(end, is_data) from `offset`, by SEEK_DATA and SEEK_HOLE; `limit` bounds the end. Behind the end of
        the file it is a hole."""
        raise NotImplementedError

    def direct_alignment(self) -> tuple[int, int]:
        """What reads that go past the host's cache must be multiples of, in bytes: anywhere, and at the front
        of the file. That is 1 where any length will do, as in a hole."""
        return 512, 1

    def flush(self) -> None:
        raise NotImplementedError

    def lock_byte(self, byte: int) -> None:
        """A shared lock. OSError if somebody holds an exclusive one."""
        raise NotImplementedError

    def unlock_byte(self, byte: int) -> None:
        raise NotImplementedError

    def locked_by_another(self, byte: int) -> bool:
        """Does another open file description hold any lock on this byte?"""
        raise NotImplementedError

    def close(self) -> None:
        """Also gives up the locks. Closing twice is allowed."""
        raise NotImplementedError


class HostStream:
    """A connection to a server. What comes from it goes to the `receive` that it was made with, from the
    scheduler's or the event loop's own turn and never while something is sent."""

    def send(self, buffers: Sequence[Payload]) -> None:
        """Never waits. What the server cannot get any more is dropped; that it is gone is received."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is received any more; what was sent still goes. Closing twice is allowed."""
        raise NotImplementedError

    @property
    def is_over(self) -> bool:
        """Once it was closed: whether a command that it went to has done what it does."""
        return True


class HostListener:
    """An address that clients may connect to."""

    def close(self) -> None:
        """Nobody else connects; connections that are made go on. Closing twice is allowed."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Whoever listened has died: nobody takes away what is left of the address."""
        self.close()


class HostTerminal:
    """A pseudo-terminal's own side; `name` is the path of the other."""

    def __init__(self, name: str) -> None:
        self.name = name

    def close(self) -> None:
        """The other side hangs up. Closing twice is allowed."""


class Host:
    """A file system, and servers that can be connected to. Relative paths are from its working directory."""

    def open(self, path: str, read_only: bool = False, create: bool = False) -> HostFile:
        """ENOENT, EISDIR (for writing), EACCES, ENOTDIR. `create` makes an empty file if there is none."""
        raise NotImplementedError

    # What /dev/fdset/N leads to; set by the machine.
    fdsets: FdSets | None = None

    def may_open(self, descriptor: int, writable: bool) -> bool:
        """Whether a descriptor that a client passed is open for just that."""
        raise NotImplementedError

    def close_descriptor(self, descriptor: int) -> None:
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        raise NotImplementedError

    def unlink(self, path: str) -> None:
        raise NotImplementedError

    def rename(self, path: str, new_path: str) -> None:
        raise NotImplementedError

    def mkdir(self, path: str) -> None:
        raise NotImplementedError

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        raise NotImplementedError

    def open_terminal(self) -> HostTerminal:
        """A new pseudo-terminal's own side. Raises OSError."""
        raise os_error(ENOENT)

    def connect(self, address: dict[str, Any], receive: Receive) -> HostStream:
        """To a SocketAddress. Raises QmpError in QEMU's words (util/qemu-sockets.c)."""
        raise cannot_connect(address, ECONNREFUSED)

    def run_command(self, command: str, receive: Receive) -> HostStream:
        """By a shell: what is sent is its standard input, what it prints is received. Raises QmpError."""
        raise QmpError("The simulator in this process has no shell to run commands with")

    def listen(self, address: dict[str, Any], accept: Accept) -> HostListener:
        """At a SocketAddress. Raises QmpError in QEMU's words."""
        raise QmpError(f"socket type '{address['type']}' is not simulated")

    def check_listen(self, address: dict[str, Any]) -> None:
        """Where nothing really listens: whether a SocketAddress could be listened on. Raises QmpError."""

    def read_all(self, path: str) -> bytes:
        file = self.open(path, read_only=True)
        try:
            return file.read(0, file.size_bytes())
        finally:
            file.close()

    def write_all(self, path: str, payload: bytes) -> None:
        file = self.open(path, create=True)
        try:
            file.truncate(0)
            file.write(0, payload)
        finally:
            file.close()


class HostProcess(Host):
    """One process's use of a host: `kill` closes all it has open. Files keep every byte written so far."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._opened: list[HostFile | HostListener | HostStream | HostTerminal] = []

    def open(self, path: str, read_only: bool = False, create: bool = False) -> HostFile:
        if path.startswith(fdsets.PREFIX) and self.fdsets is not None:
            # Nobody can pass a descriptor here, so this tells in which way there is none.
            self.fdsets.open(path, not read_only)
        file = self.host.open(path, read_only, create)
        self._remember(file)
        return file

    def connect(self, address: dict[str, Any], receive: Receive) -> HostStream:
        stream = self.host.connect(address, receive)
        self._remember(stream)
        return stream

    def run_command(self, command: str, receive: Receive) -> HostStream:
        stream = self.host.run_command(command, receive)
        self._remember(stream)
        return stream

    def listen(self, address: dict[str, Any], accept: Accept) -> HostListener:
        def remember(stream: HostStream) -> Receive:
            self._remember(stream)
            return accept(stream)

        listener = self.host.listen(address, remember)
        self._remember(listener)
        return listener

    def check_listen(self, address: dict[str, Any]) -> None:
        self.host.check_listen(address)

    def open_terminal(self) -> HostTerminal:
        terminal = self.host.open_terminal()
        self._remember(terminal)
        return terminal

    def _remember(self, opened: HostFile | HostListener | HostStream | HostTerminal) -> None:
        if len(self._opened) > 64:
            self._opened = [other for other in self._opened if not getattr(other, "closed", False)]
        self._opened.append(opened)

    def kill(self) -> None:
        for opened in self._opened:
            if isinstance(opened, HostListener):
                opened.abandon()
            else:
                opened.close()
        self._opened = []

    def exists(self, path: str) -> bool:
        return self.host.exists(path)

    def unlink(self, path: str) -> None:
        self.host.unlink(path)

    def rename(self, path: str, new_path: str) -> None:
        self.host.rename(path, new_path)

    def mkdir(self, path: str) -> None:
        self.host.mkdir(path)

    def list(self, path: str) -> list[str]:
        return self.host.list(path)


class ImageLock:
    """QEMU's lock on an open image: permissions in use and not shared, as lock bytes (raw_handle_perm_lock).

    `prepare` then `commit` or `abort`; what both the old and the new state need stays locked all the time.
    """

    __slots__ = ("_held", "_held_unshared", "file", "perm", "shared")

    def __init__(self, file: HostFile) -> None:
        self.file = file
        self.perm, self.shared = 0, permissions.ALL
        self._held = self._held_unshared = 0

    def prepare(self, perm: int, shared: int) -> None:
        """Raises LockError, holding what it held before, if another open does not allow it."""
        if not perm & ~self.perm and not self.shared & ~shared:
            return
        self._apply(self.perm | perm, ~(self.shared & shared), unlock=False)
        try:
            check_lock(self.file, perm, shared)
        except LockError:
            self.abort()
            raise

    def commit(self, perm: int, shared: int) -> None:
        self.perm, self.shared = perm, shared
        self._apply(perm, ~shared, unlock=True)

    def abort(self) -> None:
        self._apply(self.perm, ~self.shared, unlock=True)

    def move_to(self, file: HostFile) -> None:
        """Hold the same bytes through another open of the same file."""
        self.file = file
        held, unshared = self._held, self._held_unshared
        self._held = self._held_unshared = 0
        self._apply(held, unshared, unlock=False)

    def _apply(self, perm: int, unshared: int, unlock: bool) -> None:
        perm, unshared = perm & permissions.ALL, unshared & permissions.ALL
        if perm != self._held:
            self._held = self._apply_to(LOCK_PERM_BASE, self._held, perm, unlock)
        if unshared != self._held_unshared:
            self._held_unshared = self._apply_to(LOCK_SHARED_BASE, self._held_unshared, unshared, unlock)

    def _apply_to(self, base: int, held: int, wanted: int, unlock: bool) -> int:
        for number in _NUMBERS[wanted & ~held]:
            try:
                self.file.lock_byte(base + number)
            except OSError:
                raise QmpError(f"Failed to lock byte {base + number}") from None
        if not unlock:
            return held | wanted
        for number in _NUMBERS[held & ~wanted]:
            self.file.unlock_byte(base + number)
        return wanted


def check_lock(file: HostFile, perm: int, shared: int) -> None:
    """Raise LockError if another open does not share what `perm` needs, or uses what `shared` lacks."""
    for number in _NUMBERS[perm]:
        if file.locked_by_another(LOCK_SHARED_BASE + number):
            raise LockError(f'Failed to get "{permissions.NAMES[number][1]}" lock', file.path)
    for number in _NUMBERS[permissions.ALL & ~shared]:
        if file.locked_by_another(LOCK_PERM_BASE + number):
            raise LockError(f'Failed to get shared "{permissions.NAMES[number][1]}" lock', file.path)
