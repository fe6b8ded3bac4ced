"""Writes to a qcow2 disk: in place where its clusters are its own, to new clusters elsewhere.

Source: qcow2_alloc_host_offset, calculate_l2_meta and qcow2_alloc_cluster_link_l2, block/qcow2-cluster.c;
handle_alloc_space, block/qcow2.c, 7.2.
"""

from __future__ import annotations

from errno import ENOTSUP

from simulator.block.driver import NO_FALLBACK
from simulator.block.drivers import qcow2_subclusters
from simulator.block.drivers.qcow2_corruption import CorruptImage, c_hex
from simulator.block.drivers.qcow2_kinds import (
    COPIED,
    NORMAL,
    NOT_HERE,
    OFFSET_MASK,
    PACKED,
    ZERO_ALLOCATED,
)
from simulator.engine.task import WaitQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2 import Qcow2
    from simulator.block.drivers.qcow2_tables import Table


class Write:
    """Guest clusters first..last that a write is under way to; `allocating`: their entries will change."""

    __slots__ = ("allocating", "first", "last")

    def __init__(self, first: int, last: int, allocating: bool) -> None:
        self.first, self.last, self.allocating = first, last, allocating


class Writes:
    """Those that are under way to one disk."""

    def __init__(self) -> None:
        self._under_way: list[Write] = []
        self._done = WaitQueue("a write to the same cluster")

    def begin(self, write: Write) -> None:
        self._under_way.append(write)

    def end(self, write: Write) -> None:
        self._under_way.remove(write)
        self._done.wake_all()

    async def waited_for(self, write: Write, allocating_only: bool) -> bool:
        """Whether a write to the same clusters was under way; if so it is over now, or another one is."""
        for other in self._under_way:
            if other.first <= write.last and write.first <= other.last:
                if allocating_only and not other.allocating:
                    continue
                await self._done.wait()
                return True
        return False


async def some(driver: Qcow2, offset: int, payload: bytes, flags: int) -> int:
    """Write what one run of clusters takes; returns its length, 0 if another write had to be waited
    for."""
    table = await driver.tables.own(offset)
    length, host, reuse = _plan(driver, table, offset, len(payload))
    bits = driver.header.cluster_bits
    write = Write(offset >> bits, offset + length - 1 >> bits, host is None or reuse)
    if write.allocating and await driver.writes.waited_for(write, allocating_only=True):
        return 0
    driver.writes.begin(write)
    try:
        piece = payload if length == len(payload) else payload[:length]
        if host is not None and not reuse:
            driver.check_overlap(host, length)
            await driver.data.event("write_aio")
            await driver.data.write(host, piece, flags)
        else:
            await _write_new(driver, offset, piece, host, flags)
    finally:
        driver.writes.end(write)
    return length


def _plan(driver: Qcow2, table: Table, offset: int, length: int) -> tuple[int, int | None, bool]:
    """(length, host offset or None, reuse) of the run at the start of a write.

    host and not reuse: written in place. host and reuse: a cluster that has its place already, but where
    its first part is not in use. None: new clusters are needed.
    """
    header, tables = driver.header, driver.tables
    _check_place(driver, table, offset)
    end = min(offset + length, ((offset >> tables.l2_shift) + 1) << tables.l2_shift)
    kind, host, run = tables.run(table, offset, end - offset)
    mask = tables.l2_entries - 1
    size = header.cluster_bytes

    def ours_alone(at: int) -> bool:
        entry = table.entries[at >> header.cluster_bits & mask]
        return bool(entry & COPIED) and tables.kind_of(entry) in (NORMAL, ZERO_ALLOCATED)

    owned = ours_alone(offset)
    if owned and kind != NORMAL:
        return min(end, (offset | size - 1) + 1) - offset, host, True
    limit = offset + run if owned else end
    at = (offset | size - 1) + 1
    while at < limit and ours_alone(at) == owned:
        at += size
    return min(at, limit) - offset, host if owned else None, False


def _check_place(driver: Qcow2, table: Table, offset: int) -> None:
    """handle_copied. Raises CorruptImage."""
    tables = driver.tables
    entry, _ = tables.at(table, offset)
    kind, host = tables.kind_of(entry), entry & OFFSET_MASK
    if kind in (NORMAL, ZERO_ALLOCATED) and entry & COPIED and host % driver.header.cluster_bytes:
        what = "Data" if kind == NORMAL else "Preallocated zero"
        raise CorruptImage(f"{what} cluster offset {c_hex(host)} unaligned (guest offset: {c_hex(offset)})")


