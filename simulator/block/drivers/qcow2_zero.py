"""Zeroes and discards of a qcow2 disk: changes of L2 entries, not of bytes, wherever whole clusters allow it.

Source: qcow2_co_pwrite_zeroes and qcow2_co_pdiscard, block/qcow2.c; zero_in_l2_slice and discard_in_l2_slice,
block/qcow2-cluster.c, 7.2.
"""

from __future__ import annotations

from simulator.block.driver import MAY_UNMAP, NO_FALLBACK, STATUS_ZERO
from simulator.block.drivers import qcow2_flush
from simulator.block.drivers.qcow2_tables import (
    NORMAL,
    OFFSET_MASK,
    PACKED,
    ZERO,
    ZERO_ALLOCATED,
    Write,
    kind_of,
)
from simulator.block.status import status_above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

    from simulator.block.drivers.qcow2 import Qcow2

_BOUNCE_BYTES = 2 << 20


def _zero_entry(flags: int) -> Callable[[int], int]:
    """What write zeroes makes of an entry: it keeps its place unless the request allows to unmap."""

    def entry_after(old: int) -> int:
        kind = kind_of(old)
        unmap = kind == PACKED or (flags & MAY_UNMAP and kind in (NORMAL, ZERO_ALLOCATED))
        return ZERO if unmap else old & ~ZERO | ZERO

    return entry_after


async def write_zeroes(driver: Qcow2, offset: int, length: int, flags: int) -> None:
    size = driver.header.cluster_bytes
    end = offset + length
    if driver.header.version < 3:
        await _write_zero_bytes(driver, offset, length, flags)
        return
    if offset % size:
        part = min(end, (offset | size - 1) + 1)
        await _zero_part(driver, offset, part - offset, flags)
        offset = part
    whole = end if end == driver.node.size_bytes else end & -size
    if offset < whole:
        await change_entries(driver, offset, whole, _zero_entry(flags), driver.node.discard_unmap)
        offset = whole
    if offset < end:
        await _zero_part(driver, offset, end - offset, flags)


async def _write_zero_bytes(driver: Qcow2, offset: int, length: int, flags: int) -> None:
    for at in range(offset, offset + length, _BOUNCE_BYTES):
        zeroes = bytes(min(_BOUNCE_BYTES, offset + length - at))
        await driver.write(at, zeroes, flags & ~(MAY_UNMAP | NO_FALLBACK))


async def _zero_part(driver: Qcow2, offset: int, length: int, flags: int) -> None:
    """Part of one cluster. If the rest of it reads as zero too, the whole cluster becomes a zero cluster."""
    start = offset & -driver.header.cluster_bytes
    end = min(start + driver.header.cluster_bytes, driver.node.size_bytes)
    cluster = start >> driver.header.cluster_bits
    driver.requests += 1
    try:
        await driver.refcounts.load()
        while True:
            rest_is_zero = await _is_zero(driver, start, offset)
            rest_is_zero = rest_is_zero and await _is_zero(driver, offset + length, end)
            table = await driver.tables.load(start)
            # From here to the change nothing waits, so that no write can come in between.
            if await driver.waited_for(Write(cluster, cluster, True), allocating_only=False):
                continue
            kind, _, _ = driver.tables.run(table, start, 1)
            if not rest_is_zero or kind in (NORMAL, PACKED):
                break
            if table is None or not driver.tables.is_own(start):
                await driver.tables.own(start)
                continue
            _change_table(driver, table, start, end, _zero_entry(flags), driver.node.discard_unmap)
            break
    finally:
        driver.requests -= 1
    if rest_is_zero and kind not in (NORMAL, PACKED):
        await qcow2_flush.let_go(driver)
    else:
        await _write_zero_bytes(driver, offset, length, flags)


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

    def entry_after(old: int) -> int:
        if has_backing or kind_of(old) in (NORMAL, ZERO_ALLOCATED, PACKED):
            return ZERO if driver.header.version >= 3 else 0
        return old

    if offset < end:
        await change_entries(driver, offset, end, entry_after, True)


async def make_empty(driver: Qcow2) -> None:
    """Nothing is allocated any more, whatever is below (qcow2_make_empty, block/qcow2.c:5045, 7.2)."""
    size = driver.header.cluster_bytes
    end = driver.node.size_bytes
    await change_entries(driver, 0, end + -end % size, lambda old: 0, True)


async def change_entries(
    driver: Qcow2, offset: int, end: int, entry_after: Callable[[int], int], discard: bool
) -> None:
    """Replace the entries of whole clusters, giving back the places that no entry names any more."""
    driver.requests += 1
    try:
        await driver.refcounts.load()
        bits = driver.header.cluster_bits
        while offset < end:
            stop = min(end, ((offset >> driver.tables.l2_shift) + 1) << driver.tables.l2_shift)
            clusters = Write(offset >> bits, stop - 1 >> bits, True)
            while await driver.waited_for(clusters, allocating_only=False):
                pass
            table = await driver.tables.own(offset)
            if await driver.waited_for(clusters, allocating_only=False):
                continue
            _change_table(driver, table, offset, stop, entry_after, discard)
            offset = stop
    finally:
        driver.requests -= 1
    await qcow2_flush.let_go(driver)


def _change_table(
    driver: Qcow2,
    table: array[int],
    offset: int,
    stop: int,
    entry_after: Callable[[int], int],
    discard: bool,
) -> None:
    mask, size = driver.tables.l2_entries - 1, driver.header.cluster_bytes
    for guest in range(offset, stop, size):
        old = table[guest >> driver.header.cluster_bits & mask]
        new = entry_after(old)
        if new != old:
            driver.tables.set(guest, new)
            if not new & OFFSET_MASK:
                driver.give_back(old, discard)
