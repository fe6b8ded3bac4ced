"""Which clusters of a qcow2 image are in use: the refcount table and its blocks, in memory until written
back.

Source: docs/interop/qcow2.txt, "Reference count table" and "refcount blocks"; block/qcow2-refcount.c, 7.2.
"""

from __future__ import annotations

from array import array
from errno import EFBIG, EIO
from os import strerror
from struct import pack
from sys import byteorder

from simulator.block.drivers.qcow2_header import MAX_REFTABLE_BYTES
from simulator.engine.task import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.block.drivers.qcow2_header import Header
    from simulator.block.node import Edge

Writes = list[tuple[int, bytes]]  # (offset in the image file, payload)

_TYPES = {8: "B", 16: "H", 32: "I", 64: "Q"}
_OFFSET_MASK = ~0x1FF & ((1 << 64) - 1)


class _Block:
    """One refcount block. `entries` is as long as any is in use; what follows is 0, and often most of the
    block. dirty_from..dirty_to are indexes of changed entries, empty if equal."""

    __slots__ = ("dirty_from", "dirty_to", "entries", "offset")

    def __init__(self, offset: int, entries: array[int]) -> None:
        self.offset = offset
        self.entries = entries
        self.dirty_from = self.dirty_to = 0

    def touch(self, first: int, end: int) -> None:
        if self.dirty_from == self.dirty_to:
            self.dirty_from, self.dirty_to = first, end
        else:
            self.dirty_from, self.dirty_to = min(self.dirty_from, first), max(self.dirty_to, end)


