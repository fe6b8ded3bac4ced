"""What a host in memory has besides regular files: directories that are opened, and /dev/null."""

from __future__ import annotations

from errno import EINVAL

from simulator.block.host import HostFile, os_error


class OpenDirectory(HostFile):
    """A directory opened for reading: it can be opened, and nothing else."""

    is_regular = False
    writable = False

    def __init__(self, path: str) -> None:
        self.path = path

    def close(self) -> None: ...


class NullDevice(HostFile):
    """Whoever has it open has nothing in common with another: locks are each its own."""

    is_regular = False
    is_device = True

    def __init__(self, path: str, writable: bool) -> None:
        self.path, self.writable = path, writable

    def read(self, offset: int, length: int) -> bytes:
        return bytes(length)

    def write(self, offset: int, payload: bytes) -> None: ...

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None: ...

    def discard(self, offset: int, length: int) -> None: ...

    def truncate(self, size_bytes: int) -> None:
        raise os_error(EINVAL)

    def size_bytes(self) -> int:
        return 0

    def allocated_bytes(self) -> int:
        return 0

    def run_at(self, offset: int, limit: int) -> tuple[int, bool]:
        return limit, True

    def flush(self) -> None: ...

    def lock_byte(self, byte: int) -> None: ...

    def unlock_byte(self, byte: int) -> None: ...

    def locked_by_another(self, byte: int) -> bool:
        return False

    def close(self) -> None: ...
