"""Internal snapshots of a qcow2 image: copies of its L1 table that keep the clusters of an earlier disk in
use.

Source: docs/interop/qcow2.txt, "Snapshots"; block/qcow2-snapshot.c, 7.2. Nothing may use the image meanwhile:
who calls has drained it.
"""

from __future__ import annotations

from errno import EFBIG, EINVAL, EIO, ENOTSUP
from os import strerror
from struct import Struct, pack

from simulator.block.drivers import qcow2_check, qcow2_compressed, qcow2_vm_state
from simulator.block.drivers.qcow2_header import c_text
from simulator.block.drivers.qcow2_kinds import OFFSET_MASK, PACKED
from simulator.block.drivers.qcow2_refcounts import packed, words
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2 import Qcow2
    from simulator.block.drivers.qcow2_tables import Table

# L1 table's offset and entries, lengths of id and name, date in seconds and nanoseconds, the machine's clock,
# bytes of the machine's state, length of what follows before id and name.
_FIXED = Struct(">QIHHIIQII")
_EXTRA = Struct(">QQQ")  # bytes of the machine's state, bytes of the disk, instructions
_NO_ICOUNT = (1 << 64) - 1
_MOST = 65536
_MOST_EXTRA_BYTES = 1024
_MOST_TABLE_BYTES = 1024 * _MOST
_COUNT_AND_OFFSET_AT = 60  # in the header
_SECOND_NS = 1_000_000_000


class Snapshot:
    __slots__ = (
        "date_ns",
        "disk_bytes",
        "icount",
        "identifier",
        "l1_entries",
        "l1_offset",
        "name",
        "unknown_extra",
        "vm_clock_ns",
        "vm_state_bytes",
    )

    def __init__(self, identifier: str, name: str, l1_offset: int, l1_entries: int) -> None:
        self.identifier, self.name = identifier, name
        self.l1_offset, self.l1_entries = l1_offset, l1_entries
        self.date_ns = self.vm_clock_ns = self.vm_state_bytes = self.disk_bytes = 0
        self.icount = _NO_ICOUNT
        self.unknown_extra = b""

    def info(self) -> dict[str, Any]:
        """SnapshotInfo."""
        date_s, date_ns = divmod(self.date_ns, _SECOND_NS)
        clock_s, clock_ns = divmod(self.vm_clock_ns, _SECOND_NS)
        counted = {} if self.icount == _NO_ICOUNT else {"icount": self.icount}
        return {
            "id": self.identifier,
            "name": self.name,
            "vm-state-size": self.vm_state_bytes,
            "date-sec": date_s,
            "date-nsec": date_ns,
            "vm-clock-sec": clock_s,
            "vm-clock-nsec": clock_ns,
            **counted,
        }

    def encode(self) -> bytes:
        extra = _EXTRA.pack(self.vm_state_bytes, self.disk_bytes, self.icount) + self.unknown_extra
        identifier, name = self.identifier.encode(), self.name.encode()
        date_s, date_ns = divmod(self.date_ns, _SECOND_NS)
        whole = _FIXED.pack(
            self.l1_offset, self.l1_entries, len(identifier), len(name), date_s, date_ns, self.vm_clock_ns,
            self.vm_state_bytes & 0xFFFFFFFF, len(extra),
        )  # fmt: skip
        return whole + extra + identifier + name


