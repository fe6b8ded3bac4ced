"""Another size for a qcow2 disk (qcow2_co_truncate, block/qcow2.c, 7.2)."""

from __future__ import annotations

from errno import EIO
from os import strerror

from simulator.block.drivers import qcow2_bitmaps, qcow2_zero
from simulator.block.drivers.qcow2_header import MAX_L1_BYTES
from simulator.block.drivers.qcow2_kinds import COPIED, UNALLOCATED, ZERO_PLAIN
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2 import Qcow2

_SECTOR_BYTES = 512


async def resize(driver: Qcow2, size_bytes: int, exact: bool, preallocation: str) -> None:
    """Sets the node's and the header's size and writes all metadata. Raises QmpError."""
    header, node = driver.header, driver.node
    if preallocation not in ("off", "metadata", "falloc", "full"):
        raise QmpError(f"Unsupported preallocation mode '{preallocation}'")
    if size_bytes % _SECTOR_BYTES:
        refusal = QmpError(f"The new size must be a multiple of {_SECTOR_BYTES}")
        refusal.is_invalid = True
        raise refusal
    if header.snapshot_count and header.version < 3:
        raise QmpError("Can't resize a v2 image which has snapshots")
    qcow2_bitmaps.check_resize(driver)
    old_size = node.size_bytes
    try:
        await driver.refcounts.load()
        if size_bytes < old_size:
            if preallocation != "off":
                raise QmpError("Preallocation can't be used for shrinking an image")
            await _cut(driver, size_bytes, old_size)
        else:
            _grow_l1(driver, header.l1_entries_for(size_bytes))
            if header.is_raw_outside and preallocation == "off" and node.graph.rules.raw_outside_is_placed:
                preallocation = "metadata"
        if header.has_data_file and preallocation == "off":
            await driver.data.node.truncate(size_bytes, exact)
        header.size_bytes = node.size_bytes = size_bytes
        driver.tables.size_dirty = True
        if size_bytes > old_size:
            if preallocation != "off":
                await _preallocate(driver, old_size, size_bytes, preallocation)
            else:
                await _hide_backing(driver, old_size, size_bytes)
        await driver.flush()
        if size_bytes < old_size:
            await _cut_file(driver)
    except OSError as error:
        raise QmpError(f"Failed to update the image size: {strerror(error.errno or EIO)}") from None


def _grow_l1(driver: Qcow2, entries: int) -> None:
    if entries * 8 > MAX_L1_BYTES:
        raise QmpError("Failed to grow the L1 table: File too large")
    try:
        driver.tables.grow_l1(entries)
    except OSError as error:
        raise QmpError(f"Failed to grow the L1 table: {strerror(error.errno or EIO)}") from None


async def _cut(driver: Qcow2, size_bytes: int, old_size: int) -> None:
    """Give back every whole cluster behind the new end, and the L2 tables that are empty then."""
    header, tables = driver.header, driver.tables
    size = header.cluster_bytes
    start = size_bytes + -size_bytes % size
    parts = [(start, old_size)] if start < old_size else []
    # A machine's state that a snapshot has brought lies behind the disk's end.
    for number in range(header.l1_entries_for(old_size), len(tables.l1)):
        if tables.l1[number]:
            parts.append((number << tables.l2_shift, (number + 1) << tables.l2_shift))
    for first, end in parts:
        await qcow2_zero.change_entries(driver, first, end, lambda old, bitmap: (0, 0), True)
        # What was there is discarded before the tables are, each by itself.
        await driver.flush()
    for number in range(header.l1_entries_for(size_bytes), len(tables.l1)):
        tables.drop(number)


async def _cut_file(driver: Qcow2) -> None:
    used = driver.refcounts.used()
    end = (used[-1][0] + 1) << driver.header.cluster_bits if used else 0
    if end < driver.file.node.size_bytes:
        try:
            await driver.file.node.truncate(end)
        except QmpError as error:
            driver.node.graph.report(f"Failed to truncate the tail of the image: {error.desc}")


async def _hide_backing(driver: Qcow2, old_size: int, size_bytes: int) -> None:
    """A longer backing file must not show in what is new (bdrv_co_truncate sets BDRV_REQ_ZERO_WRITE)."""
    backing = driver.node.backing
    if backing is not None and backing.size_bytes > old_size:
        await driver.write_zeroes(old_size, size_bytes - old_size, 0)


async def _preallocate(driver: Qcow2, start: int, end: int, preallocation: str) -> None:
    """A place for every cluster of the new part that has none, and the file long enough for all of them."""
    bits, tables = driver.header.cluster_bits, driver.tables
    offset = start & -driver.header.cluster_bytes
    last_host = 0
    while offset < end:
        table = await tables.own(offset)
        stop = min(end, ((offset >> tables.l2_shift) + 1) << tables.l2_shift)
        missing = [
            guest
            for guest in range(offset, stop, driver.header.cluster_bytes)
            if tables.kind_of(tables.at(table, guest)[0]) in (UNALLOCATED, ZERO_PLAIN)
        ]
        if missing:
            first = driver.allocate_data(missing[0] >> bits, len(missing))
            for number, guest in enumerate(missing):
                tables.set(guest, (first + number) << bits | COPIED, tables.at(table, guest)[1])
            last_host = max(last_host, (first + len(missing)) << bits)
        offset = stop
    if driver.header.has_data_file:
        last_host = min(last_host, end)
    # Only of metadata is it asked whether the file is too short.
    if preallocation != "metadata" or last_host > driver.data.node.size_bytes:
        mode = "off" if preallocation == "metadata" else preallocation
        try:
            await driver.data.node.truncate(last_host, False, mode)
        except QmpError as error:
            raise error.prefixed("Failed to resize underlying file: ") from None


async def looks_preallocated(qcow2: Qcow2) -> bool:
    """Whether far more clusters are counted than the file has allocated
    (qcow2_detect_metadata_preallocation)."""
    allocated = qcow2.file.node.driver.actual_size_bytes()
    if allocated is None:
        return False
    bits = qcow2.header.cluster_bits
    real = allocated >> bits
    threshold = max(real * 10 // 9, real + 2)
    in_file = -(-qcow2.file.node.size_bytes >> bits)
    if in_file < threshold:
        # Not even if all of them are counted: QEMU reads a block to see that, and there is no need to.
        await qcow2.refcounts.first_read()
        return False
    return await qcow2.refcounts.count_used(in_file, threshold) >= threshold
