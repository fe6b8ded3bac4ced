"""Driver `qcow2`: true images that QEMU's tools read and check.

Source: docs/interop/qcow2.txt; block/qcow2.c, 7.2.

Metadata, but for new L2 tables, stays in memory and is written at flush and close, refcounts before what
needs them and removals last, so that an image whose process was killed at any moment is at worst leaking
clusters.
"""

from __future__ import annotations

from errno import EIO
from os import strerror
from struct import pack

from simulator.block import permissions
from simulator.block.driver import (
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
    qcow2_data_file,
    qcow2_encryption,
    qcow2_flush,
    qcow2_options,
    qcow2_resize,
    qcow2_snapshots,
    qcow2_vm_state,
    qcow2_writes,
    qcow2_zero,
)
from simulator.block.drivers.qcow2_corruption import CorruptImage, Overlaps, signal
from simulator.block.drivers.qcow2_header import (
    DIRTY,
    INCOMPATIBLE_AT,
    LAZY_REFCOUNTS,
    Header,
    read_header,
)
from simulator.block.drivers.qcow2_kinds import NORMAL, NOT_HERE, OFFSET_MASK, PACKED, PLACED
from simulator.block.drivers.qcow2_refcounts import Refcounts
from simulator.block.drivers.qcow2_tables import Tables
from simulator.block.errors import QmpError
from simulator.block.opening import ABORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.driver import DriverStatus
    from simulator.block.node import Edge, Node

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
    overlaps: Overlaps
    _lazy_refcounts = False
    _next_options: dict[str, Any]
    refcounts: Refcounts
    tables: Tables

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.requests = 0
        self.writes = qcow2_writes.Writes()
        self._preallocated: bool | None = None
        self.told_of_corruption = False
        self.unused_data: list[int] = []  # offsets in the data file that it may discard
        self.stored_bitmaps: list[qcow2_bitmaps.StoredBitmap] = []
        self.snapshots: list[qcow2_snapshots.Snapshot] = []
        self._lost_file = False

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
        self._use({})
        self.node.size_bytes = header.size_bytes & ~511

    def _use(self, options: dict[str, Any]) -> None:
        header = self.header
        self.overlaps = Overlaps(options.get("overlap-check"))
        lazy = options.get("lazy-refcounts", bool(header.compatible & LAZY_REFCOUNTS))
        self._lazy_refcounts = bool(lazy) and header.version > 2

    async def _open(self, options: dict[str, Any]) -> None:
        writable = self.node.is_writable()
        try:
            header = await read_header(self.file.read, writable, self.node.graph.rules.has_zstd)
        except (OSError, QmpError):
            # Until its data file is chosen QEMU takes it to have an external one, and lets go of that.
            await self.node.graph.changing()
            raise
        qcow2_options.check(options, header)
        qcow2_encryption.check_extension(options, header, self.node.graph.objects)
        self.begin(header)
        self._use(options)
        await self.tables.open()
        await qcow2_data_file.open_it(self, options)
        if writable and header.incompatible & DIRTY:
            await qcow2_check.repair(self)
        self.snapshots = await qcow2_snapshots.load(self)
        if not self.node.inactive:
            await qcow2_bitmaps.load(self)

    async def close(self) -> None:
        if self.node.is_writable():
            await qcow2_bitmaps.store(self)
            await self.flush()
            await self._mark_clean()
        elif self._would_mark_clean():
            # A file that could be written, and that nobody said would be.
            await self.node.graph.end_process(ABORTED, "closing an image that is dirty and read-only")

    def _would_mark_clean(self) -> bool:
        may_write = not self.file.node.read_only
        return bool(
            self.header.incompatible & DIRTY and may_write and self.node.graph.rules.closing_marks_clean
        )

    async def inactivate(self) -> None:
        await qcow2_bitmaps.hand_over(self)
        await self.flush()
        await self._mark_clean()

    async def mark_dirty(self) -> None:
        """With lazy refcounts the image is dirty from its first change on: its counts may be too low."""
        if self._lazy_refcounts and not self.header.incompatible & DIRTY:
            self.header.incompatible |= DIRTY
            await self._write_features()

    async def _mark_clean(self) -> None:
        if self.header.incompatible & DIRTY:
            self.header.incompatible &= ~DIRTY
            await self._write_features()

    async def _write_features(self) -> None:
        await self.file.write(INCOMPATIBLE_AT, pack(">Q", self.header.incompatible))
        await self.file.flush()

    async def activate(self) -> None:
        await self.open(self.node.options)

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        qcow2_options.check(options, self.header)
        self._next_options = options
        self._file_before = self.file.node
        if read_only:
            await qcow2_bitmaps.make_read_only(self)
        if read_only or not options.get("lazy-refcounts", self.header.compatible & LAZY_REFCOUNTS):
            await self._mark_clean()

    def reopen_commit(self) -> None:
        # The caches are made anew, whatever changed (qcow2_update_options_commit).
        self.tables.forget_clean()
        self._use(self._next_options)

    def reopen_abort(self) -> None:
        # s->data_file is now the file that is about to go, and will never be bs->file again.
        self._lost_file |= self.file.node is not self._file_before

    @property
    def takes_data_file(self) -> bool:
        """Whether QEMU takes the image to have a data file of its own (has_data_file, block/qcow2.h)."""
        return self._lost_file or self.header.has_data_file

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

    @property
    def data(self) -> Edge:
        """Where the disk's own bytes lie."""
        return self.node.children["data-file"] if self.header.has_data_file else self.file

    # -- reads
    async def read(self, offset: int, length: int) -> bytes:
        self.requests += 1
        try:
            return await self._read(offset, length)
        except CorruptImage as fault:
            await signal(self, fault)
            raise
        finally:
            self.requests -= 1

    async def _read(self, offset: int, length: int) -> bytes:
        pieces = []
        while length:
            table = await self.tables.load(offset)
            kind, host, run = self.tables.run(table, offset, length)
            pieces.append(await self.read_run(kind, host, offset, run))
            offset, length = offset + run, length - run
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_run(self, kind: int, host: int, offset: int, length: int) -> bytes:
        if kind == NORMAL:
            await self.data.event("read_aio")
            return await self.data.read(host, length)
        if kind == PACKED:
            inside = offset % self.header.cluster_bytes
            return (await qcow2_compressed.read(self, host))[inside : inside + length]
        if kind in NOT_HERE:
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
                done += await qcow2_writes.some(
                    self, offset + done, payload[done:] if done else payload, flags
                )
        except CorruptImage as fault:
            await signal(self, fault)
            raise
        finally:
            self.requests -= 1

    def check_overlap(self, host: int, length: int) -> None:
        """Of the disk's own bytes. Raises CorruptImage."""
        if not self.header.has_data_file:
            self.overlaps.check(self, host, length)

    def allocate_data(self, guest_cluster: int, count: int) -> int:
        """The number of the first of so many clusters for the disk's own. In a data file each has its
        place."""
        return guest_cluster if self.header.has_data_file else self.refcounts.allocate(count)

    def release_data(self, first: int, count: int) -> None:
        """Of what was allocated and is not used after all."""
        if not self.header.has_data_file:
            self.refcounts.release_unused(first, count)

    def give_back(self, entry: int, discard: bool) -> None:
        """A guest cluster does not use this entry's place any more."""
        bits = self.header.cluster_bits
        kind = self.tables.kind_of(entry)
        if self.header.has_data_file:
            if discard and kind in PLACED:
                qcow2_data_file.give_back(self, entry & OFFSET_MASK)
        elif kind == PACKED:
            host, length = qcow2_compressed.place(self.header, entry)
            self.refcounts.give_back(host >> bits, (host + length - 1 >> bits) - (host >> bits) + 1, discard)
        elif entry & OFFSET_MASK:
            self.refcounts.give_back((entry & OFFSET_MASK) >> bits, 1, discard)

    # -- zeroes and discards
    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        try:
            await qcow2_zero.write_zeroes(self, offset, length, flags)
        except CorruptImage as fault:
            await signal(self, fault)
            raise

    async def discard(self, offset: int, length: int) -> None:
        try:
            await qcow2_zero.discard(self, offset, length)
        except CorruptImage as fault:
            await signal(self, fault)
            raise

    async def make_empty(self) -> None:
        await qcow2_zero.make_empty(self)

    # -- writing back
    async def flush(self) -> None:
        await qcow2_flush.flush(self)

    # -- status and size
    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        if self._preallocated is None:
            self._preallocated = await qcow2_resize.looks_preallocated(self)
        try:
            kind, host, run = self.tables.run(await self.tables.load(offset), offset, length)
        except CorruptImage as fault:
            await signal(self, fault)
            raise
        flags = 0
        if kind in PLACED:
            flags = STATUS_OFFSET_VALID
        if kind in (NORMAL, PACKED):
            flags |= STATUS_DATA
        elif kind not in NOT_HERE:
            flags |= STATUS_ZERO
        if self._preallocated and kind == NORMAL:
            flags |= STATUS_RECURSE
        return run, flags, self.data if flags & STATUS_OFFSET_VALID else None, host

    # -- snapshots inside the image
    snapshot_infos = qcow2_snapshots.infos
    create_snapshot = qcow2_snapshots.create
    delete_snapshot = qcow2_snapshots.delete
    go_to_snapshot = qcow2_snapshots.go_to
    save_vm_state = qcow2_vm_state.save
    load_vm_state = qcow2_vm_state.load

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        await qcow2_resize.resize(self, size_bytes, exact, preallocation)

    # -- what others may ask
    @property
    def cluster_bytes(self) -> int | None:
        return self.header.cluster_bytes

    def limits(self) -> dict[str, int]:
        return {"write-zeroes-alignment": self.header.subcluster_bytes}

    @property
    def unmaps_zeroes(self) -> bool:
        return self.header.version > 2

    def image_info(self) -> dict[str, Any]:
        bitmaps = qcow2_bitmaps.info(self) if self.header.version > 2 else []
        return {
            "cluster-size": self.header.cluster_bytes,
            **({"snapshots": self.snapshot_infos()} if self.snapshots and not self.takes_data_file else {}),
            "dirty-flag": bool(self.header.incompatible & DIRTY) and self.node.graph.rules.tells_dirty_images,
            "format-specific": {"type": "qcow2", "data": self.header.describe(bitmaps, self.takes_data_file)},
        }