def _touched(driver: Qcow2, table: Table, offset: int, end: int, new: bool) -> tuple[int, int]:
    """(start, end) of what has to be written for a write to offset..end: what is around it in the same
    parts of its first and last cluster, and with new clusters also what else was in the old ones."""
    header, tables = driver.header, driver.tables
    size, part = header.cluster_bytes, header.subcluster_bytes
    start, stop = offset & -part, end + -end % part
    if not new:
        # A part that is in use already is written in place.
        last = end - 1
        if tables.run(table, last, 1)[0] == NORMAL:
            stop = end
        return start, stop
    for at, is_first in ((offset, True), (end - 1, False)):
        entry, bitmap = tables.at(table, at)
        kind = tables.kind_of(entry)
        cluster = at & -size
        first, behind = 0, qcow2_subclusters.PER_CLUSTER
        if kind not in (NORMAL, PACKED, ZERO_ALLOCATED):
            continue
        if kind != PACKED and header.extended_l2:
            first = qcow2_subclusters.first_allocated(bitmap)
            behind = qcow2_subclusters.end_of_allocated(bitmap)
        if is_first:
            start = min(start, cluster + (first * part if header.extended_l2 else 0))
        else:
            stop = max(stop, cluster + (behind * part if header.extended_l2 else size))
    return start, stop


async def _write_new(driver: Qcow2, offset: int, payload: bytes, host: int | None, flags: int) -> None:
    """Write to clusters that get their place now, with what is around the payload copied from below."""
    bits, size = driver.header.cluster_bits, driver.header.cluster_bytes
    behind = offset + len(payload)
    new = host is None
    start, end = _touched(driver, await driver.tables.own(offset), offset, behind, new)
    if new and not driver.header.has_data_file:
        await driver.file.event("cluster_alloc")
    head = await _old_bytes(driver, start, offset - start)
    tail = await _old_bytes(driver, behind, end - behind)
    first = offset & -size
    count = (behind - 1 >> bits) - (offset >> bits) + 1
    place = driver.allocate_data(first >> bits, count) << bits if host is None else host & -size
    try:
        if (head is None or tail is None) and not await _zeroed_fast(
            driver, place + start - first, end - start
        ):
            head = bytes(offset - start) if head is None else head
            tail = bytes(end - behind) if tail is None else tail
        driver.check_overlap(place + start - first, end - start)
        await driver.data.event("write_aio")
        if head or tail:
            before, after = head or b"", tail or b""
            at = place + offset - first - len(before)
            await driver.data.write(at, before + payload + after, flags)
        else:
            await driver.data.write(place + offset - first, payload, flags)
    except OSError:
        if new:
            driver.release_data(place >> bits, count)
        raise
    await _link(driver, first, count, place, (start, end), new)


async def _link(
    driver: Qcow2, first: int, count: int, place: int, touched: tuple[int, int], new: bool
) -> None:
    """Let the entries of `count` clusters say where they are, and which of their parts were written."""
    header, tables = driver.header, driver.tables
    table = await tables.own(first)
    await driver.mark_dirty()
    for guest in range(first, first + count * header.cluster_bytes, header.cluster_bytes):
        old, bitmap = tables.at(table, guest)
        if header.extended_l2:
            start = max(touched[0], guest) - guest
            end = min(touched[1], guest + header.cluster_bytes) - guest
            part = header.subcluster_bits
            bitmap = qcow2_subclusters.allocated(bitmap, start >> part, (end - 1 >> part) + 1)
        tables.set(guest, place + guest - first | COPIED, bitmap)
        if new:
            driver.give_back(old, discard=False)


async def _zeroed_fast(driver: Qcow2, place: int, length: int) -> bool:
    """False where that can only be done by writing (block/qcow2.c, handle_alloc_space)."""
    await driver.file.event("cluster_alloc_space")
    try:
        await driver.data.write_zeroes(place, length, NO_FALLBACK)
    except OSError as error:
        if error.errno != ENOTSUP:
            raise
        return False
    return True


async def _old_bytes(driver: Qcow2, offset: int, length: int) -> bytes | None:
    """What a part of one cluster holds before a write; None if it is known to be zero, b"" for no
    part."""
    end = offset + length
    pieces: list[bytes] = []
    known_zero = bool(length)
    backing = driver.node.backing
    while offset < end:
        kind, host, run = driver.tables.run(await driver.tables.load(offset), offset, end - offset)
        below = kind in NOT_HERE and backing is not None and offset < backing.size_bytes
        if below or kind in (NORMAL, PACKED):
            known_zero = False
            await driver.file.event("cow_read")
            pieces.append(await driver.read_run(kind, host, offset, run))
        else:
            pieces.append(bytes(run))
        offset += run
    return None if known_zero else b"".join(pieces)
