"""Driver `mirror_top`: stands above what a mirror job copies, and with copy-mode=write-blocking writes to the
target too before a write is answered. Source: block/mirror.c:1395, 7.2."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.drivers.backing_filter import BackingFilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from simulator.block.node import Node

    class Copier(Protocol):
        """What the job does with a write; None of `payload` is zeroes."""

        def takes_writes(self) -> bool: ...

        async def begin_write(self, offset: int, length: int) -> Any: ...

        async def repeat_write(self, offset: int, length: int, payload: bytes | None, flags: int) -> None: ...

        def end_write(self, request: Any) -> None: ...


class MirrorTop(BackingFilter):
    """`stopped`: the job is at its end, and nothing is asked of the node below any more."""

    format_name = "mirror_top"
    hands_flush_on = True

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.copier: Copier | None = None
        self.stopped = False

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        if self.stopped:
            return 0, permissions.ALL
        needed, shared = super().child_permissions(name, role, perm, shared)
        if self.is_commit:
            # Nothing between the top and the base can be read consistently while the base is written to, and
            # the job's own writes there must not be forbidden from here.
            return needed & ~permissions.CONSISTENT_READ, shared | permissions.WRITE
        return needed, shared

    # -- requests
    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        copier = self.copier
        if copier is None or not copier.takes_writes():
            await self.file.write(offset, payload, flags)
            return
        request = await copier.begin_write(offset, len(payload))
        try:
            await self.file.write(offset, payload, flags)
            await copier.repeat_write(offset, len(payload), payload, flags)
        finally:
            copier.end_write(request)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        copier = self.copier
        if copier is None or not copier.takes_writes():
            await self.file.write_zeroes(offset, length, flags)
            return
        request = await copier.begin_write(offset, length)
        try:
            await self.file.write_zeroes(offset, length, flags)
            await copier.repeat_write(offset, length, None, flags)
        finally:
            copier.end_write(request)