async def load(driver: Qcow2) -> list[Snapshot]:
    """Those that the image has. Raises QmpError."""
    start = driver.header.snapshots_offset
    at, found = start, []
    for number in range(driver.header.snapshot_count):
        fields = _FIXED.unpack(await _read(driver, at, _FIXED.size))
        l1_offset, l1_entries, id_bytes, name_bytes, date_s, date_ns, clock_ns, state_bytes, extra_bytes = (
            fields
        )
        if extra_bytes > _MOST_EXTRA_BYTES:
            refusal = QmpError(f"Too much extra metadata in snapshot table entry {number}")
            refusal.hint = "You can force-remove this extra metadata with qemu-img check -r all\n"
            raise refusal
        rest = await _read(driver, at + _FIXED.size, extra_bytes + id_bytes + name_bytes)
        extra, names = rest[:extra_bytes], rest[extra_bytes:]
        identifier, name = c_text(names[:id_bytes]), c_text(names[id_bytes:])
        snapshot = Snapshot(identifier, name, l1_offset, l1_entries)
        snapshot.date_ns, snapshot.vm_clock_ns = date_s * _SECOND_NS + date_ns, clock_ns
        known = extra[: _EXTRA.size].ljust(_EXTRA.size, b"\0")
        large_bytes, snapshot.disk_bytes, icount = _EXTRA.unpack(known)
        snapshot.vm_state_bytes = large_bytes if extra_bytes >= 8 else state_bytes
        if extra_bytes < 16:
            snapshot.disk_bytes = driver.header.size_bytes
        snapshot.icount = icount if extra_bytes >= _EXTRA.size else _NO_ICOUNT
        snapshot.unknown_extra = extra[_EXTRA.size :]
        found.append(snapshot)
        at += _FIXED.size + len(rest)
        at += -at % 8
        if at - start > _MOST_TABLE_BYTES:
            raise QmpError("Snapshot table is too big")
    return found


async def _read(driver: Qcow2, offset: int, length: int) -> bytes:
    try:
        return await driver.file.read(offset, length)
    except OSError as error:
        why = strerror(error.errno or EIO)
        raise QmpError(f"Failed to read snapshot table: {why}") from None


def _encode(snapshots: list[Snapshot]) -> bytes:
    """Each at a multiple of eight bytes, and nothing behind the last."""
    table = b""
    for snapshot in snapshots:
        table += bytes(-len(table) % 8) + snapshot.encode()
    return table


def infos(driver: Qcow2) -> list[dict[str, Any]]:
    """Raises OSError."""
    if driver.takes_data_file:
        raise OSError(ENOTSUP, strerror(ENOTSUP))
    return [snapshot.info() for snapshot in driver.snapshots]


async def create(driver: Qcow2, name: str, date_ns: int, vm_clock_ns: int, vm_state_bytes: int) -> str:
    """Returns the new one's id. Raises OSError."""
    if driver.takes_data_file:
        raise OSError(ENOTSUP, strerror(ENOTSUP))
    if len(driver.snapshots) >= _MOST:
        raise OSError(EFBIG, strerror(EFBIG))
    refcounts, tables = driver.refcounts, driver.tables
    await refcounts.load()
    await driver.flush()
    counts = await _counts_with_one_more(driver, tables.l1)
    entries = len(tables.l1)
    place = refcounts.allocate(_clusters(driver, entries * 8)) << driver.header.cluster_bits
    await driver.file.write(place, packed(tables.l1))
    numbers = [int(each.identifier) for each in driver.snapshots if each.identifier.isdigit()]
    snapshot = Snapshot(str(max(numbers, default=0) + 1), name, place, entries)
    snapshot.date_ns, snapshot.vm_clock_ns = date_ns, vm_clock_ns
    snapshot.disk_bytes, snapshot.vm_state_bytes = driver.node.size_bytes, vm_state_bytes
    for cluster, count in counts.items():
        refcounts.set(cluster, count)
    await qcow2_check.repair_copied(driver)
    await _write_list(driver, [*driver.snapshots, snapshot])
    if vm_state_bytes:
        await qcow2_vm_state.forget(driver, vm_state_bytes)
    return snapshot.identifier


async def _counts_with_one_more(driver: Qcow2, l1: list[int]) -> dict[int, int]:
    """cluster -> its refcount when all that an L1 table leads to, which is in the file as it is, has one more
    user. Raises OSError if there is no room for that."""
    tables, counts = driver.tables, dict[int, int]()
    for entry in l1:
        place = entry & OFFSET_MASK
        if place:
            table = await tables.read_table(place)
            for cluster in (*_used_by(driver, table), place >> driver.header.cluster_bits):
                counts[cluster] = counts.get(cluster, driver.refcounts.get(cluster)) + 1
    if any(count >> driver.header.refcount_bits for count in counts.values()):
        raise OSError(EINVAL, strerror(EINVAL))
    return counts


