"""Internal snapshots of a qcow2 image: copies of the L1 table that share all clusters with the active one
(block/qcow2-snapshot.c, 7.2)."""

from __future__ import annotations

from errno import EFBIG, EINVAL
from os import strerror
from struct import Struct, pack

from simulator.block.drivers import qcow2_compressed
from simulator.block.drivers.qcow2_refcounts import packed, words
from simulator.block.drivers.qcow2_tables import (
    COPIED,
    NORMAL,
    OFFSET_MASK,
    PACKED,
    ZERO_ALLOCATED,
    kind_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from simulator.block.drivers.qcow2 import Qcow2

# l1_table_offset, l1_size, lengths of id and name, date_sec, date_nsec, vm_clock_nsec, vm_state_size, length
# of what follows: vm_state_size, disk_size, icount.
_ENTRY = Struct(">QIHHIIQII")
_EXTRA = Struct(">QQQ")
_NO_ICOUNT = (1 << 64) - 1
_MOST = 65536
_HEADER_FIELDS = 60  # nb_snapshots, snapshots_offset


class Snapshot:
    """`made_ns` since 1970, `vm_clock_ns` since the machine's start."""

    __slots__ = ("disk_bytes", "id", "l1_entries", "l1_offset", "made_ns", "name", "vm_clock_ns")

    def __init__(self, id: str, name: str, made_ns: int, vm_clock_ns: int, disk_bytes: int) -> None:
        self.id, self.name = id, name
        self.made_ns, self.vm_clock_ns, self.disk_bytes = made_ns, vm_clock_ns, disk_bytes
        self.l1_offset = self.l1_entries = 0

    def describe(self) -> dict[str, Any]:
        """QAPI SnapshotInfo."""
        date_sec, date_nsec = divmod(self.made_ns, 10**9)
        clock_sec, clock_nsec = divmod(self.vm_clock_ns, 10**9)
        return {
            "id": self.id, "name": self.name, "vm-state-size": 0,
            "date-sec": date_sec, "date-nsec": date_nsec,
            "vm-clock-sec": clock_sec, "vm-clock-nsec": clock_nsec,
        }  # fmt: skip

    def encode(self) -> bytes:
        date_sec, date_nsec = divmod(self.made_ns, 10**9)
        id_bytes, name = self.id.encode(), self.name.encode()
        fields = (
            self.l1_offset, self.l1_entries, len(id_bytes), len(name), date_sec & 0xFFFFFFFF, date_nsec,
            self.vm_clock_ns, 0, _EXTRA.size,
        )  # fmt: skip
        whole = _ENTRY.pack(*fields) + _EXTRA.pack(0, self.disk_bytes, _NO_ICOUNT) + id_bytes + name
        return whole + bytes(-len(whole) % 8)


async def load(driver: Qcow2) -> None:
    """Raises OSError."""
    driver.snapshots.clear()
    at = driver.header.snapshots_offset
    for _ in range(driver.header.snapshot_count):
        fields = _ENTRY.unpack(await driver.file.read(at, _ENTRY.size))
        l1_offset, l1_entries, id_length, name_length, date_sec, date_nsec, clock_ns, _, extra = fields
        rest = await driver.file.read(at + _ENTRY.size, extra + id_length + name_length)
        disk_bytes = int.from_bytes(rest[8:16], "big") if extra >= 16 else driver.header.size_bytes
        words_of = rest[extra:].decode(errors="replace")
        made_ns = date_sec * 10**9 + date_nsec
        found = Snapshot(words_of[:id_length], words_of[id_length:], made_ns, clock_ns, disk_bytes)
        found.l1_offset, found.l1_entries = l1_offset, l1_entries
        driver.snapshots.append(found)
        length = _ENTRY.size + len(rest)
        at += length + -length % 8
    driver.snapshot_table_bytes = at - driver.header.snapshots_offset


async def create(driver: Qcow2, name: str, made_ns: int) -> Snapshot:
    """Of the image as it is; nothing is under way on it. The clock of a machine without processors stands.
    Raises OSError."""
    if len(driver.snapshots) >= _MOST:
        raise OSError(EFBIG, strerror(EFBIG))
    await driver.refcounts.load()
    numbers = [int(each.id) for each in driver.snapshots if each.id.isdecimal()]
    new = Snapshot(str(max(numbers, default=0) + 1), name, made_ns, 0, driver.header.size_bytes)
    tables = driver.tables
    await _share(driver)
    new.l1_entries = len(tables.l1)
    new.l1_offset = _allocate(driver, new.l1_entries * 8)
    await driver.flush()
    await driver.file.write(new.l1_offset, packed(tables.l1))
    driver.snapshots.append(new)
    await _write_table(driver)
    return new


async def _share(driver: Qcow2) -> None:
    """All that the active image refers to has one more user. Raises OSError, and nothing has changed."""
    tables, refcounts, bits = driver.tables, driver.refcounts, driver.header.cluster_bits
    used: dict[int, int] = {}
    entries = []
    for number, entry in enumerate(tables.l1):
        if not entry & OFFSET_MASK:
            continue
        first = number << tables.l2_shift
        table = await tables.load(first)
        assert table is not None
        for index, held in enumerate(table):
            for cluster in _clusters(driver, held):
                used[cluster] = used.get(cluster, 0) + 1
            if held & COPIED and kind_of(held) != PACKED:
                entries.append((first + (index << bits), held & ~COPIED))
        place = (entry & OFFSET_MASK) >> bits
        used[place] = used.get(place, 0) + 1
    most = (1 << driver.header.refcount_bits) - 1
    counts = [(cluster, refcounts.get(cluster) + more) for cluster, more in used.items()]
    if any(count > most for _, count in counts):
        raise OSError(EINVAL, strerror(EINVAL))
    for cluster, count in counts:
        refcounts.set(cluster, count)
    for offset, entry in entries:
        tables.set(offset, entry)
    for number, entry in enumerate(tables.l1):
        if entry & OFFSET_MASK:
            tables.set_l1_copied(number, False)


async def delete(driver: Qcow2, snapshot: Snapshot) -> None:
    """Raises OSError."""
    await driver.refcounts.load()
    driver.snapshots.remove(snapshot)
    await _write_table(driver)
    header, refcounts = driver.header, driver.refcounts
    bits = header.cluster_bits
    l1 = words(await driver.file.read(snapshot.l1_offset, snapshot.l1_entries * 8))
    for entry in l1:
        place = entry & OFFSET_MASK
        if place:
            for held in words(await driver.file.read(place, header.cluster_bytes)):
                for cluster in _clusters(driver, held):
                    refcounts.give_back(cluster)
            refcounts.give_back(place >> bits)
    refcounts.give_back(snapshot.l1_offset >> bits, -(-snapshot.l1_entries * 8 >> bits))
    await driver.flush()
    await _take_back(driver)
    await driver.flush()


async def _take_back(driver: Qcow2) -> None:
    """What belongs to the active image alone again may be written in place."""
    tables, refcounts = driver.tables, driver.refcounts
    bits = driver.header.cluster_bits
    for number, entry in enumerate(tables.l1):
        if not entry & OFFSET_MASK or refcounts.get((entry & OFFSET_MASK) >> bits) != 1:
            continue
        tables.set_l1_copied(number, True)
        first = number << tables.l2_shift
        table = await tables.load(first)
        assert table is not None
        for index, held in enumerate(table):
            alone = kind_of(held) in (NORMAL, ZERO_ALLOCATED) and all(
                refcounts.get(cluster) == 1 for cluster in _clusters(driver, held)
            )
            if alone and not held & COPIED:
                tables.set(first + (index << bits), held | COPIED)


def _clusters(driver: Qcow2, entry: int) -> Iterable[int]:
    """Those that an L2 entry refers to."""
    bits = driver.header.cluster_bits
    kind = kind_of(entry)
    if kind == PACKED:
        host, length = qcow2_compressed.place(driver.header, entry)
        return range(host >> bits, (host + length - 1 >> bits) + 1)
    return ((entry & OFFSET_MASK) >> bits,) if kind in (NORMAL, ZERO_ALLOCATED) else ()


def _allocate(driver: Qcow2, length: int) -> int:
    bits = driver.header.cluster_bits
    return driver.refcounts.allocate(max(-(-length >> bits), 1)) << bits


async def _write_table(driver: Qcow2) -> None:
    """The new table, then the header that names it; the old one is given back."""
    header, bits = driver.header, driver.header.cluster_bits
    old_offset, old_bytes = header.snapshots_offset, driver.snapshot_table_bytes
    payload = b"".join(each.encode() for each in driver.snapshots)
    offset = _allocate(driver, len(payload)) if payload else 0
    await driver.flush()
    if payload:
        await driver.file.write(offset, payload)
    await driver.file.write(_HEADER_FIELDS, pack(">IQ", len(driver.snapshots), offset))
    header.snapshot_count, header.snapshots_offset = len(driver.snapshots), offset
    driver.snapshot_table_bytes = len(payload)
    if old_bytes:
        driver.refcounts.give_back(old_offset >> bits, -(-old_bytes >> bits))
    await driver.flush()
