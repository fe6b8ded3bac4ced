"""Zeroes and discards of a qcow2 disk: changes of L2 entries, not of bytes, wherever whole clusters allow it.

Source: qcow2_co_pwrite_zeroes and qcow2_co_pdiscard, block/qcow2.c; zero_in_l2_slice and discard_in_l2_slice,
block/qcow2-cluster.c, 7.2.
"""

from __future__ import annotations

from simulator.block.driver import MAY_UNMAP, NO_FALLBACK, STATUS_ZERO
from simulator.block.drivers import qcow2_data_file, qcow2_flush, qcow2_subclusters
from simulator.block.drivers.qcow2_kinds import (
    COPIED,
    NORMAL,
    OFFSET_MASK,
    PACKED,
    UNALLOCATED,
    ZERO,
    ZERO_ALLOCATED,
    ZERO_PLAIN,
)
from simulator.block.drivers.qcow2_writes import Write
from simulator.block.status import status_above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.block.drivers.qcow2 import Qcow2
    from simulator.block.drivers.qcow2_tables import Table

    # From (entry, bitmap of its subclusters) to what they become.
    Change = Callable[[int, int], tuple[int, int]]

_BOUNCE_BYTES = 2 << 20


def _zero_entry(driver: Qcow2, flags: int) -> Change:
    """What write zeroes makes of an entry: it keeps its place unless the request allows to unmap."""
    extended, kind_of = driver.header.extended_l2, driver.tables.kind_of

    def entry_after(old: int, bitmap: int) -> tuple[int, int]:
        kind = kind_of(old)
        unmap = kind == PACKED or (flags & MAY_UNMAP and kind in (NORMAL, ZERO_ALLOCATED))
        if extended:
            return 0 if unmap else old, qcow2_subclusters.ALL_ZEROES
        return ZERO if unmap else old & ~ZERO | ZERO, 0

    return entry_after


def _zero_parts(first: int, end: int) -> Change:
    """The same of some subclusters of one cluster, which is not compressed."""
    return lambda old, bitmap: (old, qcow2_subclusters.zeroed(bitmap, first, end))


async def write_zeroes(driver: Qcow2, offset: int, length: int, flags: int) -> None:
    """Whole subclusters, and what is left over at both ends."""
    size = driver.header.subcluster_bytes
    end = offset + length
    if offset % size:
        part = min(end, (offset | size - 1) + 1)
        await _zero_rest(driver, offset, part - offset, flags)
        offset = part
    whole = end if end == driver.node.size_bytes else end & -size
    if offset < whole:
        await _zero_whole(driver, offset, whole, flags)
        offset = whole
    if offset < end:
        await _zero_rest(driver, offset, end - offset, flags)


async def _zero_whole(driver: Qcow2, offset: int, end: int, flags: int) -> None:
    """Whole subclusters by their entries (qcow2_subcluster_zeroize)."""
    header = driver.header
    size = header.cluster_bytes
    if header.is_raw_outside:
        await driver.data.write_zeroes(offset, end - offset, flags)
    if header.version < 3:
        if "backing" in driver.node.children:
            await _write_zero_bytes(driver, offset, end - offset, flags)
        else:
            await change_entries(driver, offset, end, discarded(driver), driver.node.discard_unmap)
        return
    if offset % size:
        stop = min(end, (offset | size - 1) + 1)
        await _zero_some_parts(driver, offset, stop, flags)
        offset = stop
    whole = end if end == driver.node.size_bytes else max(offset, end & -size)
    if offset < whole:
        await change_entries(driver, offset, whole, _zero_entry(driver, flags), driver.node.discard_unmap)
    if whole < end:
        await _zero_some_parts(driver, whole, end, flags)


async def _zero_some_parts(driver: Qcow2, offset: int, end: int, flags: int) -> None:
    """Some subclusters of one cluster."""
    header = driver.header
    inside, bits = offset & header.cluster_bytes - 1, header.subcluster_bits
    table = await driver.tables.load(offset)
    if driver.tables.run(table, offset, 1)[0] == PACKED:
        await _write_zero_bytes(driver, offset, end - offset, flags)
        return
    change = _zero_parts(inside >> bits, (inside + end - offset - 1 >> bits) + 1)
    await change_entries(driver, offset - inside, offset - inside + header.cluster_bytes, change, False)


async def _write_zero_bytes(driver: Qcow2, offset: int, length: int, flags: int) -> None:
    for at in range(offset, offset + length, _BOUNCE_BYTES):
        zeroes = bytes(min(_BOUNCE_BYTES, offset + length - at))
        await driver.write(at, zeroes, flags & ~(MAY_UNMAP | NO_FALLBACK))


