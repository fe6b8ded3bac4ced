"""Does what a qcow2 image counts agree with what it refers to? And repair of what was not written in time.

Source: qcow2_co_check and qcow2_check_refcounts, block/qcow2-refcount.c, 7.2.
"""

from __future__ import annotations

from errno import EIO
from os import strerror
from struct import Struct

from simulator.block.drivers import qcow2_bitmaps, qcow2_compressed, qcow2_subclusters
from simulator.block.drivers.qcow2_header import CORRUPT, DIRTY
from simulator.block.drivers.qcow2_kinds import COPIED, NORMAL, OFFSET_MASK, PACKED, UNALLOCATED
from simulator.block.drivers.qcow2_refcounts import words
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.block.drivers.qcow2 import Qcow2

_SNAPSHOT = Struct(">QIHHIIQII")


class CheckResult:
    """Numbers of qemu-img check; `messages` in its words. `expected`: references found, by cluster."""

    def __init__(self) -> None:
        self.corruptions = 0
        self.leaks = 0
        self.leaks_fixed = 0
        self.corruptions_fixed = 0
        self.allocated_clusters = 0
        self.compressed_clusters = 0
        self.fragmented_clusters = 0
        self.total_clusters = 0
        self.image_end_offset = 0
        self.messages: list[str] = []
        self.expected: dict[int, int] = {}
        self._next_host = -1

    def refer(self, clusters: Iterable[int]) -> None:
        for cluster in clusters:
            self.expected[cluster] = self.expected.get(cluster, 0) + 1

    def corrupt(self, message: str) -> None:
        self.corruptions += 1
        self.messages.append(f"ERROR {message}")

    def place(self, host: int, cluster_bytes: int) -> None:
        """A guest cluster lies at `host`: fragmented if not right behind the one before."""
        self.allocated_clusters += 1
        if self._next_host not in (-1, host):
            self.fragmented_clusters += 1
        self._next_host = host + cluster_bytes


