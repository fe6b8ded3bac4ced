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
        """What the job does with a write: it repeats it on the target, or notes that it has not. `kind` is
        write, zero or discard."""

        def takes_writes(self) -> bool: ...

        async def begin_write(self, offset: int, length: int) -> Any: ...

        async def repeat_write(
            self, kind: str, offset: int, length: int, payload: bytes, flags: int
        ) -> None: ...

        def note_write(self, offset: int, length: int) -> None: ...

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
        if not self.node.graph.rules.mirror_passes_needs_on:
            return perm & permissions.WRITE, permissions.ALL
        needed, shared = super().child_permissions(name, role, perm, shared)
        if self.is_commit:
            # Nothing between the top and the base can be read consistently while the base is written to, and
            # the job's own writes there must not be forbidden from here.
            return needed & ~permissions.CONSISTENT_READ, shared | permissions.WRITE
        return needed, shared

    # -- requests
    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._write("write", offset, len(payload), payload, flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self._write("zero", offset, length, b"", flags)

    async def discard(self, offset: int, length: int) -> None:
        await self._write("discard", offset, length, b"", 0)

    async def _write(self, kind: str, offset: int, length: int, payload: bytes, flags: int) -> None:
        """bdrv_mirror_top_do_write."""
        copier = self.copier
        request = None
        if copier is not None and copier.takes_writes():
            request = await copier.begin_write(offset, length)
        try:
            if kind == "write":
                await self.file.write(offset, payload, flags)
            elif kind == "zero":
                await self.file.write_zeroes(offset, length, flags)
            else:
                await self.file.discard(offset, length)
            if copier is not None and request is not None:
                await copier.repeat_write(kind, offset, length, payload, flags)
        finally:
            if copier is not None:
                if request is not None:
                    copier.end_write(request)
                else:
                    copier.note_write(offset, length)