async def _zero_rest(driver: Qcow2, offset: int, length: int, flags: int) -> None:
    """Part of one subcluster. If the rest of it reads as zero too, it becomes a zero one as a whole."""
    header = driver.header
    start = offset & -header.subcluster_bytes
    end = min(start + header.subcluster_bytes, driver.node.size_bytes)
    cluster = start >> header.cluster_bits
    change, is_changed = _part_change(driver, start, flags), False
    driver.requests += 1
    try:
        await driver.refcounts.load()
        while change is not None:
            rest_is_zero = await _is_zero(driver, start, offset)
            rest_is_zero = rest_is_zero and await _is_zero(driver, offset + length, end)
            table = await driver.tables.load(start)
            # From here to the change nothing waits, so that no write can come in between.
            if await driver.writes.waited_for(Write(cluster, cluster, True), allocating_only=False):
                continue
            kind, _, _ = driver.tables.run(table, start, 1)
            if not rest_is_zero or kind in (NORMAL, PACKED):
                break
            if table is None or not driver.tables.is_own(start):
                await driver.tables.own(start)
                continue
            first = cluster << header.cluster_bits
            _change_table(driver, table, first, first + 1, change, driver.node.discard_unmap)
            if header.is_raw_outside:
                await driver.data.write_zeroes(offset, length, flags)
            is_changed = True
            break
    finally:
        driver.requests -= 1
    if is_changed:
        await qcow2_flush.let_go(driver)
    else:
        await _write_zero_bytes(driver, offset, length, flags)


def _part_change(driver: Qcow2, start: int, flags: int) -> Change | None:
    """What makes the one subcluster at `start` read as zeroes; None if it takes writing them."""
    header = driver.header
    if header.version < 3:
        return None if "backing" in driver.node.children else discarded(driver)
    if not header.extended_l2:
        return _zero_entry(driver, flags)
    part = (start & header.cluster_bytes - 1) >> header.subcluster_bits
    return _zero_parts(part, part + 1)


async def _is_zero(driver: Qcow2, offset: int, end: int) -> bool:
    while offset < end:
        flags, length, _ = await status_above(driver.node, None, offset, end - offset)
        if not flags & STATUS_ZERO or not length:
            return False
        offset += length
    return True


async def discard(driver: Qcow2, offset: int, length: int) -> None:
    size = driver.header.cluster_bytes
    end = offset + length
    has_backing = "backing" in driver.node.children
    if driver.header.version < 3 and has_backing:
        return
    offset += -offset % size
    if end != driver.node.size_bytes:
        end &= -size

    if offset < end:
        await change_entries(driver, offset, end, discarded(driver), True)


def discarded(driver: Qcow2) -> Change:
    """What a discard makes of an entry: zeroes, whatever is below."""
    header, kind_of = driver.header, driver.tables.kind_of
    has_backing = "backing" in driver.node.children
    nothing = (0, qcow2_subclusters.ALL_ZEROES) if header.extended_l2 else (ZERO, 0)

    def entry_after(old: int, bitmap: int) -> tuple[int, int]:
        if not has_backing and kind_of(old) in (UNALLOCATED, ZERO_PLAIN):
            return old, bitmap
        return nothing if header.version >= 3 else (0, 0)

    return entry_after


async def make_empty(driver: Qcow2) -> None:
    """Nothing is allocated any more, whatever is below (qcow2_make_empty, block/qcow2.c:5045, 7.2)."""
    size = driver.header.cluster_bytes
    end = driver.node.size_bytes
    await change_entries(driver, 0, end + -end % size, lambda old, bitmap: (0, 0), True)


async def change_entries(driver: Qcow2, offset: int, end: int, entry_after: Change, discard: bool) -> None:
    """Replace the entries of whole clusters, giving back the places that no entry names any more."""
    driver.requests += 1
    try:
        await driver.refcounts.load()
        bits = driver.header.cluster_bits
        while offset < end:
            stop = min(end, ((offset >> driver.tables.l2_shift) + 1) << driver.tables.l2_shift)
            clusters = Write(offset >> bits, stop - 1 >> bits, True)
            while await driver.writes.waited_for(clusters, allocating_only=False):
                pass
            table = await driver.tables.own(offset)
            if await driver.writes.waited_for(clusters, allocating_only=False):
                continue
            _change_table(driver, table, offset, stop, entry_after, discard)
            await qcow2_data_file.discard_unused(driver)
            offset = stop
    finally:
        driver.requests -= 1
    await qcow2_flush.let_go(driver)


def _change_table(
    driver: Qcow2,
    table: Table,
    offset: int,
    stop: int,
    entry_after: Change,
    discard: bool,
) -> None:
    tables, size = driver.tables, driver.header.cluster_bytes
    for guest in range(offset, stop, size):
        old = tables.at(table, guest)
        entry, bitmap = entry_after(*old)
        if (entry, bitmap) != old:
            tables.set(guest, entry, bitmap)
            if not entry & (OFFSET_MASK | COPIED):
                driver.give_back(old[0], discard)