async def delete(driver: Qcow2, identifier: str) -> None:
    """Raises OSError."""
    snapshot = next(each for each in driver.snapshots if each.identifier == identifier)
    bits, refcounts = driver.header.cluster_bits, driver.refcounts
    await refcounts.load()
    await _write_list(driver, [each for each in driver.snapshots if each is not snapshot])
    await _give_back(driver, await _l1_of(driver, snapshot))
    refcounts.give_back(snapshot.l1_offset >> bits, _clusters(driver, snapshot.l1_entries * 8), discard=True)
    await driver.flush()
    await qcow2_check.repair_copied(driver)
    await driver.flush()


async def go_to(driver: Qcow2, name: str) -> None:
    """The disk is again what it was when that snapshot was made (qcow2_snapshot_goto). Raises OSError."""
    if driver.takes_data_file:
        raise OSError(ENOTSUP, strerror(ENOTSUP))
    tables, refcounts = driver.tables, driver.refcounts
    by_id = [each for each in driver.snapshots if each.identifier == name]
    snapshot = [*by_id, *(each for each in driver.snapshots if each.name == name)][0]
    await refcounts.load()
    if snapshot.disk_bytes != driver.node.size_bytes:
        try:
            await driver.node.truncate(snapshot.disk_bytes, True)
        except QmpError as error:
            driver.node.graph.report(error.desc)
            raise OSError(ENOTSUP, strerror(ENOTSUP)) from None
    tables.grow_l1(snapshot.l1_entries)
    await driver.flush()
    l1 = await _l1_of(driver, snapshot)
    for cluster, count in (await _counts_with_one_more(driver, l1)).items():
        refcounts.set(cluster, count)
    await _give_back(driver, tables.l1)
    tables.replace_l1(l1)
    # The new counts are in the file before the table is, and what only the old one led to is free after that.
    await driver.flush()
    await qcow2_check.repair_copied(driver)
    await driver.flush()


async def _l1_of(driver: Qcow2, snapshot: Snapshot) -> list[int]:
    return list(words(await driver.file.read(snapshot.l1_offset, snapshot.l1_entries * 8)))


async def _give_back(driver: Qcow2, l1: list[int]) -> None:
    """All that an L1 table leads to, and is in the file as it is, has one user less."""
    refcounts, bits = driver.refcounts, driver.header.cluster_bits
    for entry in l1:
        place = entry & OFFSET_MASK
        if place:
            for cluster in _used_by(driver, await driver.tables.read_table(place)):
                refcounts.give_back(cluster, 1, discard=True)
            refcounts.give_back(place >> bits, 1, discard=True)


def _clusters(driver: Qcow2, length: int) -> int:
    return -(-length // driver.header.cluster_bytes)


def _used_by(driver: Qcow2, table: Table) -> list[int]:
    """The clusters that the entries of an L2 table lead to; one more than once if several do."""
    bits = driver.header.cluster_bits
    found: list[int] = []
    for entry in table.entries:
        if driver.tables.kind_of(entry) == PACKED:
            host, length = qcow2_compressed.place(driver.header, entry)
            found += range(host >> bits, (host + length - 1 >> bits) + 1)
        elif entry & OFFSET_MASK:
            found.append((entry & OFFSET_MASK) >> bits)
    return found


async def _write_list(driver: Qcow2, snapshots: list[Snapshot]) -> None:
    """A new list at another place, once all that it leads to is in the file (qcow2_write_snapshots)."""
    header, refcounts = driver.header, driver.refcounts
    old_place, old_bytes = header.snapshots_offset, len(_encode(driver.snapshots))
    table = _encode(snapshots)
    place = refcounts.allocate(_clusters(driver, len(table))) << header.cluster_bits if table else 0
    await driver.flush()
    if table:
        await driver.file.write(place, table)
        await driver.file.flush()
    await driver.file.write(_COUNT_AND_OFFSET_AT, pack(">IQ", len(snapshots), place))
    header.snapshot_count, header.snapshots_offset = len(snapshots), place
    driver.snapshots = snapshots
    if old_bytes:
        refcounts.give_back(old_place >> header.cluster_bits, _clusters(driver, old_bytes), discard=True)
        await driver.flush()
