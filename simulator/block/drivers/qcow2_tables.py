"""Where each guest cluster lies: the L1 and L2 tables of a qcow2 image, in memory until written back.

Source: docs/interop/qcow2.txt, "Cluster mapping"; block/qcow2-cluster.c, 7.2.
"""

from __future__ import annotations

from array import array
from struct import pack

from simulator.block.drivers import qcow2_subclusters
from simulator.block.drivers.qcow2_corruption import CorruptImage, c_hex
from simulator.block.drivers.qcow2_kinds import (
    COPIED,
    OFFSET_MASK,
    PACKED,
    PLACED,
    UNALLOCATED,
    ZERO_ALLOCATED,
    ZERO_PLAIN,
    kinds_of,
)
from simulator.block.drivers.qcow2_refcounts import packed, words
from simulator.engine.task import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2_header import Header
    from simulator.block.drivers.qcow2_refcounts import Refcounts, Writes
    from simulator.block.node import Edge


_SLICE_BYTES = 4096  # of a table are cached at a time


class Table:
    """One L2 table; dirty_from..dirty_to as of refcount blocks. `bitmaps` is as long as `entries` in an image
    with extended L2 entries, and empty in any other."""

    __slots__ = ("bitmaps", "dirty_from", "dirty_to", "entries", "offset")

    def __init__(self, offset: int, entries: array[int], bitmaps: array[int]) -> None:
        self.offset = offset
        self.entries = entries
        self.bitmaps = bitmaps
        self.dirty_from = self.dirty_to = 0

    @classmethod
    def decode(cls, offset: int, payload: bytes, extended: bool) -> Table:
        found = words(payload)
        return cls(offset, found[0::2], found[1::2]) if extended else cls(offset, found, array("Q"))

    def encode(self, first: int, end: int) -> bytes:
        """Entries first..end as they are in the file."""
        if not self.bitmaps:
            return packed(self.entries[first:end])
        both = array("Q", bytes((end - first) * 16))
        both[0::2], both[1::2] = self.entries[first:end], self.bitmaps[first:end]
        return packed(both)


