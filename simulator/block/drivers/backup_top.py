"""Driver `backup-top`: what a backup job put above its source before there was copy-before-write.

Nobody but a job can make one. It has no point in time for others to read, and so keeps no account of what is
copied beyond what is still to copy. Source: block/backup-top.c, 5.2.
"""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.block_copy import BlockCopyState
from simulator.block.drivers.copy_before_write import BREAK_GUEST_WRITE, CopyBeforeWrite
from simulator.block.ranges_in_flight import RangesInFlight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Edge


class BackupTop(CopyBeforeWrite):
    """`active`: what it needs of its children is asked for; not while it comes and once it has gone."""

    format_name = "backup-top"
    children = (
        ("target", permissions.DATA, True),
        ("backing", permissions.FILTERED | permissions.PRIMARY, True),
    )

    active = False

    async def open(self, options: dict[str, Any]) -> None:
        self.node.size_bytes = self.file.node.size_bytes
        self._on_error, self._timeout_ns = BREAK_GUEST_WRITE, 0
        self._frozen = RangesInFlight("a read of the point in time")
        self.copy_state = BlockCopyState(self.file, self.target)

    async def close(self) -> None:
        self.copy_state.free()

    @property
    def file(self) -> Edge:
        return self.node.children["backing"]

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        if not self.active:
            return 0, permissions.ALL
        if name == "target":
            return super().child_permissions(name, role, perm, shared)
        needed, shared = permissions.default_permissions(self.node, role, perm, shared)
        if perm & permissions.WRITE:
            needed |= permissions.CONSISTENT_READ
        return needed, shared & ~(permissions.WRITE | permissions.RESIZE)

    async def hand_flush_on(self) -> None:
        if "backing" in self.node.children:
            await self.file.flush()

    def actual_size_bytes(self) -> int | None:
        return self.file.node.driver.actual_size_bytes()

    def _remember_copied(self, offset: int, length: int) -> None: ...
