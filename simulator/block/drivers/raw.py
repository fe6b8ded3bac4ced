"""Driver `raw`: a file's bytes as they are, or a window of them. Source: block/raw-format.c, 7.2."""

from __future__ import annotations

from errno import EINVAL, ENOSPC, EPERM
from os import strerror

from simulator.block import permissions
from simulator.block.chain import cluster_bytes
from simulator.block.driver import STATUS_OFFSET_VALID, STATUS_RAW, Driver
from simulator.block.errors import QmpError
from simulator.block.probing import HEAD_BYTES, format_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.driver import DriverStatus

_SECTOR_BYTES = 512
_LARGEST = (1 << 63) - 1


class Raw(Driver):
    """Options `offset` and `size` (bytes, `size` a multiple of 512) choose a window of the file. An image
    that is raw because it looked like no other format must not come to look like one."""

    format_name = "raw"
    resettable_options = changeable_options = ("offset", "size")
    strong_options = size_options = ("offset", "size")
    length_is_variable = True

    _offset = 0
    _size: int | None = None
    _was_probed = False

    async def open(self, options: dict[str, Any]) -> None:
        self._was_probed = getattr(self.node.options, "read_as", None) is not None
        self._offset, self._size = self._window(options)
        self.measure()

    @property
    def request_alignment(self) -> int:  # type: ignore[override]
        """Of an image that was probed so that nobody writes a part of what is looked at
        (raw_refresh_limits)."""
        return HEAD_BYTES if self._was_probed else 1

    def role_of(self, name: str, role: int) -> int:
        """With a window this is no plain filter any more (raw_open)."""
        options = self.node.options
        is_window = options.get("offset") or options.get("size") is not None
        return permissions.DATA | permissions.PRIMARY if is_window else role

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        """As of any format, but the file is written and resized only if this node is (raw_child_perm)."""
        needed, shared = super().child_permissions(name, role, perm, shared)
        if role & permissions.COW or not self.node.graph.rules.raw_takes_what_it_needs:
            return needed, shared
        changes = permissions.WRITE | permissions.RESIZE
        return needed & ~changes | perm & changes, shared

    def _window(self, options: dict[str, Any]) -> tuple[int, int | None]:
        offset, size = int(options.get("offset", 0)), options.get("size")
        real = self.file.node.size_bytes
        if offset > real:
            raise QmpError(f"Offset ({offset}) cannot be greater than size of the containing file ({real})")
        if size is not None and real - offset < int(size):
            raise QmpError(
                f"The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the "
                f" actual size of the containing file ({real})"
            )
        if size is not None and int(size) % _SECTOR_BYTES:
            raise QmpError(f"Specified size is not multiple of {_SECTOR_BYTES}")
        return offset, None if size is None else int(size)

    def cancel_in_flight(self) -> None:
        self.file.node.driver.cancel_in_flight()

    async def activate(self) -> None:
        self.measure()

    def measure(self) -> None:
        left = max(0, self.file.node.size_bytes - self._offset)
        size = left if self._size is None else min(self._size, left)
        self.node.size_bytes = size + -size % _SECTOR_BYTES

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        self._reopened = self._window(options)

    def reopen_commit(self) -> None:
        self._offset, self._size = self._reopened
        self.measure()

    def _place(self, offset: int, length: int, number: int) -> int:
        """Where the range lies in the file. OSError `number` if it leaves the window."""
        if self._size is not None and (offset > self._size or length > self._size - offset):
            raise OSError(number, strerror(number))
        return offset + self._offset

    async def read(self, offset: int, length: int) -> bytes:
        place = self._place(offset, length, EINVAL)
        await self.file.event("read_aio")
        return await self.file.read(place, length)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        place = self._place(offset, len(payload), ENOSPC)
        if self._was_probed and offset < HEAD_BYTES:
            head = payload if len(payload) >= HEAD_BYTES else await self.read(0, HEAD_BYTES)
            if format_of(head[:offset] + payload) != self.format_name:
                raise OSError(EPERM, strerror(EPERM))
        await self.file.event("write_aio")
        await self.file.write(place, payload, flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self.file.write_zeroes(self._place(offset, length, ENOSPC), length, flags)

    async def discard(self, offset: int, length: int) -> None:
        await self.file.discard(self._place(offset, length, ENOSPC), length)

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        return length, STATUS_RAW | STATUS_OFFSET_VALID, self.file, offset + self._offset

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        if self._size is not None:
            raise QmpError("Cannot resize fixed-size raw disks")
        if _LARGEST - size_bytes < self._offset:
            raise QmpError("Disk size too large for the chosen offset")
        await self.file.node.truncate(size_bytes + self._offset, exact, preallocation)
        self.measure()

    @property
    def cluster_bytes(self) -> int | None:
        return cluster_bytes(self.file.node)
