"""Driver `snapshot-access`: shows the point in time that the copy-before-write filter below keeps.

Source: block/snapshot-access.c, 7.2. It stands on any node; over one that keeps no point in time every
request fails.
"""

from __future__ import annotations

from errno import ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.driver import Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.driver import DriverStatus
    from simulator.block.node import Node


class SnapshotAccess(Driver):
    """No options. Not a filter: what it shows is not what the node below shows."""

    format_name = "snapshot-access"
    can_reopen = False
    children = (("file", permissions.DATA | permissions.PRIMARY, True),)

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        return 0, permissions.ALL

    @property
    def filename(self) -> str:
        return self.file.node.filename

    @property
    def unmaps_zeroes(self) -> bool:
        return False

    async def read(self, offset: int, length: int) -> bytes:
        below = self._enter()
        try:
            return await below.driver.snapshot_read(offset, length)
        finally:
            self._leave(below)

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        below = self._enter()
        try:
            return await below.driver.snapshot_block_status(offset, length, want_zero)
        finally:
            self._leave(below)

    async def discard(self, offset: int, length: int) -> None:
        below = self._enter()
        try:
            await below.driver.snapshot_discard(offset, length)
        finally:
            self._leave(below)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        raise QmpError("Image format driver does not support resize")

    def _enter(self) -> Node:
        node = self.file.node
        node.in_flight += 1
        return node

    @staticmethod
    def _leave(node: Node) -> None:
        node.in_flight -= 1
        if not node.in_flight:
            node.graph.progress()
