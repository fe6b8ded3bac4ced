"""Driver `copy-before-write`: a filter that copies what a guest is about to overwrite to `target`.

Source: block/copy-before-write.c, 7.2. The guest's side is the ordinary requests. The point in time is read
through the snapshot_ methods: from the target where it has been copied, else from the source under a lock
against the guest.
"""

from __future__ import annotations

from errno import EACCES
from os import strerror

from simulator.block import permissions
from simulator.block.bitmap import DirtyBitmap, find_bitmap
from simulator.block.block_copy import BlockCopyState
from simulator.block.driver import STATUS_ALLOCATED, STATUS_RECURSE, WRITE_UNCHANGED, Driver
from simulator.block.errors import QmpError
from simulator.block.opening import ABORTED
from simulator.block.ranges_in_flight import Range, RangesInFlight
from simulator.block.status import status_above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.driver import DriverStatus
    from simulator.block.graph import Graph
    from simulator.block.node import Edge

_NS_PER_SECOND = 1_000_000_000
BREAK_GUEST_WRITE = "break-guest-write"


class CopyBeforeWrite(Driver):
    """Options `bitmap` ({node, name}), `on-cbw-error`, `cbw-timeout` (seconds, 0 is none), and of a backup
    job's filter `discard-source`: what has been copied is discarded in the source.

    `copied` is what the target holds of the point in time; `readable` what may be asked for. After
    `snapshot_error` is set nothing is copied any more and the point in time is lost.
    """

    format_name = "copy-before-write"
    can_reopen = False
    is_filter = True
    hands_flush_on = True
    children = (
        ("file", permissions.FILTERED | permissions.PRIMARY, True),
        ("target", permissions.DATA, True),
    )
    copy_state: BlockCopyState
    copied: DirtyBitmap
    readable: DirtyBitmap
    snapshot_error: OSError | None = None
    _discards_source = False

    async def open(self, options: dict[str, Any]) -> None:
        node = self.node
        bitmap = _lookup_bitmap(node.graph, options["bitmap"]) if "bitmap" in options else None
        self._on_error: str = options.get("on-cbw-error", BREAK_GUEST_WRITE)
        self._timeout_ns = (
            int(options.get("cbw-timeout", 0)) * _NS_PER_SECOND % (1 << node.graph.rules.cbw_timeout_bits)
        )
        self._discards_source = bool(options.get("discard-source", False))
        node.size_bytes = self.file.node.size_bytes
        try:
            owner = node if node.graph.rules.copy_bitmap_on_filter else None
            least = int(options.get("min-cluster-size", 0))
            self.copy_state = BlockCopyState(self.file, self.target, bitmap, owner, least)
        except QmpError as error:
            raise error.prefixed("Cannot create block-copy-state: ") from None
        self.copy_state.discards_source = self._discards_source
        self.copied = DirtyBitmap(node, None, self.copy_state.cluster_bytes)
        self.readable = DirtyBitmap(node, None, self.copy_state.cluster_bytes)
        self.copied.enabled = self.readable.enabled = False
        self.readable.merge(self.copy_state.copy_bitmap)
        self._frozen = RangesInFlight("a read of the point in time")

    async def close(self) -> None:
        self.readable.release()
        self.copied.release()
        self.copy_state.free()

    @property
    def target(self) -> Edge:
        return self.node.children["target"]

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        if name == "target":
            # The guest may write to its disk although that can be in the target's backing chain.
            return permissions.WRITE, permissions.ALL & ~permissions.RESIZE
        needed, shared = super().child_permissions(name, role, perm, shared)
        if self.node.parents:
            if perm & permissions.WRITE or self.node.graph.rules.filter_always_reads:
                needed |= permissions.CONSISTENT_READ
            if self._discards_source:
                needed |= permissions.WRITE
            # Whoever writes past the filter would not be seen by it. Without a parent it is not in use yet.
            shared &= ~(permissions.WRITE | permissions.RESIZE)
        return needed, shared

    @property
    def filename(self) -> str:
        return self.file.node.filename

    # -- the guest's side
    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._copy_before(offset, len(payload), flags)
        await self.file.write(offset, payload, flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self._copy_before(offset, length, flags)
        await self.file.write_zeroes(offset, length, flags)

    async def discard(self, offset: int, length: int) -> None:
        await self._copy_before(offset, length, 0)
        await self.file.discard(offset, length)

    async def _copy_before(self, offset: int, length: int, flags: int) -> None:
        """Returns once the range is safe to overwrite: copied, and read by nobody. Raises OSError if the
        guest's request is to fail."""
        if flags & WRITE_UNCHANGED or self.snapshot_error is not None:
            return
        unit = self.copy_state.cluster_bytes
        end = offset + length
        offset -= offset % unit
        length = end + -end % unit - offset
        # A copy that has timed out goes on, and the node is busy until it ends.
        self.node.in_flight += 1
        try:
            await self.copy_state.copy(
                offset,
                length,
                ignore_ratelimit=True,
                timeout_ns=self._timeout_ns,
                on_finished=self._copy_finished,
            )
        except OSError as error:
            if self._on_error == BREAK_GUEST_WRITE:
                raise
            if self.snapshot_error is None:
                self.snapshot_error = error
        else:
            self._remember_copied(offset, length)
        await self._frozen.wait_all(offset, length)

    def _remember_copied(self, offset: int, length: int) -> None:
        self.copied.set(offset, length)

    def _copy_finished(self) -> None:
        self.node.in_flight -= 1
        if not self.node.in_flight:
            self.node.graph.progress()

    # -- the point in time
    async def snapshot_read(self, offset: int, length: int) -> bytes:
        """Raises OSError EACCES where the point in time is lost, discarded or outside the bitmap."""
        pieces = []
        end = offset + length
        while offset < end:
            edge, frozen, count = self._lock(offset, end)
            try:
                pieces.append(await edge.read(offset, count))
            finally:
                self._unlock(frozen)
            offset += count
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    async def snapshot_block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        edge, frozen, count = self._lock(offset, offset + length)
        try:
            # One layer: the base is what that node itself falls back to.
            flags, count, _ = await status_above(edge.node, edge.node.below, offset, count)
        finally:
            self._unlock(frozen)
        # A target says data or zero of what it was given, but for null-co without read-zeroes.
        if edge is self.target and not flags & STATUS_ALLOCATED:
            words = "cbw_co_snapshot_block_status: Assertion `ret & BDRV_BLOCK_ALLOCATED' failed."
            await self.node.graph.end_process(ABORTED, words)
        return count, flags & ~STATUS_RECURSE, None, offset

    async def snapshot_discard(self, offset: int, length: int) -> None:
        """The range is not needed any more: it cannot be read, and is not copied. Whole clusters only, to
        which the last one belongs only where a request must consist of them."""
        unit = self.copy_state.cluster_bytes
        end = offset + length
        if self.node.graph.rules.snapshot_discards_whole:
            end -= end % unit
            offset += -offset % unit
            if offset >= end:
                return
        elif offset % unit or (end % unit and end != self.node.size_bytes):
            words = "hbitmap_reset: Assertion `QEMU_IS_ALIGNED(start, gran)' failed."
            await self.node.graph.end_process(ABORTED, words)
        self.readable.reset(offset, end - offset)
        self.copy_state.reset(offset, end - offset)
        await self.target.discard(offset, end - offset)

    def _lock(self, offset: int, end: int) -> tuple[Edge, Range | None, int]:
        """(where to read, lock to give back, length). What is not copied yet is locked against being
        overwritten."""
        if self.snapshot_error is not None or self.readable.next_zero(offset, end - offset) is not None:
            raise OSError(EACCES, strerror(EACCES))
        copied, length = self.copied.status(offset, end - offset)
        if copied and not (offset + length < end and self.node.graph.rules.forgets_bounded_copies):
            return self.target, None, length
        return self.file, self._frozen.add(offset, length), length

    def _unlock(self, frozen: Range | None) -> None:
        if frozen is not None:
            self._frozen.remove(frozen)


def _lookup_bitmap(graph: Graph, given: dict[str, Any]) -> DirtyBitmap:
    """block_dirty_bitmap_lookup, block/monitor/bitmap-qmp-cmds.c. Raises QmpError."""
    node = graph.find(given["node"])
    if node is None:
        raise QmpError(f"Node '{given['node']}' not found")
    bitmap = find_bitmap(node, given["name"])
    if bitmap is None:
        raise QmpError(f"Dirty bitmap '{given['name']}' not found")
    return bitmap