class Refcounts:
    """Cluster numbers, not offsets, throughout. `load` must have finished before anything else is called, but
    for `count_used`.

    A cluster that is given back stays in use until `settle`: what is on disk may still refer to it, and a
    request may still be reading it.
    """

    def __init__(self, file: Edge, header: Header) -> None:
        self._file = file
        self._header = header
        self._loaded = False
        self._lock = Lock("the refcount blocks to be read")
        self.writing = Lock("another writing of the image's metadata")  # held from take_writes on
        self._table: array[int] = array("Q")  # as long as any block is there
        self._table_entries = 0  # how many there is room for
        self._blocks: dict[int, _Block] = {}
        # The clusters of all blocks, only asked whether they hold one.
        self.block_places: set[int] = set()
        self._table_moved = False
        self._table_dirty = False
        self._block_dirty = False  # at least one of them
        self._first_maybe_free = 0
        self._free_byte = 0  # behind what `allocate_bytes` gave out; 0: at the end of a cluster
        self._given_back: list[tuple[int, int]] = []
        self._to_discard: list[tuple[int, int]] = []
        self.per_block = header.cluster_bytes * 8 // header.refcount_bits

    def begin_empty(self) -> None:
        """Instead of `load`, for a new image: a table whose one block lies right behind it, and no cluster in
        use."""
        header = self._header
        table_bytes = header.reftable_clusters * header.cluster_bytes
        offset = header.reftable_offset + table_bytes
        self._table, self._table_entries = array("Q", [offset]), table_bytes // 8
        self._blocks[0] = self._empty_block(offset)
        self.block_places.add(offset >> header.cluster_bits)
        self._loaded = True

    async def load(self) -> None:
        """Read all once. Raises OSError."""
        if self._loaded:
            return
        async with self._lock:
            if self._loaded:
                return
            header = self._header
            table_bytes = header.reftable_clusters * header.cluster_bytes
            raw = await self._file.read(header.reftable_offset, table_bytes)
            self._table, self._table_entries = words(_without_zeroes(raw, 8)), table_bytes // 8
            for number, entry in enumerate(self._table):
                offset = entry & _OFFSET_MASK
                if offset:
                    if offset % header.cluster_bytes:
                        raise OSError(EIO, strerror(EIO))
                    width = header.refcount_bits
                    await self._file.event("refblock_load")
                    payload = _without_zeroes(await self._file.read(offset, header.cluster_bytes), width // 8)
                    self._blocks[number] = _Block(offset, _unpack(payload, width))
                    self.block_places.add(offset >> header.cluster_bits)
            self._loaded = True

    # What is in use.

    async def count_used(self, end: int, enough: int) -> int:
        """How many clusters before `end` are in use, counted block by block until there are `enough`. Reads
        no more than it looks at. Raises OSError."""
        found = 0
        for number in range(-(-end // self.per_block)):
            entries = await self._first_entries(number, min(end - number * self.per_block, self.per_block))
            found += len(entries) - entries.count(0)
            if found >= enough:
                break
        return found

    async def first_read(self) -> None:
        """Wait as long as reading a block takes, if none is in memory. Raises OSError."""
        if not self._loaded:
            await self._file.read(self._header.reftable_offset, 8)

    async def _first_entries(self, number: int, count: int) -> array[int]:
        """Of block `number`, from memory or as it is in the file; none if there is no such block."""
        if self._loaded:
            block = self._blocks.get(number)
            return block.entries[:count] if block else array("B")
        header = self._header
        if number * 8 >= header.reftable_clusters * header.cluster_bytes:
            return array("B")
        place = words(await self._file.read(header.reftable_offset + number * 8, 8))[0] & _OFFSET_MASK
        if not place:
            return array("B")
        if place % header.cluster_bytes:
            raise OSError(EIO, strerror(EIO))
        width = header.refcount_bits
        return _unpack(await self._file.read(place, -(-count * width // 8)), width)[:count]

    def get(self, cluster: int) -> int:
        number, index = divmod(cluster, self.per_block)
        block = self._blocks.get(number)
        return block.entries[index] if block and index < len(block.entries) else 0

    def used(self) -> list[tuple[int, int]]:
        """(cluster, refcount) of all clusters in use, in order."""
        found = []
        for number in sorted(self._blocks):
            first = number * self.per_block
            found += [(first + at, count) for at, count in enumerate(self._blocks[number].entries) if count]
        return found

    def table_clusters(self) -> list[int]:
        """The clusters of the refcount table and of its blocks."""
        shift = self._header.cluster_bits
        first = self._header.reftable_offset >> shift
        own = list(range(first, first + self._header.reftable_clusters))
        return own + [block.offset >> shift for block in self._blocks.values()]

    # Changes.

    def allocate(self, count: int) -> int:
        """The first of `count` neighbouring free clusters, the lowest there are. OSError EFBIG."""
        at = self._first_maybe_free
        run = 0
        while run < count:
            at = self._next_free(at + run) if not run else at
            number = (at + run) // self.per_block
            if number not in self._blocks:
                # The block may take the very cluster that we looked at.
                self._new_block(number)
                run = 0
                continue
            if self.get(at + run):
                at, run = at + run + 1, 0
                continue
            run += 1
        for cluster in range(at, at + count):
            self.set(cluster, 1)
        if count == 1:
            self._first_maybe_free = at + 1
        return at

    def allocate_bytes(self, size_bytes: int) -> int:
        """The file's offset of so many bytes, at most a cluster, behind those that were given out last if
        they fit there: a cluster's refcount is how often something in it is used (qcow2_alloc_bytes)."""
        bits, cluster_bytes = self._header.cluster_bits, self._header.cluster_bytes
        at = self._free_byte
        if at and self.get(at >> bits) in (0, (1 << self._header.refcount_bits) - 1):
            at = 0
        if not at or cluster_bytes - at % cluster_bytes < size_bytes:
            new = self.allocate(1)
            self.set(new, 0)
            if not at or at + -at % cluster_bytes != new << bits:
                at = new << bits
        end = at + size_bytes
        for cluster in range(at >> bits, (end - 1 >> bits) + 1):
            self.set(cluster, self.get(cluster) + 1)
        self._free_byte = end if end % cluster_bytes else 0
        return at

    def _next_free(self, cluster: int) -> int:
        number, index = divmod(cluster, self.per_block)
        while number in self._blocks:
            entries = self._blocks[number].entries
            try:
                return number * self.per_block + entries.index(0, index)
            except ValueError:
                index = max(index, len(entries))
            if index < self.per_block:
                break
            number, index = number + 1, 0
        return number * self.per_block + index

    def set(self, cluster: int, count: int) -> None:
        """Set a refcount, making the block for it if needed."""
        number, index = divmod(cluster, self.per_block)
        if number not in self._blocks:
            self._new_block(number)
        block = self._blocks[number]
        entries = block.entries
        if index >= len(entries):
            entries.frombytes(bytes((index + 1 - len(entries)) * entries.itemsize))
        entries[index] = count
        block.touch(index, index + 1)
        self._block_dirty = True

    def give_back(self, cluster: int, count: int = 1, discard: bool = False) -> None:
        """Decrement at the next `settle`; `discard`: the file may be told that the clusters are free."""
        self._given_back.append((cluster, count))
        if discard:
            self._to_discard.append((cluster, count))

    def take_given_back(self) -> list[tuple[int, int]]:
        taken, self._given_back = self._given_back, []
        return taken

    def keep_given_back(self, taken: list[tuple[int, int]]) -> None:
        self._given_back = taken + self._given_back

    def settle(self, taken: list[tuple[int, int]]) -> None:
        """Decrement what was given back."""
        for first, count in taken:
            for cluster in range(first, first + count):
                left = self.get(cluster) - 1
                if left < 0:
                    continue
                self.set(cluster, left)
                if not left:
                    self._first_maybe_free = min(self._first_maybe_free, cluster)
                    if self._free_byte >> self._header.cluster_bits == cluster:
                        self._free_byte = 0

    def take_discards(self, taken_back: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
        """(cluster, count) of what nothing uses once all is settled, `taken_back` too: free to discard."""
        leaving = [*self._given_back, *taken_back]
        free: list[tuple[int, int]] = []
        taken, self._to_discard = self._to_discard, []
        for first, count in taken:
            if not any(self._stays_used(cluster, leaving) for cluster in range(first, first + count)):
                free.append((first, count))
        return free

    def _stays_used(self, cluster: int, leaving: Sequence[tuple[int, int]]) -> bool:
        uses: int = self.get(cluster)
        return uses > 1 and uses > sum(first <= cluster < first + count for first, count in leaving)

    def search_from_start(self) -> None:
        """After changes by `set`: any cluster may be free now."""
        self._first_maybe_free = 0

    def release_unused(self, first: int, count: int) -> None:
        """Free at once what was allocated and never written to a table."""
        self.settle([(first, count)])

    def _new_block(self, number: int) -> None:
        if number >= self._table_entries:
            self._grow_table(number + 1)
            if number in self._blocks:
                return
        block = self._empty_block(0)
        block.touch(0, self.per_block)
        place = self._next_free(self._first_maybe_free)
        self._blocks[number] = block
        if place // self.per_block not in self._blocks:
            place = number * self.per_block
        block.offset = place << self._header.cluster_bits
        self.block_places.add(place)
        self._table.frombytes(bytes(max(number + 1 - len(self._table), 0) * 8))
        self._table[number] = block.offset
        self._table_dirty = True
        self.set(place, 1)

    def _empty_block(self, offset: int) -> _Block:
        return _Block(offset, array(_TYPES[max(self._header.refcount_bits, 8)]))

    def _grow_table(self, entries: int) -> None:
        """A bigger table somewhere else; the old one is given back."""
        header = self._header
        per_cluster = header.cluster_bytes // 8
        clusters = max(-(-entries // per_cluster), header.reftable_clusters * 3 // 2 + 1)
        if clusters * header.cluster_bytes > MAX_REFTABLE_BYTES:
            raise OSError(EFBIG, strerror(EFBIG))
        self._table_entries = clusters * per_cluster
        first = self.allocate(clusters)
        self.give_back(header.reftable_offset >> header.cluster_bits, header.reftable_clusters)
        header.reftable_offset, header.reftable_clusters = first << header.cluster_bits, clusters
        self._table_moved = self._table_dirty = True

    # Writing back.

    def is_dirty(self) -> bool:
        return self._block_dirty or self._table_dirty or bool(self._given_back)

    def take_writes(self) -> Writes:
        """What must be written, blocks before the table and the table before the header that points at it."""
        writes: Writes = []
        width = self._header.refcount_bits
        self._block_dirty = False
        for block in self._blocks.values():
            if block.dirty_from != block.dirty_to:
                # Whole bytes, and no more than a sector around what changed.
                per_sector = 512 * 8 // width
                first = block.dirty_from - block.dirty_from % per_sector
                end = min(block.dirty_to + -block.dirty_to % per_sector, self.per_block)
                changed = block.entries[first:end]
                changed.frombytes(bytes((end - first - len(changed)) * changed.itemsize))
                writes.append((block.offset + first * width // 8, _pack(changed, width)))
                block.dirty_from = block.dirty_to = 0
        if self._table_dirty:
            self._table_dirty = False
            table = packed(self._table).ljust(self._table_entries * 8, b"\0")
            writes.append((self._header.reftable_offset, table))
        if self._table_moved:
            self._table_moved = False
            # The header's fields refcount_table_offset and refcount_table_clusters.
            writes.append((48, pack(">QI", self._header.reftable_offset, self._header.reftable_clusters)))
        return writes


def _without_zeroes(payload: bytes, unit: int) -> bytes:
    """A payload without the zeroes at its end, but for those of its last `unit` (0: of less than a byte)."""
    end = _bytes_before_zeroes(payload)
    return payload[: end + -end % max(unit, 1)]


def _bytes_before_zeroes(payload: bytes) -> int:
    """How long a payload is without the zeroes at its end. Halves are compared as wholes, which is ten times
    as fast as to strip a table that is mostly empty."""
    end = len(payload)
    step = end >> 1
    while step >= 32:
        if payload[end - step : end] == bytes(step):
            end -= step
        step >>= 1
    return len(payload[:end].rstrip(b"\0"))


def words(payload: bytes) -> array[int]:
    """Big-endian 64 bit words."""
    found = array("Q", payload)
    if byteorder == "little":
        found.byteswap()
    return found


def packed(entries: list[int] | array[int]) -> bytes:
    out = array("Q", entries)
    if byteorder == "little":
        out.byteswap()
    return out.tobytes()


def _unpack(payload: bytes, width: int) -> array[int]:
    if width < 8:
        mask = (1 << width) - 1
        return array("B", [byte >> shift & mask for byte in payload for shift in range(0, 8, width)])
    entries = array(_TYPES[width], payload)
    if byteorder == "little":
        entries.byteswap()
    return entries


def _pack(entries: array[int], width: int) -> bytes:
    if width < 8:
        per_byte = 8 // width
        return bytes(
            sum(entries[at + i] << i * width for i in range(per_byte))
            for at in range(0, len(entries), per_byte)
        )
    out = array(entries.typecode, entries)
    if byteorder == "little":
        out.byteswap()
    return out.tobytes()
