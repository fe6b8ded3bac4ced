"""What of a qcow2 image's metadata is in memory, and the order in which it comes into the file.

A cluster has its refcount in the file before a table leads to it, and loses it after the last table does
not any more: block/qcow2-cache.c sees to that by dependencies between its two caches
(qcow2_cache_set_dependency), here writes are kept in order.
"""

from __future__ import annotations

from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.block.drivers.qcow2 import Qcow2

# What blkdebug is told of before each (qcow2_cache_entry_flush).
_REFCOUNTS, _TABLES = "refblock_update_part", "l2_update"
# Of writes behind, before what is freed waits for a flush.
_MOST_BEHIND = 256


def is_dirty(driver: Qcow2) -> bool:
    return bool(driver.behind) or driver.refcounts.is_dirty() or driver.tables.is_dirty()


async def flush(driver: Qcow2) -> None:
    """Write all metadata. Raises OSError; what was not written is kept only if nothing was."""
    if not is_dirty(driver):
        return
    refcounts = driver.refcounts
    async with refcounts.writing:
        # Taken at one moment: an entry made meanwhile may refer to a cluster whose refcount is not written.
        given_back = refcounts.take_given_back()
        behind, refcount_writes, table_writes = (
            driver.behind,
            refcounts.take_writes(),
            driver.tables.take_writes(),
        )
        driver.behind = []
        for event, writes in ((_REFCOUNTS, [*behind, *refcount_writes]), (_TABLES, table_writes)):
            for offset, payload in writes:
                await driver.file.event(event)
                await driver.file.write(offset, payload)
        if driver.requests or not given_back:
            # A request may still read a place that was given back: it must not get another owner yet.
            refcounts.keep_given_back(given_back)
            return
        # Nobody else gets the clusters before.
        await _discard(driver, given_back)
        refcounts.settle(given_back)
        for offset, payload in refcounts.take_writes():
            await driver.file.write(offset, payload)


async def let_go(driver: Qcow2) -> None:
    """What was given back may be discarded and used again at once, or after the next flush if another
    request may still read there."""
    if driver.requests:
        return
    driver.requests += 1
    try:
        await _discard(driver)
    finally:
        driver.requests -= 1
    if not driver.requests and not driver.refcounts.writing.locked and len(driver.behind) < _MOST_BEHIND:
        driver.behind = _take_writes(driver)
        driver.refcounts.settle(driver.refcounts.take_given_back())


def _take_writes(driver: Qcow2) -> list[tuple[int, bytes]]:
    behind, driver.behind = driver.behind, []
    return [*behind, *driver.refcounts.take_writes(), *driver.tables.take_writes()]


async def _discard(driver: Qcow2, taken_back: Sequence[tuple[int, int]] = ()) -> None:
    """What comes of it is nobody's business (qcow2_process_discards, block/qcow2-refcount.c:743, 7.2)."""
    bits = driver.header.cluster_bits
    runs: list[tuple[int, int]] = []
    for cluster, count in driver.refcounts.take_discards(taken_back):
        _add_run(runs, cluster, count)
    for cluster, count in runs:
        with suppress(OSError):
            await driver.file.discard(cluster << bits, count << bits)


def _add_run(runs: list[tuple[int, int]], first: int, count: int) -> None:
    """Runs that touch are discarded in one go (update_refcount_discard, block/qcow2-refcount.c)."""
    for index, (other, other_count) in enumerate(runs):
        start = min(first, other)
        if max(first + count, other + other_count) - start <= count + other_count:
            runs[index] = start, count + other_count
            return
    runs.append((first, count))
