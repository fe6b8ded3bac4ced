"""A node of the block graph and the edges to it: request tracking, serialisation, drains, dirty bitmaps.

Source: block/io.c (bdrv_co_preadv_part, bdrv_co_pwritev_part, tracked requests),
include/block/block_int-common.h, 7.2.
"""

from __future__ import annotations

from errno import EIO, ENOTSUP, EPERM
from os import strerror

from simulator.block import filenames
from simulator.block.copy_on_read import copy_on_read
from simulator.block.driver import MAY_UNMAP, NO_DRIVER, SERIALISING, WRITE_COMPRESSED
from simulator.block.permissions import COW, FILTERED, WRITE, WRITE_UNCHANGED
from simulator.block.request import Request
from simulator.block.rules import MAX_LENGTH_BYTES
from simulator.engine.task import WaitQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from simulator.block.bitmap import DirtyBitmap
    from simulator.block.driver import Driver
    from simulator.block.graph import Graph
    from simulator.block.iothreads import IoThread
    from simulator.block.parent import Parent
    from simulator.block.permissions import Held

MAX_REQUEST_BYTES = (1 << 31) - 512  # BDRV_REQUEST_MAX_BYTES, include/block/block-common.h:76


class Edge:
    """A parent's use of a node (BdrvChild): under which name and role, with which permissions."""

    __slots__ = ("blocker", "frozen", "name", "node", "parent", "perm", "role", "shared")

    def __init__(
        self, parent: Parent | Node, name: str, role: int, node: Node, perm: int, shared: int
    ) -> None:
        self.parent, self.name, self.role, self.node = parent, name, role, node
        self.perm, self.shared = perm, shared
        self.frozen = False
        # What this edge forbids on its node while it is there (an entry of Node.op_blockers).
        self.blocker: tuple[str, frozenset[str]] | None = None

    # Requests to the node, to be awaited at once: it is the node of that moment which gets them.
    def read(self, offset: int, length: int) -> Coroutine[Any, Any, bytes]:
        return self.node.read(offset, length)

    def write(self, offset: int, payload: bytes, flags: int = 0) -> Coroutine[Any, Any, None]:
        return self.node.write(offset, payload, flags)

    def write_zeroes(self, offset: int, length: int, flags: int = 0) -> Coroutine[Any, Any, None]:
        # Only on the way down (bdrv_co_pwrite_zeroes): who uses a node through a backend, such as an NBD
        # client, may unmap whether or not the node was opened with discard=unmap.
        if not self.node.discard_unmap:
            flags &= ~MAY_UNMAP
        return self.node.write_zeroes(offset, length, flags)

    def discard(self, offset: int, length: int) -> Coroutine[Any, Any, None]:
        return self.node.discard(offset, length)

    def flush(self) -> Coroutine[Any, Any, None]:
        return self.node.flush()

    async def event(self, name: str) -> None:
        """The parent is about to do something with the node that blkdebug's rules may name (BLKDBG_EVENT),
        and must wait if one of them says so."""
        if self.node.driver.hears_events:
            await self.node.driver.event(name)


