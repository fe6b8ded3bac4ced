"""Writes to clusters of a qcow2 image that get their place by them, with what is around the payload copied
from below. Source: block/qcow2-cluster.c (handle_alloc, perform_cow), block/qcow2.c (handle_alloc_space),
7.2."""

from __future__ import annotations

from errno import ENOTSUP

from simulator.block.driver import NO_FALLBACK
from simulator.block.drivers.qcow2_tables import COPIED, NORMAL, PACKED, UNALLOCATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2 import Qcow2


async def write(driver: Qcow2, offset: int, payload: bytes, host: int | None, flags: int) -> None:
    """`host`: where they are already, if they read as zero till now. Raises OSError."""
    header, tables, refcounts = driver.header, driver.tables, driver.refcounts
    size, bits = header.cluster_bytes, header.cluster_bits
    start, end = offset & -size, offset + len(payload) + (-(offset + len(payload)) % size)
    if host is None:
        await driver.file.event("cluster_alloc")
    head = await _old_bytes(driver, start, offset - start)
    tail = await _old_bytes(driver, offset + len(payload), end - offset - len(payload))
    table = await tables.own(offset)
    count = (end - start) >> bits
    new = host is None
    place = refcounts.allocate(count) << bits if host is None else host & -size
    try:
        if (head is None or tail is None) and not await _zeroed_fast(driver, place, end - start):
            head = bytes(offset - start) if head is None else head
            tail = bytes(end - offset - len(payload)) if tail is None else tail
        await driver.file.event("write_aio")
        if head or tail:
            before, after = head or b"", tail or b""
            await driver.file.write(place + offset - start - len(before), before + payload + after, flags)
        else:
            await driver.file.write(place + offset - start, payload, flags)
    except OSError:
        if new:
            refcounts.release_unused(place >> bits, count)
        raise
    for at in range(count):
        guest = start + (at << bits)
        old = table[guest >> bits & tables.l2_entries - 1]
        tables.set(guest, place + (at << bits) | COPIED)
        if new:
            driver.give_back(old, discard=False)


async def _zeroed_fast(driver: Qcow2, place: int, length: int) -> bool:
    """False where that can only be done by writing (handle_alloc_space)."""
    await driver.file.event("cluster_alloc_space")
    try:
        await driver.file.write_zeroes(place, length, NO_FALLBACK)
    except OSError as error:
        if error.errno != ENOTSUP:
            raise
        return False
    return True


async def _old_bytes(driver: Qcow2, offset: int, length: int) -> bytes | None:
    """What a part of one cluster holds before a write; None if it is known to be zero, b"" for no part."""
    if not length:
        return b""
    table = await driver.tables.load(offset)
    kind, host, _ = driver.tables.run(table, offset, length)
    if kind == UNALLOCATED:
        backing = driver.node.backing
        if backing is None or offset >= backing.size_bytes:
            return None
    elif kind not in (NORMAL, PACKED):
        return None
    await driver.file.event("cow_read")
    return await driver.read_run(kind, host, offset, length)
