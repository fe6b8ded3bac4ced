"""Where each guest cluster lies: the L1 and L2 tables of a qcow2 image, in memory until written back.

Source: docs/interop/qcow2.txt, "Cluster mapping"; block/qcow2-cluster.c, 7.2.
"""

from __future__ import annotations

from array import array
from errno import EIO
from os import strerror
from struct import pack

from simulator.block.drivers.qcow2_refcounts import packed, words
from simulator.engine.task import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2_header import Header
    from simulator.block.drivers.qcow2_refcounts import Refcounts, Writes
    from simulator.block.node import Edge

COPIED = 1 << 63  # the refcount of what this entry points to is exactly one
COMPRESSED = 1 << 62
ZERO = 1
OFFSET_MASK = 0x00FFFFFFFFFFFE00

# Kinds of guest clusters (QCow2ClusterType).
UNALLOCATED, ZERO_PLAIN, ZERO_ALLOCATED, NORMAL, PACKED = range(5)


def kind_of(entry: int) -> int:
    if entry & COMPRESSED:
        return PACKED
    if entry & ZERO:
        return ZERO_ALLOCATED if entry & OFFSET_MASK else ZERO_PLAIN
    return NORMAL if entry & OFFSET_MASK else UNALLOCATED


class Write:
    """Guest clusters first..last that a write is under way to; `allocating`: their entries will change."""

    __slots__ = ("allocating", "first", "last")

    def __init__(self, first: int, last: int, allocating: bool) -> None:
        self.first, self.last, self.allocating = first, last, allocating


class _Table:
    """One L2 table; dirty_from..dirty_to as of refcount blocks."""

    __slots__ = ("dirty_from", "dirty_to", "entries", "offset")

    def __init__(self, offset: int, entries: array[int]) -> None:
        self.offset = offset
        self.entries = entries
        self.dirty_from = self.dirty_to = 0