async def check(driver: Qcow2) -> CheckResult:
    """Compare; change nothing. Raises OSError."""
    header = driver.header
    size, bits = header.cluster_bytes, header.cluster_bits
    result = CheckResult()
    result.total_clusters = -(-header.size_bytes // size)
    await driver.refcounts.load()
    result.refer([0])
    result.refer(driver.refcounts.table_clusters())
    result.refer(_span(header.l1_offset, header.l1_entries * 8, bits))
    await _check_l1(driver, driver.tables.l1, result, active=True)
    await _check_snapshots(driver, result)
    await _check_bitmaps(driver, result)
    # What is counted behind the end of the file is no leak: it takes no room.
    end = max(-(-driver.file.node.size_bytes // size), max(result.expected) + 1)
    counted = {cluster: count for cluster, count in driver.refcounts.used() if cluster < end}
    for cluster in sorted({*counted, *result.expected}):
        have, wanted = counted.get(cluster, 0), result.expected.get(cluster, 0)
        if have > wanted:
            result.leaks += 1
            result.messages.append(f"Leaked cluster {cluster} refcount={have} reference={wanted}")
        elif have < wanted:
            result.corrupt(f"cluster {cluster} refcount={have} reference={wanted}")
    ends = [cluster + 1 for cluster in (*counted, *result.expected)]
    result.image_end_offset = max(ends, default=0) << bits
    return result


def _span(offset: int, length: int, bits: int) -> range:
    """The clusters that a part of the file touches."""
    return range(offset >> bits, (offset + length - 1 >> bits) + 1) if length else range(0)


async def _check_l1(driver: Qcow2, l1: list[int], result: CheckResult, active: bool) -> None:
    header = driver.header
    for number, entry in enumerate(l1):
        place = entry & OFFSET_MASK
        if not place:
            continue
        if place % header.cluster_bytes:
            result.corrupt(f"l2_offset={place:x}: Table is not cluster aligned; L1 entry corrupted")
            continue
        result.refer([place >> header.cluster_bits])
        if active:
            _check_copied(driver, result, entry, place, f"L2 table: l1_index={number} l1_entry={entry:x}")
            table = await driver.tables.load(number << driver.tables.l2_shift)
            assert table is not None
        else:
            table = await driver.tables.read_table(place)
        for index, l2_entry in enumerate(table.entries):
            bitmap = table.bitmaps[index] if table.bitmaps else 0
            if l2_entry or bitmap:
                _check_entry(driver, l2_entry, bitmap, result, active)


def _check_entry(driver: Qcow2, entry: int, bitmap: int, result: CheckResult, active: bool) -> None:
    header = driver.header
    kind = driver.tables.kind_of(entry)
    if kind == PACKED:
        host, length = qcow2_compressed.place(driver.header, entry)
        result.refer(_span(host, length, header.cluster_bits))
        if entry & COPIED:
            result.corrupt(f"coffset={host:x}: copied flag must never be set for compressed clusters")
        if bitmap:
            where = host & -header.cluster_bytes
            result.corrupt(
                f"compressed cluster {where} with non-zero subcluster allocation bitmap, entry={entry:x}"
            )
        if active:
            result.allocated_clusters += 1
            result.compressed_clusters += 1
        return
    host = entry & OFFSET_MASK
    if kind == UNALLOCATED and not qcow2_subclusters.is_sound(kind, bitmap):
        result.corrupt("Unallocated cluster has non-zero subcluster allocation map")
    if not host and kind != NORMAL:
        return
    if kind == NORMAL and not qcow2_subclusters.is_sound(kind, bitmap):
        result.corrupt(f"offset={host:x}: Allocated cluster has corrupted subcluster allocation bitmap")
    if header.has_data_file:
        if active:
            result.place(host, header.cluster_bytes)
        return
    if host % header.cluster_bytes:
        result.corrupt(f"offset={host:x}: Cluster is not properly aligned; L2 entry corrupted.")
        return
    result.refer([host >> header.cluster_bits])
    if active:
        result.place(host, header.cluster_bytes)
        _check_copied(driver, result, entry, host, f"data cluster: l2_entry={entry:x}")


def _check_copied(driver: Qcow2, result: CheckResult, entry: int, place: int, what: str) -> None:
    refcount = driver.refcounts.get(place >> driver.header.cluster_bits)
    if (refcount == 1) != bool(entry & COPIED):
        result.corrupt(f"OFLAG_COPIED {what} refcount={refcount}")


async def _check_snapshots(driver: Qcow2, result: CheckResult) -> None:
    header = driver.header
    at = header.snapshots_offset
    for _ in range(header.snapshot_count):
        fields = _SNAPSHOT.unpack(await driver.file.read(at, _SNAPSHOT.size))
        l1_offset, l1_entries, id_bytes, name_bytes, extra = (
            fields[0],
            fields[1],
            fields[2],
            fields[3],
            fields[8],
        )
        result.refer(_span(l1_offset, l1_entries * 8, header.cluster_bits))
        l1 = list(words(await driver.file.read(l1_offset, l1_entries * 8)))
        await _check_l1(driver, l1, result, active=False)
        length = _SNAPSHOT.size + extra + id_bytes + name_bytes
        at += length + -length % 8
    result.refer(_span(header.snapshots_offset, at - header.snapshots_offset, header.cluster_bits))


async def _check_bitmaps(driver: Qcow2, result: CheckResult) -> None:
    header = driver.header
    bits = header.cluster_bits
    if not header.bitmap_count:
        return
    result.refer(_span(header.bitmap_directory_offset, header.bitmap_directory_bytes, bits))
    for stored in await qcow2_bitmaps.read_directory(driver):
        result.refer(_span(stored.table_offset, stored.table_entries * 8, bits))
        for entry in await qcow2_bitmaps.read_table(driver, stored):
            if entry & OFFSET_MASK:
                result.refer([(entry & OFFSET_MASK) >> bits])


async def repair(driver: Qcow2, leaks_only: bool = False) -> CheckResult:
    """Let refcounts be what is referred to, and the image clean. Raises QmpError, OSError.

    Returns what was wrong before, with the numbers of what was put right.
    """
    result = await check(driver)
    refcounts = driver.refcounts
    counted = dict(refcounts.used())
    for cluster in sorted({*counted, *result.expected}):
        have, wanted = counted.get(cluster, 0), result.expected.get(cluster, 0)
        if have > wanted:
            refcounts.set(cluster, wanted)
            result.leaks_fixed += 1
        elif have < wanted and not leaks_only:
            refcounts.set(cluster, wanted)
            result.corruptions_fixed += 1
    refcounts.search_from_start()
    if leaks_only and result.corruptions:
        await driver.flush()
        return result
    await repair_copied(driver)
    left = await check(driver)
    if left.corruptions:
        raise QmpError(f"Could not repair dirty image: {strerror(EIO)}")
    driver.header.incompatible &= ~(DIRTY | CORRUPT)
    await driver.write_header()
    return result


async def repair_copied(driver: Qcow2) -> None:
    """Set the flags of the active tables by the refcounts."""
    bits, tables = driver.header.cluster_bits, driver.tables
    for number, entry in enumerate(tables.l1):
        place = entry & OFFSET_MASK
        if not place:
            continue
        tables.set_l1_copied(number, driver.refcounts.get(place >> bits) == 1)
        first = number << tables.l2_shift
        table = await tables.load(first)
        assert table is not None
        for index, old in enumerate(table.entries):
            if driver.header.has_data_file:
                break
            if tables.kind_of(old) != PACKED and old & OFFSET_MASK:
                alone = driver.refcounts.get((old & OFFSET_MASK) >> bits) == 1
                new = old & ~COPIED | (COPIED if alone else 0)
                if new != old:
                    guest = first + (index << bits)
                    tables.set(guest, new, tables.at(table, guest)[1])
