"""Driver `preallocate`: a filter that makes a file longer than it needs to be, ahead of writes behind its
end, and as long as it should be at the end. Source: block/preallocate.c, 7.2."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.driver import NO_FALLBACK, SERIALISING, Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SECTOR_BYTES = 512
_BOTH = permissions.WRITE | permissions.RESIZE


class Preallocate(Driver):
    """Options `prealloc-align` (bytes, 1 MiB) and `prealloc-size` (bytes, 128 MiB). Only while its users
    write and resize."""

    format_name = "preallocate"
    is_filter = True
    hands_flush_on = True
    follows_child_length = False
    changeable_options = size_options = ("prealloc-align", "prealloc-size")

    # Behind what was written, and where the file really ends; None while others may change the file.
    _data_end: int | None = None
    _file_end = 0
    _zero_start = 0
    _failed = False  # its file could not be made another size, and it has not written and resized since

    async def open(self, options: dict[str, Any]) -> None:
        self._align, self._size = self._settings(options)
        await super().open(options)

    def _settings(self, options: dict[str, Any]) -> tuple[int, int]:
        align = int(options.get("prealloc-align", 1 << 20))
        if align % _SECTOR_BYTES:
            raise QmpError(
                f"prealloc-align parameter of preallocate filter is not aligned to {_SECTOR_BYTES}"
            )
        return align, int(options.get("prealloc-size", 128 << 20))

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        self._reopened = self._settings(options)

    def reopen_commit(self) -> None:
        self._align, self._size = self._reopened

    async def close(self) -> None:
        await self._crop()

    async def _crop(self) -> None:
        end = self.node.size_bytes
        if end < self._file_end:
            self._file_end = end
            await self.file.node.truncate(end, exact=True)

    # -- permissions
    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        needed, kept = super().child_permissions(name, role, perm, shared)
        if perm & _BOTH == _BOTH or self._failed:
            return needed | _BOTH, kept & ~_BOTH
        return needed, kept

    def check_permissions(self, perm: int, shared: int) -> None:
        self._failed = self._failed and perm & _BOTH != _BOTH

    def commit_permissions(self) -> None:
        """Who may not write and resize any more leaves a file that is as long as it should be."""
        if self.file.perm & _BOTH != _BOTH and self._data_end is not None:
            self.node.graph.scheduler.spawn(self._crop(), f"end of {self.node.node_name}'s preallocation")
            self._data_end = None

    def _owns_file(self) -> bool:
        if self.file.perm & _BOTH != _BOTH:
            return False
        if self._data_end is None:
            self._data_end = self._file_end = self._zero_start = self.file.node.size_bytes
        return True

    # -- requests
    async def _extend(self, offset: int, length: int, only_zeroes: bool) -> bool:
        """Ahead of a write: whether it is done already, being one of zeroes."""
        end = offset + length
        if not self._owns_file():
            return False
        assert self._data_end is not None
        if end <= self._data_end:
            return False
        if not only_zeroes:
            self._zero_start = end
        self._data_end = end
        if end <= self._file_end:
            return only_zeroes and offset >= self._zero_start
        start = min(offset, self._file_end) if only_zeroes else self._file_end
        stop = max(start, end) + self._size
        stop += -stop % self._align
        try:
            await self.file.write_zeroes(start, stop - start, NO_FALLBACK | SERIALISING)
        except OSError:
            self._file_end = self.file.node.size_bytes
            return False
        self._file_end = stop
        return only_zeroes and start <= offset

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._extend(offset, len(payload), only_zeroes=False)
        await self.file.write(offset, payload, flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        if not await self._extend(offset, length, not flags & ~NO_FALLBACK):
            await self.file.write_zeroes(offset, length, flags)

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        if self._owns_file() and self._data_end is not None and size_bytes > self._data_end:
            if preallocation == "falloc" and size_bytes <= self._file_end:
                self._data_end = self.node.size_bytes = size_bytes
                return
            await self._crop()
        self._data_end = None
        try:
            await super().truncate(size_bytes, exact, preallocation)
        except QmpError as error:
            # EINVAL is how it knows that there is nothing to keep.
            self._failed = self.node.graph.rules.failed_preallocate_keeps_file and not error.is_invalid
            raise
