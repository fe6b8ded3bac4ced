"""Driver `file`: a regular file of the host. Source: block/file-posix.c, 7.2."""

from __future__ import annotations

import os
from errno import EINVAL, ENOTSUP
from os import strerror

from simulator.block import fdsets, permissions
from simulator.block.driver import MAY_UNMAP, STATUS_DATA, STATUS_OFFSET_VALID, STATUS_ZERO, Driver
from simulator.block.errors import QmpError
from simulator.block.host import SAFE_ALIGNMENT, ImageLock
from simulator.engine.task import interleave
from simulator.qapi.integers import signed64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.driver import DriverStatus
    from simulator.block.graph import Graph
    from simulator.block.host import HostFile

_SECTOR_BYTES = 512
_WRITERS = permissions.WRITE | permissions.WRITE_UNCHANGED | permissions.RESIZE


class File(Driver):
    """Option `filename`; `locking`; `aio` (native needs cache.direct). With auto-read-only the host's file is
    opened for writing only while somebody needs to write."""

    format_name = "file"
    is_protocol = names_files = True
    children = ()
    resettable_options = ("x-check-cache-dropped",)
    changeable_options = ("drop-cache", "x-check-cache-dropped")

    _file: HostFile
    _lock: ImageLock
    _next: HostFile | None = None
    _kind = "a regular file"
    _uses_lock = True
    _discards = _failed_discards = _discarded_bytes = 0
    _direct_bytes = 0  # what requests are multiples of while they go past the host's cache; 0: not found out

    async def open(self, options: dict[str, Any]) -> None:
        path = self._path = str(options.get("filename", ""))
        if "pr-manager" in options:
            raise QmpError(f"No persistent reservation manager with id '{options['pr-manager']}'")
        self._uses_lock = options.get("locking", "auto") != "off"
        self._file = self._open_file(self._wants_writable(0))
        self._lock = ImageLock(self._file)
        if options.get("aio") == "native" and not self.node.cache.get("direct"):
            self._file.close()
            raise QmpError(
                "aio=native was specified, but it requires cache.direct=on, which was not specified."
            )
        if not self._is_right_kind():
            self._file.close()
            raise QmpError(f"'{self.format_name}' driver requires '{path}' to be {self._kind}")
        self._measure()
        self._find_alignment(tries=True)

    async def reopen_finished(self) -> None:
        # What is tried then is a descriptor that does not go past the cache yet, and takes any length.
        self._find_alignment(tries=False)

    def _find_alignment(self, tries: bool) -> None:
        """raw_probe_alignment: where the front of the file takes any length, it has told nothing."""
        if not self.node.cache.get("direct"):
            self._direct_bytes = 0
            return
        anywhere, at_front = self._file.direct_alignment()
        told = at_front if tries and at_front > 1 else SAFE_ALIGNMENT
        self._direct_bytes = anywhere if self.node.graph.rules.host_tells_alignment else told

    @property
    def request_alignment(self) -> int:  # type: ignore[override]
        return self._direct_bytes or 1

    @property
    def memory_alignment(self) -> int:
        return self._direct_bytes or 1

    def _is_right_kind(self) -> bool:
        is_fine = self._file.is_device and self.node.graph.rules.devices_open_as_files
        return self._file.is_regular or is_fine

    async def close(self) -> None:
        self._file.close()

    @property
    def unmaps_zeroes(self) -> bool:
        return True

    def _wants_writable(self, perm: int) -> bool:
        node = self.node
        if node.read_only:
            return False
        return not node.auto_read_only or bool(perm & _WRITERS)

    def _open_file(self, writable: bool) -> HostFile:
        try:
            return self.node.graph.host.open(self._path, read_only=not writable)
        except OSError as error:
            why = strerror(error.errno or 0)
            if not self._path.startswith(fdsets.PREFIX):
                raise QmpError(f"Could not open '{self._path}': {why}") from None
            if error.errno == EINVAL:
                raise QmpError(f"Could not parse fdset {self._path}") from None
            flags = (os.O_RDWR if writable else os.O_RDONLY) | (
                os.O_DIRECT if self.node.cache.get("direct") else 0
            )
            raise QmpError(f"Could not dup FD for {self._path} flags {flags:x}: {why}") from None

    async def activate(self) -> None:
        self._measure()

    def _measure(self) -> None:
        size = self._file.size_bytes()
        self.node.size_bytes = size + -size % _SECTOR_BYTES

    # -- permissions
    def check_permissions(self, perm: int, shared: int) -> None:
        writable = self._wants_writable(perm)
        if writable != self._file.writable:
            self._next = self._open_file(writable)
        try:
            if self._uses_lock:
                self._lock.prepare(perm, shared)
            self._checked = perm, shared
        except QmpError:
            self._drop_next()
            raise

    def commit_permissions(self) -> None:
        if self._next is not None:
            old, self._file = self._file, self._next
            self._next = None
            if self._uses_lock:
                self._lock.move_to(self._file)
            old.close()
        if self._uses_lock:
            self._lock.commit(*self._checked)

    def abort_permissions(self) -> None:
        self._drop_next()
        if self._uses_lock:
            self._lock.abort()

    def _drop_next(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None

    # -- requests. Real requests go to a thread and come back, so others may run before and after each.
    async def read(self, offset: int, length: int) -> bytes:
        await interleave()
        payload = self._file.read(offset, length)
        # What the host has in memory comes by the main loop's next round; another thread hears of it later.
        scheduler = self.node.graph.scheduler
        await (scheduler.loop_turn if self.node.iothread is None else scheduler.host_turn)
        return payload

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await interleave()
        self._file.write(offset, payload)
        await self.node.graph.scheduler.host_turn

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self.node.graph.scheduler.host_turn
        try:
            self._file.write_zeroes(offset, length, bool(flags & MAY_UNMAP))
        except OSError as error:
            if error.errno != ENOTSUP:
                raise
            self._file.write(offset, bytes(length))

    async def discard(self, offset: int, length: int) -> None:
        await self.node.graph.scheduler.host_turn
        try:
            self._file.discard(offset, length)
        except OSError as error:
            self._failed_discards += 1
            if error.errno != ENOTSUP:
                raise
        else:
            self._discards += 1
            self._discarded_bytes += length

    async def flush_to_disk(self) -> None:
        if self._file.writable:
            await self.node.graph.scheduler.host_turn
            self._file.flush()

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        if not want_zero:
            return length, STATUS_DATA | STATUS_OFFSET_VALID, None, offset
        end, is_data = self._file.run_at(offset, offset + length)
        if is_data and self.node.cache.get("direct"):
            # The last sector of the file counts as a whole: requests cannot be smaller.
            end += -end % _SECTOR_BYTES
        flags = STATUS_DATA if is_data else STATUS_ZERO
        return min(end, offset + length) - offset, flags | STATUS_OFFSET_VALID, None, offset

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        resize_file(self._file, size_bytes, preallocation)
        self._measure()

    # -- what others may ask
    def specific_stats(self) -> dict[str, Any]:
        return {
            "discard-nb-ok": self._discards,
            "discard-nb-failed": self._failed_discards,
            "discard-bytes-ok": self._discarded_bytes,
        }

    @property
    def cluster_bytes(self) -> int | None:
        """QEMU's driver answers, with nothing known (raw_get_info), so nobody warns of an unknown cluster
        size."""
        return 0

    @property
    def filename(self) -> str:
        return self._path

    def actual_size_bytes(self) -> int | None:
        return self._file.allocated_bytes()


_RESIZE_FAILURES = {
    "off": "Could not resize file",
    "falloc": "Could not preallocate new data",
    "full": "Could not write zeros for preallocation",
}


def resize_file(file: HostFile, size_bytes: int, preallocation: str) -> None:
    """Grow or shrink an open file (handle_aiocb_truncate). Raises QmpError."""
    current = file.size_bytes()
    if current > size_bytes and preallocation != "off":
        raise QmpError("Cannot use preallocation for shrinking files")
    if preallocation not in ("off", "falloc", "full"):
        raise QmpError(f"Unsupported preallocation mode: {preallocation}")
    try:
        if preallocation == "falloc" and size_bytes > current:
            file.write_zeroes(current, size_bytes - current, unmap=False)
        elif preallocation == "full":
            file.truncate(size_bytes)
            for offset in range(current, size_bytes, 1 << 20):
                file.write(offset, bytes(min(1 << 20, size_bytes - offset)))
        else:
            file.truncate(size_bytes)
            # The first block of a new file is allocated, so that later opens can find out its alignment.
            if not current and size_bytes:
                file.write(0, bytes(4096 if size_bytes >= 4096 else min(_SECTOR_BYTES, size_bytes)))
    except OSError as error:
        if preallocation != "off":
            file.truncate(current)
        raise QmpError(f"{_RESIZE_FAILURES[preallocation]}: {strerror(error.errno or 0)}") from None


async def create(graph: Graph, options: dict[str, Any]) -> None:
    """blockdev-create of driver `file`: filename, size, preallocation (raw_co_create). A thread of the host
    makes it as long as it is to be, or fails to. Raises QmpError."""
    path = str(options["filename"])
    if int(options.get("extent-size-hint", 0)) >= 1 << 32:
        raise QmpError("Extent size hint is too large")
    try:
        file = graph.host.open(path, create=True)
    except OSError as error:
        raise QmpError(f"Could not create '{path}': {strerror(error.errno or 0)}") from None
    perm = permissions.WRITE | permissions.RESIZE
    lock = ImageLock(file)
    # A size beyond 63 bits is a negative one to QEMU, and the host refuses that.
    size = signed64(int(options["size"]))
    try:
        lock.prepare(perm, permissions.ALL & ~permissions.RESIZE)
        try:
            resize_file(file, 0, "off")
            resize_file(file, size, str(options.get("preallocation", "off")))
        finally:
            await graph.scheduler.host_turn
    finally:
        file.close()
