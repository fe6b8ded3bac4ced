"""Driver `qcow2`: true images that QEMU's tools read and check.

Source: docs/interop/qcow2.txt; block/qcow2.c, 7.2.

Metadata, but for new L2 tables, stays in memory and is written at flush and close, refcounts before what
needs them and removals last, so that an image whose process was killed at any moment is at worst leaking
clusters.
"""

from __future__ import annotations

from errno import EIO, ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.driver import (
    NO_FALLBACK,
    STATUS_DATA,
    STATUS_OFFSET_VALID,
    STATUS_RECURSE,
    STATUS_ZERO,
    WRITE_COMPRESSED,
    Driver,
)
from simulator.block.drivers import (
    qcow2_bitmaps,
    qcow2_check,
    qcow2_compressed,
    qcow2_flush,
    qcow2_options,
    qcow2_resize,
    qcow2_snapshots,
    qcow2_zero,
)
from simulator.block.drivers.qcow2_header import DIRTY, Header, read_header
from simulator.block.drivers.qcow2_refcounts import Refcounts
from simulator.block.drivers.qcow2_tables import (
    COPIED,
    NORMAL,
    OFFSET_MASK,
    PACKED,
    UNALLOCATED,
    ZERO_ALLOCATED,
    Tables,
    Write,
    kind_of,
)
from simulator.block.errors import QmpError
from simulator.engine.task import WaitQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from typing import Any

    from simulator.block.driver import DriverStatus
    from simulator.block.node import Node

# Options that blockdev-reopen may change (qcow2_mutable_opts, block/qcow2.c:6030).
_MUTABLE = (
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "overlap-check",
    *qcow2_options.CACHE_SIZES, "cache-clean-interval",
)  # fmt: skip