class Node:
    """One BlockDriverState. Made and removed by the Graph only."""

    def __init__(self, graph: Graph, node_name: str, driver_class: type[Driver]) -> None:
        self.graph = graph
        self.node_name = node_name
        self.options: dict[str, Any] = {}  # as opened, for reopen and for saying what it is
        self.explicit_options: dict[str, Any] = {}  # of these, what the user gave for this very node
        self.inherits_from: Node | None = None  # the parent whose options described this node
        self.driver: Driver = driver_class(self)
        self.iothread: IoThread | None = None  # None: the main loop
        self.children: dict[str, Edge] = {}
        self.parents: list[Edge] = []  # oldest first
        # The backing file that the image itself led to, by the name that this had when it was opened.
        self.auto_backing_file = ""
        self.size_bytes = 0
        self.read_only = self.inactive = False
        self.held: Held | None = None  # what the permissions below were last made of
        self.auto_read_only = False
        self.detect_zeroes = "off"
        self.discard_unmap = False
        self.cache: dict[str, bool] = {"writeback": True, "direct": False, "no-flush": False}
        self.force_share = False
        self.monitor_owned = False
        self.implicit = False
        self.never_freeze = False  # the link to it must be free to change
        self.bitmaps: list[DirtyBitmap] = []  # newest first, as QEMU lists them
        self.op_blockers: list[tuple[str, frozenset[str]]] = []  # newest first: (reason, not blocked)
        self.references = 0  # held by others than edges and the monitor: exports, running commands
        self.requests: list[Request] = []
        self.in_flight = 0
        self.serialising_in_flight = 0
        self.writes_ended = self._writes_flushed = 0  # write_gen and flushed_gen
        self.write_threshold = 0  # a write that ends beyond it is told once; 0: none is
        self.wr_highest_offset = 0  # where the write that reached farthest ended, whatever became of it
        self.quiesce_count = 0
        self.reads_copy = 0  # jobs for which whatever is read here is to be copied here
        self.request_done = WaitQueue(f"an overlapping request on node '{node_name}'")

    def __repr__(self) -> str:
        return f"<node {self.node_name} {self.driver.format_name}>"

    def was_closed(self) -> None:
        """It has no driver any more (bs->drv becomes NULL). Node, driver and edges hold each other: without
        this, the driver's tables and buffers would stay until somebody looks for garbage."""
        self.children.clear()
        self.driver = NO_DRIVER

    # -- what it is
    def is_writable(self) -> bool:
        return not self.read_only and not self.inactive

    @property
    def filename(self) -> str:
        return filenames.filename(self)

    @property
    def backing(self) -> Node | None:
        """The node that copy-on-write falls back to (bdrv_cow_bs)."""
        edge = self.children.get("backing")
        return edge.node if edge is not None and edge.role & COW else None

    @property
    def filtered(self) -> Node | None:
        """The node whose content a filter shows (bdrv_filter_bs)."""
        if not self.driver.is_filter:
            return None
        return next((edge.node for edge in self.children.values() if edge.role & FILTERED), None)

    @property
    def below(self) -> Node | None:
        """bdrv_filter_or_cow_bs."""
        return self.filtered or self.backing

    @property
    def link_below(self) -> Edge | None:
        """The edge to `below` (bdrv_filter_or_cow_child)."""
        below = self.below
        return next((edge for edge in self.children.values() if edge.node is below), None)

    def can_replace(self, wanted: Node) -> bool:
        """Whether a copy of this node may take the place of `wanted` (bdrv_recurse_can_replace)."""
        return self is wanted or self.driver.can_replace(wanted)

    def drive_name(self) -> str:
        """Name of the drive that stands directly on this node, or "" (bdrv_get_device_name)."""
        for edge in self.parents:
            name = edge.parent.device_name()
            if name:
                return name
        return ""

    @property
    def device_or_node_name(self) -> str:
        return self.drive_name() or self.node_name

    # -- as a parent
    def user_description(self) -> str:
        return f"node '{self.node_name}'"

    def short_description(self) -> str:
        return self.device_or_node_name

    def device_name(self) -> str:
        return ""

    stay_at_node = False

    def drained_begin(self) -> None:
        """No new requests into this node: its users are told, all the way up
        (bdrv_do_drained_begin_quiesce)."""
        self.quiesce_count += 1
        for edge in self.parents[::-1]:
            edge.parent.drained_begin()
        if self.driver.follows_drains:
            self.driver.drained_begin()

    def drained_end(self) -> None:
        self.quiesce_count -= 1
        if self.driver.follows_drains:
            self.driver.drained_end()
        for edge in self.parents[::-1]:
            edge.parent.drained_end()

    def drained_busy(self) -> bool:
        if self.in_flight:
            return True
        for edge in self.parents:  # noqa: SIM110 (a generator costs more than most of the answers)
            if edge.parent.drained_busy():
                return True
        return False

    # -- requests
    async def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; what lies beyond the end reads as zero (bdrv_aligned_preadv)."""
        if self.reads_copy:
            return await self.copy_on_read(offset, length)
        request = self._begin(offset, length, False)
        try:
            if self.serialising_in_flight:
                await request.wait_for_overlapping(self.requests, self.request_done)
            inside = self.size_bytes - offset
            if length <= inside:
                return await self.driver.read(offset, length)
            if inside <= 0:
                return bytes(length)
            return await self.driver.read(offset, inside) + bytes(length - inside)
        finally:
            self._end(request)

    async def copy_on_read(self, offset: int, length: int, wanted: bool = True) -> bytes:
        """Read, and write here what only layers below have (BDRV_REQ_COPY_ON_READ). Not `wanted`: what is
        here need not be read, and nothing is returned. Raises OSError."""
        request = self._begin(offset, length, False)
        try:
            await self._before_write(request, SERIALISING)
            return await copy_on_read(self, offset, length, wanted)
        finally:
            self._end(request)

    async def write(self, offset: int, payload: bytes, flags: int = 0) -> None:
        length = len(payload)
        if self.detect_zeroes != "off" and length and payload == bytes(length):
            unmap = MAY_UNMAP if self.detect_zeroes == "unmap" else 0
            await self.write_zeroes(offset, length, flags | unmap)
            return
        if flags & WRITE_COMPRESSED and not self.driver.supports_compressed_writes:
            raise OSError(ENOTSUP, strerror(ENOTSUP))
        request = self._begin(offset, length, True)
        try:
            if flags & SERIALISING or self.serialising_in_flight or self.inactive:
                await self._before_write(request, flags)
            if self.driver.hears_events:
                await self.driver.event("pwritev")
            self._check_threshold(offset + length)
            try:
                await self.driver.write(offset, payload, flags & ~SERIALISING)
                self._grow(offset, length)
            finally:
                self._after_write(offset, length)
        finally:
            if self.driver.hears_events:
                await self.driver.event("pwritev_done")
            self._end(request)

    async def write_zeroes(self, offset: int, length: int, flags: int = 0) -> None:
        request = self._begin(offset, length, True)
        try:
            await self._before_write(request, flags)
            if self.driver.hears_events:
                await self.driver.event("pwritev_zero")
            self._check_threshold(offset + length)
            try:
                await self.driver.write_zeroes(offset, length, flags & ~SERIALISING)
                self._grow(offset, length)
            finally:
                self._after_write(offset, length)
        finally:
            if self.driver.hears_events:
                await self.driver.event("pwritev_done")
            self._end(request)

    async def discard(self, offset: int, length: int) -> None:
        """A hint, which nothing else sees on a node opened without discard=unmap (bdrv_co_pdiscard)."""
        if not self.discard_unmap or not length:
            return
        request = self._begin(offset, length, True)
        try:
            await self._before_write(request, 0)
            self._check_threshold(offset + length)
            try:
                await self.driver.discard(offset, length)
            finally:
                self._mark_dirty(offset, length)
        finally:
            self._end(request)

    async def flush(self) -> None:
        """This node's caches, its storage if anything was written to it since the last time, and then what it
        may write to below (bdrv_co_flush)."""
        self.in_flight += 1
        try:
            if self.read_only:
                return
            if self.driver.hands_flush_on:
                await self.driver.hand_flush_on()
                return
            writes_ended = self.writes_ended
            await self.driver.tell_storage("flush_to_os")
            await self.driver.flush()
            if self._writes_flushed != writes_ended and not self.cache["no-flush"]:
                await self.driver.tell_storage("flush_to_disk")
                await self.driver.flush_to_disk()
            for edge in list(self.children.values()):
                if edge.perm & (WRITE | WRITE_UNCHANGED):
                    await edge.node.flush()
            self._writes_flushed = writes_ended
        finally:
            self._leave()

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        """bdrv_co_truncate. Raises QmpError from the driver; parents and bitmaps learn the new size."""
        self.graph.rules.check_length(size_bytes)
        self.in_flight += 1
        self.writes_ended += 1
        try:
            await self.driver.truncate(size_bytes, exact, preallocation)
            for bitmap in self.bitmaps:
                bitmap.truncate(self.size_bytes)
            for edge in list(self.parents):
                edge.parent.child_resized(edge)
        finally:
            self._leave()

    def child_resized(self, edge: Edge) -> None:
        before = self.size_bytes
        self.driver.child_resized(edge)
        if self.size_bytes != before:
            for parent in list(self.parents):
                parent.parent.child_resized(parent)

    def _begin(self, offset: int, length: int, writes: bool) -> Request:
        if offset < 0 or length < 0 or length > MAX_REQUEST_BYTES or offset > MAX_LENGTH_BYTES - length:
            raise OSError(EIO, "request out of range")
        if writes and self.read_only:
            raise OSError(EPERM, "node is read-only")
        request = Request(offset, offset + length, writes)
        self.requests.append(request)
        self.in_flight += 1
        return request

    def _end(self, request: Request) -> None:
        self.requests.remove(request)
        if request.writes:
            self.writes_ended += 1
        if request.serialising:
            self.serialising_in_flight -= 1
        self.request_done.wake_all()
        self._leave()

    def _leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.graph.progress()

    async def _before_write(self, request: Request, flags: int) -> None:
        if self.inactive and request.writes and not self.read_only:
            # SIGABRT: bdrv_co_write_req_prepare, block/io.c:1990, 10.0.13
            await self.graph.end_process(-6, "")
        if flags & SERIALISING:
            self.serialising_in_flight += 1
            request.serialise(self.driver.cluster_bytes or 1)
        if self.serialising_in_flight:
            await request.wait_for_overlapping(self.requests, self.request_done)

    def _check_threshold(self, end: int) -> None:
        """Before the write is made (bdrv_write_threshold_check_write)."""
        threshold = self.write_threshold
        if 0 < threshold < end:
            self.write_threshold = 0
            told = {"node-name": self.node_name, "amount-exceeded": end - threshold}
            self.graph.emit("BLOCK_WRITE_THRESHOLD", {**told, "write-threshold": threshold})

    def _grow(self, offset: int, length: int) -> None:
        if offset + length > self.size_bytes and length:
            # In whole sectors (bdrv_co_write_req_finish).
            end = self.size_bytes = offset + length + -(offset + length) % 512
            for bitmap in self.bitmaps:
                bitmap.truncate(end)
            for edge in list(self.parents):
                edge.parent.child_resized(edge)

    def _after_write(self, offset: int, length: int) -> None:
        """Also of one that failed: who knows what it has written (bdrv_co_write_req_finish)."""
        if not length:
            return
        unit, end = self.driver.request_alignment, offset + length  # with what is around it
        offset, end = offset - offset % unit, end + -end % unit
        self.wr_highest_offset = max(self.wr_highest_offset, end)
        self._mark_dirty(offset, end - offset)

    def _mark_dirty(self, offset: int, length: int) -> None:
        for bitmap in self.bitmaps:
            if bitmap.recording:
                bitmap.set(offset, length)