class Tables:
    """L2 tables are read when first needed (`load`); everything else works on what was read and never
    waits."""

    def __init__(self, file: Edge, header: Header, refcounts: Refcounts) -> None:
        self._file = file
        self._header = header
        self._refcounts = refcounts
        self._lock = Lock("an L2 table to be read")
        self._tables: dict[int, _Table] = {}
        self._l1_dirty: dict[int, None] = {}
        self._l1_moved = False
        self._l2_dirty = False  # at least one of the tables
        self.size_dirty = False  # the disk's size in the header must be written
        self.l1: list[int] = []
        self.l2_entries = header.cluster_bytes // 8
        self.l2_shift = 2 * header.cluster_bits - 3

    async def open(self) -> None:
        """Read the L1 table. Raises OSError."""
        self.l1 = list(words(await self._file.read(self._header.l1_offset, self._header.l1_entries * 8)))

    async def load(self, offset: int) -> array[int] | None:
        """The entries of the L2 table for a guest offset, or None if there is no table. Raises OSError."""
        number = offset >> self.l2_shift
        table = self._tables.get(number)
        if table is not None:
            return table.entries
        if number >= len(self.l1) or not self.l1[number] & OFFSET_MASK:
            return None
        async with self._lock:
            if number not in self._tables:
                place = self.l1[number] & OFFSET_MASK
                if place % self._header.cluster_bytes:
                    raise OSError(EIO, strerror(EIO))
                await self._file.event("l2_load")
                payload = await self._file.read(place, self._header.cluster_bytes)
                self._tables[number] = _Table(place, words(payload))
        return self._tables[number].entries

    def run(self, table: array[int] | None, offset: int, length: int) -> tuple[int, int, int]:
        """(kind, host offset or compressed entry, length) of the longest uniform run, inside one L2 table."""
        bits = self._header.cluster_bits
        end = min(offset + length, ((offset >> self.l2_shift) + 1) << self.l2_shift)
        if table is None:
            return UNALLOCATED, 0, end - offset
        mask = self.l2_entries - 1
        first = offset >> bits
        entry = table[first & mask]
        kind = kind_of(entry)
        inside = offset & self._header.cluster_bytes - 1
        if kind == PACKED:
            return kind, entry, min(end, (first + 1) << bits) - offset
        host = entry & OFFSET_MASK
        if host & self._header.cluster_bytes - 1:
            raise OSError(EIO, strerror(EIO))
        cluster, last = first + 1, (end - 1) >> bits
        while cluster <= last:
            entry = table[cluster & mask]
            if kind_of(entry) != kind or (host and entry & OFFSET_MASK != host + ((cluster - first) << bits)):
                break
            cluster += 1
        return kind, host + inside if host else 0, min(end, cluster << bits) - offset

    def is_own(self, offset: int) -> bool:
        """Whether the L2 table for a guest offset is there, and belongs to this disk alone."""
        entry = self.l1[offset >> self.l2_shift]
        return bool(entry & OFFSET_MASK and entry & COPIED)

    async def own(self, offset: int) -> array[int]:
        """The L2 table for a guest offset, made or copied if it is not ours alone. Raises OSError."""
        number = offset >> self.l2_shift
        if not self.is_own(offset):
            await self.load(offset)
            async with self._lock:
                if not self.is_own(offset):
                    await self._make(number)
        if number not in self._tables:
            await self.load(offset)
        return self._tables[number].entries

    async def _make(self, number: int) -> None:
        """A table is in the file at once, and only what changes in it later waits for a flush (l2_allocate,
        block/qcow2-cluster.c:266): its refcount first, the L1 entry last."""
        header, refcounts = self._header, self._refcounts
        await self._file.event("cluster_alloc")
        place = refcounts.allocate(1) << header.cluster_bits
        old = self._tables.get(number)
        entries = old.entries if old else array("Q", [0]) * self.l2_entries
        try:
            async with refcounts.writing:
                for offset, payload in refcounts.take_writes():
                    await self._file.event("refblock_update_part")
                    await self._file.write(offset, payload)
                if old:
                    await self._file.event("l2_alloc_cow_read")
                await self._file.event("l2_alloc_write")
                await self._file.write(place, packed(entries))
                await self._file.event("l1_update")
                l1_offset = header.l1_offset
                await self._file.write(l1_offset + number * 8, pack(">Q", place | COPIED))
        except OSError:
            refcounts.release_unused(place >> header.cluster_bits, 1)
            raise
        if old:
            refcounts.give_back(old.offset >> header.cluster_bits)
        self._tables[number] = _Table(place, entries)
        self.l1[number] = place | COPIED
        if header.l1_offset != l1_offset:
            self._l1_dirty[number] = None

    def set(self, offset: int, entry: int) -> None:
        """Change one entry of a table that is our `own`."""
        number = offset >> self.l2_shift
        index = offset >> self._header.cluster_bits & self.l2_entries - 1
        table = self._tables[number]
        table.entries[index] = entry
        self._l2_dirty = True
        if table.dirty_from == table.dirty_to:
            table.dirty_from, table.dirty_to = index, index + 1
        elif index < table.dirty_from:
            table.dirty_from = index
        elif index >= table.dirty_to:
            table.dirty_to = index + 1

    def set_l1_copied(self, number: int, alone: bool) -> None:
        """Let an L1 entry say whether its table belongs to it alone."""
        entry = self.l1[number] & ~COPIED | (COPIED if alone else 0)
        if entry != self.l1[number]:
            self.l1[number] = entry
            self._l1_dirty[number] = None

    def drop(self, number: int) -> None:
        """Forget a whole L2 table and give its cluster back."""
        entry = self.l1[number]
        if entry & OFFSET_MASK:
            self._refcounts.give_back((entry & OFFSET_MASK) >> self._header.cluster_bits, discard=True)
            self._tables.pop(number, None)
            self.l1[number] = 0
            self._l1_dirty[number] = None

    def forget_clean(self) -> None:
        """L2 tables that are as they are in the file are read again when they are needed."""
        tables = self._tables.items()
        self._tables = {number: table for number, table in tables if table.dirty_from != table.dirty_to}

    def grow_l1(self, entries: int) -> None:
        """Room for more guest clusters; the table moves. Raises OSError."""
        header = self._header
        if entries <= len(self.l1):
            return
        bits = header.cluster_bits
        old_clusters = -(-header.l1_entries * 8 // header.cluster_bytes)
        place = self._refcounts.allocate(-(-entries * 8 // header.cluster_bytes)) << bits
        if old_clusters:
            self._refcounts.give_back(header.l1_offset >> bits, old_clusters)
        self.l1.extend([0] * (entries - len(self.l1)))
        header.l1_entries, header.l1_offset = entries, place
        self._l1_moved = True

    # Writing back.

    def is_dirty(self) -> bool:
        return self._l2_dirty or self.size_dirty or self._l1_moved or bool(self._l1_dirty)

    def take_writes(self) -> Writes:
        """L2 tables before the L1 table, and that before the header's fields that say where it is and how big
        the disk is."""
        writes: Writes = []
        self._l2_dirty = False
        for table in self._tables.values():
            if table.dirty_from != table.dirty_to:
                first, end = table.dirty_from & ~63, min(table.dirty_to + 63 & ~63, self.l2_entries)
                writes.append((table.offset + first * 8, packed(table.entries[first:end])))
                table.dirty_from = table.dirty_to = 0
        header = self._header
        if self._l1_moved:
            writes.append((header.l1_offset, packed(self.l1)))
        else:
            writes += [
                (header.l1_offset + number * 8, pack(">Q", self.l1[number])) for number in self._l1_dirty
            ]
        self._l1_dirty = {}
        if self._l1_moved:
            self._l1_moved = False
            # The header's fields l1_size and l1_table_offset (qcow2_grow_l1_table).
            writes.append((36, pack(">IQ", header.l1_entries, header.l1_offset)))
        if self.size_dirty:
            self.size_dirty = False
            # The header's field size (qcow2_co_truncate).
            writes.append((24, pack(">Q", header.size_bytes)))
        return writes