class Qcow2(Driver):
    format_name = "qcow2"
    resettable_options = changeable_options = _MUTABLE
    size_options = qcow2_options.CACHE_SIZES
    supports_backing = True
    can_store_bitmaps = supports_compressed_writes = holds_snapshots = True
    children = (("file", permissions.IMAGE, True),)

    header: Header
    refcounts: Refcounts
    tables: Tables

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.requests = 0
        self.behind: list[tuple[int, bytes]] = []  # (offset, payload): written first, in this order
        self._writes: list[Write] = []
        self._write_done = WaitQueue("a write to the same cluster")
        self._preallocated: bool | None = None
        self.stored_bitmaps: list[qcow2_bitmaps.StoredBitmap] = []
        self.snapshots: list[qcow2_snapshots.Snapshot] = []

    # -- life
    async def open(self, options: dict[str, Any]) -> None:
        try:
            await self._open(options)
        except OSError as error:
            raise QmpError(f"Could not read qcow2 header: {strerror(error.errno or EIO)}") from None

    def begin(self, header: Header) -> None:
        """Work by this header; nothing else is read yet."""
        self.header = header
        self.refcounts = Refcounts(self.file, header)
        self.tables = Tables(self.file, header, self.refcounts)
        self.node.size_bytes = header.size_bytes & ~511

    async def _open(self, options: dict[str, Any]) -> None:
        writable = self.node.is_writable()
        try:
            header = await read_header(self.file.read, writable)
        except (OSError, QmpError):
            # Until its data file is chosen QEMU takes it to have an external one, and lets go of that.
            await self.node.graph.changing()
            raise
        qcow2_options.check(options, header)
        self.begin(header)
        await self.tables.open()
        if writable and header.incompatible & DIRTY:
            await qcow2_check.repair(self)
        self.snapshots = await qcow2_snapshots.load(self)
        if not self.node.inactive:
            await qcow2_bitmaps.load(self)

    async def close(self) -> None:
        if self.node.is_writable():
            await qcow2_bitmaps.store(self)
            await self.flush()

    async def inactivate(self) -> None:
        await qcow2_bitmaps.hand_over(self)
        await self.flush()

    async def activate(self) -> None:
        await self.open(self.node.options)

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        qcow2_options.check(options, self.header)
        if read_only:
            await qcow2_bitmaps.make_read_only(self)

    def reopen_commit(self) -> None:
        # The caches are made anew, whatever changed (qcow2_update_options_commit).
        self.tables.forget_clean()

    async def reopen_finished(self) -> None:
        if self.node.is_writable():
            await qcow2_bitmaps.make_writable(self)

    @property
    def backing_file(self) -> str:
        return self.header.backing_file

    @property
    def backing_format(self) -> str:
        return self.header.backing_format

    async def change_backing_file(self, backing_file: str, backing_format: str) -> None:
        """Rewrite the header's reference (rebase -u). Raises QmpError if it does not fit, OSError."""
        if len(backing_file.encode()) > 1023:
            raise QmpError("Backing file name too long")
        self.header.backing_file, self.header.backing_format = backing_file, backing_format
        await self.write_header()

    async def write_header(self) -> None:
        """The whole first cluster, after all that it refers to."""
        await self.flush()
        await self.file.write(0, self.header.encode())

    # -- reads
    async def read(self, offset: int, length: int) -> bytes:
        self.requests += 1
        try:
            pieces = []
            while length:
                table = await self.tables.load(offset)
                kind, host, run = self.tables.run(table, offset, length)
                pieces.append(await self._read_run(kind, host, offset, run))
                offset, length = offset + run, length - run
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            self.requests -= 1

    async def _read_run(self, kind: int, host: int, offset: int, length: int) -> bytes:
        if kind == NORMAL:
            await self.file.event("read_aio")
            return await self.file.read(host, length)
        if kind == PACKED:
            inside = offset % self.header.cluster_bytes
            return (await qcow2_compressed.read(self, host))[inside : inside + length]
        if kind == UNALLOCATED:
            backing = self.node.children.get("backing")
            if backing is not None:
                await self.file.event("read_backing_aio")
                return await backing.read(offset, length)
        return bytes(length)

    # -- writes
    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        self.requests += 1
        try:
            await self.refcounts.load()
            if flags & WRITE_COMPRESSED:
                await qcow2_compressed.write(self, offset, payload)
                return
            done = 0
            while done < len(payload):
                done += await self._write_some(offset + done, payload[done:] if done else payload, flags)
        finally:
            self.requests -= 1

    async def _write_some(self, offset: int, payload: bytes, flags: int) -> int:
        """Write what one run of clusters takes; returns its length, 0 if another write had to be waited
        for."""
        table = await self.tables.own(offset)
        length, host, reuse = self._plan(table, offset, len(payload))
        bits = self.header.cluster_bits
        write = Write(offset >> bits, offset + length - 1 >> bits, host is None or reuse)
        if write.allocating and await self.waited_for(write, allocating_only=True):
            return 0
        self._writes.append(write)
        try:
            piece = payload if length == len(payload) else payload[:length]
            if host is not None and not reuse:
                await self.file.event("write_aio")
                await self.file.write(host, piece, flags)
            else:
                await self._write_new(offset, piece, host, flags)
        finally:
            self._writes.remove(write)
            self._write_done.wake_all()
        return length

    def _plan(self, table: array[int], offset: int, length: int) -> tuple[int, int | None, bool]:
        """(length, host offset or None, reuse) of the run at the start of a write.

        host and not reuse: written in place. host and reuse: a zero cluster that has its place already.
        None: new clusters are needed.
        """
        header, tables = self.header, self.tables
        end = min(offset + length, ((offset >> tables.l2_shift) + 1) << tables.l2_shift)
        kind, host, run = tables.run(table, offset, end - offset)
        mask = tables.l2_entries - 1
        size = header.cluster_bytes

        def ours_alone(at: int) -> bool:
            entry = table[at >> header.cluster_bits & mask]
            return bool(entry & COPIED) and kind_of(entry) in (NORMAL, ZERO_ALLOCATED)

        owned = ours_alone(offset)
        if owned and kind == ZERO_ALLOCATED:
            return min(end, (offset | size - 1) + 1) - offset, host, True
        limit = offset + run if owned else end
        at = (offset | size - 1) + 1
        while at < limit and ours_alone(at) == owned:
            at += size
        return min(at, limit) - offset, host if owned else None, False

    async def waited_for(self, write: Write, allocating_only: bool) -> bool:
        """Whether a write to the same clusters was under way; if so it is over now, or another one is."""
        for other in self._writes:
            if other.first <= write.last and write.first <= other.last:
                if allocating_only and not other.allocating:
                    continue
                await self._write_done.wait()
                return True
        return False

    async def _write_new(self, offset: int, payload: bytes, host: int | None, flags: int) -> None:
        """Write to clusters that get their place now, with what is around the payload copied from below."""
        size, bits = self.header.cluster_bytes, self.header.cluster_bits
        start, end = offset & -size, offset + len(payload) + (-(offset + len(payload)) % size)
        head = await self._old_bytes(start, offset - start)
        tail = await self._old_bytes(offset + len(payload), end - offset - len(payload))
        table = await self.tables.own(offset)
        count = (end - start) >> bits
        new = host is None
        place = self.refcounts.allocate(count) << bits if host is None else host & -size
        try:
            if (head is None or tail is None) and not await self._zeroed_fast(place, end - start):
                head = bytes(offset - start) if head is None else head
                tail = bytes(end - offset - len(payload)) if tail is None else tail
            await self.file.event("write_aio")
            if head or tail:
                before, after = head or b"", tail or b""
                await self.file.write(place + offset - start - len(before), before + payload + after, flags)
            else:
                await self.file.write(place + offset - start, payload, flags)
        except OSError:
            if new:
                self.refcounts.release_unused(place >> bits, count)
            raise
        for at in range(count):
            guest = start + (at << bits)
            old = table[guest >> bits & self.tables.l2_entries - 1]
            self.tables.set(guest, place + (at << bits) | COPIED)
            if new:
                self.give_back(old, discard=False)

    async def _zeroed_fast(self, place: int, length: int) -> bool:
        """False where that can only be done by writing (block/qcow2.c, handle_alloc_space)."""
        try:
            await self.file.write_zeroes(place, length, NO_FALLBACK)
        except OSError as error:
            if error.errno != ENOTSUP:
                raise
            return False
        return True

    async def _old_bytes(self, offset: int, length: int) -> bytes | None:
        """What a part of one cluster holds before a write; None if it is known to be zero, b"" for no
        part."""
        if not length:
            return b""
        table = await self.tables.load(offset)
        kind, host, _ = self.tables.run(table, offset, length)
        if kind == UNALLOCATED:
            backing = self.node.backing
            if backing is None or offset >= backing.size_bytes:
                return None
        elif kind not in (NORMAL, PACKED):
            return None
        return await self._read_run(kind, host, offset, length)

    def give_back(self, entry: int, discard: bool) -> None:
        """A guest cluster does not use this entry's place any more."""
        bits = self.header.cluster_bits
        kind = kind_of(entry)
        if kind == PACKED:
            host, length = qcow2_compressed.place(self.header, entry)
            self.refcounts.give_back(host >> bits, (host + length - 1 >> bits) - (host >> bits) + 1, discard)
        elif entry & OFFSET_MASK:
            self.refcounts.give_back((entry & OFFSET_MASK) >> bits, 1, discard)

    # -- zeroes and discards
    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await qcow2_zero.write_zeroes(self, offset, length, flags)

    async def discard(self, offset: int, length: int) -> None:
        await qcow2_zero.discard(self, offset, length)

    async def make_empty(self) -> None:
        await qcow2_zero.make_empty(self)

    # -- writing back
    async def flush(self) -> None:
        await qcow2_flush.flush(self)

    # -- status and size
    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        if self._preallocated is None:
            self._preallocated = await qcow2_resize.looks_preallocated(self)
        kind, host, run = self.tables.run(await self.tables.load(offset), offset, length)
        flags = 0
        if kind in (NORMAL, ZERO_ALLOCATED):
            flags = STATUS_OFFSET_VALID
        if kind in (NORMAL, PACKED):
            flags |= STATUS_DATA
        elif kind != UNALLOCATED:
            flags |= STATUS_ZERO
        if self._preallocated and kind == NORMAL:
            flags |= STATUS_RECURSE
        return run, flags, self.file if flags & STATUS_OFFSET_VALID else None, host

    # -- snapshots inside the image
    snapshot_infos = qcow2_snapshots.infos
    create_snapshot = qcow2_snapshots.create
    delete_snapshot = qcow2_snapshots.delete

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        await qcow2_resize.resize(self, size_bytes, preallocation)

    # -- what others may ask
    @property
    def cluster_bytes(self) -> int | None:
        return self.header.cluster_bytes

    @property
    def unmaps_zeroes(self) -> bool:
        return self.header.version > 2

    def image_info(self) -> dict[str, Any]:
        bitmaps = qcow2_bitmaps.info(self) if self.header.version > 2 else []
        return {
            "cluster-size": self.header.cluster_bytes,
            **({"snapshots": self.snapshot_infos()} if self.snapshots else {}),
            "dirty-flag": bool(self.header.incompatible & DIRTY),
            "format-specific": {"type": "qcow2", "data": self.header.describe(bitmaps)},
        }