class Tables:
    """L2 tables are read when first needed (`load`); everything else works on what was read and never
    waits."""

    def __init__(self, file: Edge, header: Header, refcounts: Refcounts) -> None:
        self._file = file
        self._header = header
        self._refcounts = refcounts
        self._lock = Lock("an L2 table to be read")
        self._tables: dict[int, Table] = {}
        self._l1_dirty: dict[int, None] = {}
        self._l1_moved = False
        self._l2_dirty = False  # at least one of the tables
        self.size_dirty = False  # the disk's size in the header must be written
        self.l1: list[int] = []
        self.l2_entries = header.cluster_bytes // header.l2_entry_bytes
        self.l2_shift = header.l2_shift
        self.kind_of = kinds_of(header)
        # The clusters of all L2 tables, only asked whether they hold one.
        self.places: set[int] = set()
        self._per_slice = min(header.cluster_bytes, _SLICE_BYTES) // header.l2_entry_bytes

    async def open(self) -> None:
        """Read the L1 table. Raises OSError."""
        self.l1 = list(words(await self._file.read(self._header.l1_offset, self._header.l1_entries * 8)))
        self._note_places()

    def _note_places(self) -> None:
        bits = self._header.cluster_bits
        self.places = {(entry & OFFSET_MASK) >> bits for entry in self.l1 if entry & OFFSET_MASK}

    async def load(self, offset: int) -> Table | None:
        """The L2 table for a guest offset, or None if there is none. Raises OSError."""
        number = offset >> self.l2_shift
        table = self._tables.get(number)
        if table is not None:
            return table
        if number >= len(self.l1) or not self.l1[number] & OFFSET_MASK:
            return None
        async with self._lock:
            if number not in self._tables:
                place = self.l1[number] & OFFSET_MASK
                if place % self._header.cluster_bytes:
                    raise CorruptImage(
                        f"L2 table offset {c_hex(place)} unaligned (L1 index: {c_hex(number)})"
                    )
                await self._file.event("l2_load")
                self._tables[number] = await self.read_table(place)
        return self._tables[number]

    async def read_table(self, place: int) -> Table:
        """Any L2 table, as it is in the file. Raises OSError."""
        header = self._header
        payload = await self._file.read(place, header.cluster_bytes)
        return Table.decode(place, payload, header.extended_l2)

    def at(self, table: Table, offset: int) -> tuple[int, int]:
        """(entry, bitmap of its subclusters) of a guest offset; 0 without subclusters."""
        index = offset >> self._header.cluster_bits & self.l2_entries - 1
        return table.entries[index], table.bitmaps[index] if table.bitmaps else 0

    def run(self, table: Table | None, offset: int, length: int) -> tuple[int, int, int]:
        """(kind, host offset or compressed entry, length) of the longest uniform run, inside one L2 table."""
        bits = self._header.cluster_bits
        end = min(offset + length, ((offset >> self.l2_shift) + 1) << self.l2_shift)
        if table is None:
            return UNALLOCATED, 0, end - offset
        if table.bitmaps:
            return qcow2_subclusters.run(self, self._header, table, offset, end)
        entries, kind_of = table.entries, self.kind_of
        mask = self.l2_entries - 1
        first = offset >> bits
        entry = entries[first & mask]
        kind = kind_of(entry)
        inside = offset & self._header.cluster_bytes - 1
        if kind == PACKED:
            return kind, entry, min(end, (first + 1) << bits) - offset
        host, placed = entry & OFFSET_MASK, kind in PLACED
        if host & self._header.cluster_bytes - 1:
            raise self.unaligned(table, offset, host)
        if kind in (ZERO_PLAIN, ZERO_ALLOCATED) and self._header.version < 3:
            raise self._corrupt(table, offset, "Zero cluster entry found in pre-v3 image")
        cluster, last = first + 1, (end - 1) >> bits
        while cluster <= last:
            entry = entries[cluster & mask]
            if kind_of(entry) != kind or (
                placed and entry & OFFSET_MASK != host + ((cluster - first) << bits)
            ):
                break
            cluster += 1
        return kind, host + inside if placed else 0, min(end, cluster << bits) - offset

    def unaligned(self, table: Table, offset: int, host: int) -> CorruptImage:
        return self._corrupt(table, offset, f"Cluster allocation offset {c_hex(host)} unaligned")

    def invalid(self, table: Table, offset: int) -> CorruptImage:
        return self._corrupt(table, offset, "Invalid cluster entry found ")

    def _corrupt(self, table: Table, offset: int, what: str) -> CorruptImage:
        """Of the entry of a guest offset, which is counted inside its part of a cached table."""
        index = (offset >> self._header.cluster_bits) % self._per_slice
        return CorruptImage(f"{what} (L2 offset: {c_hex(table.offset)}, L2 index: {c_hex(index)})")

    def is_own(self, offset: int) -> bool:
        """Whether the L2 table for a guest offset is there, and belongs to this disk alone."""
        entry = self.l1[offset >> self.l2_shift]
        return bool(entry & OFFSET_MASK and entry & COPIED)

    async def own(self, offset: int) -> Table:
        """The L2 table for a guest offset, made or copied if it is not ours alone. Raises OSError."""
        number = offset >> self.l2_shift
        if not self.is_own(offset):
            await self.load(offset)
            async with self._lock:
                if not self.is_own(offset):
                    await self._make(number)
        if number not in self._tables:
            await self.load(offset)
        return self._tables[number]

    async def _make(self, number: int) -> None:
        """A table is in the file at once, and only what changes in it later waits for a flush (l2_allocate,
        block/qcow2-cluster.c:266): its refcount first, the L1 entry last."""
        header, refcounts = self._header, self._refcounts
        await self._file.event("cluster_alloc")
        place = refcounts.allocate(1) << header.cluster_bits
        old = self._tables.get(number)
        new = Table(place, old.entries, old.bitmaps) if old else self._empty(place)
        try:
            async with refcounts.writing:
                for offset, payload in refcounts.take_writes():
                    await self._file.event("refblock_update_part")
                    await self._file.write(offset, payload)
                if old:
                    await self._file.event("l2_alloc_cow_read")
                await self._file.event("l2_alloc_write")
                await self._file.write(place, new.encode(0, self.l2_entries))
                await self._file.event("l1_update")
                l1_offset = header.l1_offset
                await self._file.write(l1_offset + number * 8, pack(">Q", place | COPIED))
        except OSError:
            refcounts.release_unused(place >> header.cluster_bits, 1)
            raise
        if old:
            refcounts.give_back(old.offset >> header.cluster_bits)
        self._tables[number] = new
        if old:
            self.places.discard(old.offset >> header.cluster_bits)
        self.places.add(place >> header.cluster_bits)
        self.l1[number] = place | COPIED
        if header.l1_offset != l1_offset:
            self._l1_dirty[number] = None

    def _empty(self, place: int) -> Table:
        nothing = array("Q", [0])
        count = self.l2_entries
        return Table(place, nothing * count, nothing * (count if self._header.extended_l2 else 0))

    def set(self, offset: int, entry: int, bitmap: int = 0) -> None:
        """Change one entry of a table that is our `own`; `bitmap` is of its subclusters, if it has any."""
        number = offset >> self.l2_shift
        index = offset >> self._header.cluster_bits & self.l2_entries - 1
        table = self._tables[number]
        table.entries[index] = entry
        if table.bitmaps:
            table.bitmaps[index] = bitmap
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
            self.places.discard((entry & OFFSET_MASK) >> self._header.cluster_bits)
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

    def replace_l1(self, entries: list[int]) -> None:
        """Let the disk be what another table leads to; what is left of this one leads nowhere."""
        self.l1[:] = [*entries, *[0] * (len(self.l1) - len(entries))]
        self._tables = {}
        self._l1_dirty = dict.fromkeys(range(len(self.l1)))
        self._note_places()

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
                place = table.offset + first * self._header.l2_entry_bytes
                writes.append((place, table.encode(first, end)))
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
