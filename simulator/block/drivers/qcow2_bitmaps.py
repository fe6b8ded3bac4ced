"""Dirty bitmaps stored in a qcow2 image. Source: docs/interop/qcow2.txt, "Bitmaps"; block/qcow2-bitmap.c,
7.2."""

from __future__ import annotations

from errno import EIO
from os import strerror
from struct import Struct

from simulator.block.bitmap import DirtyBitmap, find_bitmap
from simulator.block.drivers.qcow2_header import BITMAPS, KNOWN_AUTOCLEAR
from simulator.block.drivers.qcow2_refcounts import packed, words
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2 import Qcow2

IN_USE, AUTO = 1, 2

_ENTRY = Struct(">QIIBBHI")
_OFFSET_MASK = 0x00FFFFFFFFFFFE00
_RESERVED_MASK = 0xFF000000000001FE
_ALL_ONES = 1
_MIN_GRANULARITY_BITS, _MAX_GRANULARITY_BITS = 9, 31
_MAX_TABLE_ENTRIES = 0x8000000
_MAX_BYTES = 0x20000000
_MAX_NAME_BYTES = 1023
_MAX_BITMAPS = 65535
_MAX_DIRECTORY_BYTES = 65535 * 1024


class StoredBitmap:
    """An entry of the bitmap directory, as it is in the image."""

    __slots__ = ("flags", "granularity_bits", "name", "table_entries", "table_offset")

    def __init__(
        self, name: str, granularity_bits: int, flags: int, table_offset: int, table_entries: int
    ) -> None:
        self.name = name
        self.granularity_bits = granularity_bits
        self.flags = flags
        self.table_offset = table_offset
        self.table_entries = table_entries

    def encode(self) -> bytes:
        name = self.name.encode()
        head = _ENTRY.pack(
            self.table_offset, self.table_entries, self.flags, 1, self.granularity_bits, len(name), 0
        )
        return head + name + bytes(-(len(head) + len(name)) % 8)


def info(driver: Qcow2) -> list[dict[str, Any]]:
    """Qcow2BitmapInfo of what the image holds; in-use ones have not been written since they were loaded."""
    return [
        {
            "flags": [name for bit, name in ((IN_USE, "in-use"), (AUTO, "auto")) if stored.flags & bit],
            "name": stored.name,
            "granularity": 1 << stored.granularity_bits,
        }
        for stored in driver.stored_bitmaps
    ]


# Loading.


async def load(driver: Qcow2) -> None:
    """Read the directory and make a DirtyBitmap of each entry. On a writable node the image then says that
    they are in use, so that after a crash nobody trusts them. Raises QmpError, OSError."""
    node, header = driver.node, driver.header
    driver.stored_bitmaps = await read_directory(driver)
    for stored in driver.stored_bitmaps:
        if stored.flags & IN_USE and find_bitmap(node, stored.name) is not None:
            # It has come from another machine, which did not store it here.
            continue
        bitmap = DirtyBitmap(node, stored.name, 1 << stored.granularity_bits)
        bitmap.persistent = True
        bitmap.readonly = not node.is_writable()
        bitmap.enabled = bool(stored.flags & AUTO)
        if stored.flags & IN_USE:
            bitmap.inconsistent = True
            bitmap.enabled = False
        else:
            await _load_bits(driver, stored, bitmap)
    if node.is_writable() and any(not stored.flags & IN_USE for stored in driver.stored_bitmaps):
        await mark_in_use(driver)
    elif node.is_writable() and header.autoclear & ~KNOWN_AUTOCLEAR:
        header.autoclear &= KNOWN_AUTOCLEAR
        await driver.write_header()


async def make_writable(driver: Qcow2) -> None:
    """A read-only node has become writable (qcow2_reopen_bitmaps_rw). Bitmaps stay read-only if their image
    cannot be written, and QEMU only prints why."""
    node = driver.node
    if any(bitmap.persistent and bitmap.readonly for bitmap in node.bitmaps):
        try:
            await mark_in_use(driver)
        except OSError as error:
            why = strerror(error.errno or EIO)
            node.graph.report(f"{node.node_name}: Failed to make dirty bitmaps writable: {why}")


async def make_read_only(driver: Qcow2) -> None:
    """The node is about to become read-only: what it recorded goes into the image
    (qcow2_reopen_bitmaps_ro). Raises QmpError."""
    try:
        await store(driver)
        await driver.flush()
    except OSError as error:
        raise QmpError(f"Failed to update bitmap extension: {strerror(error.errno or EIO)}") from None
    for bitmap in driver.node.bitmaps:
        if bitmap.persistent:
            bitmap.readonly = True


async def hand_over(driver: Qcow2) -> None:
    """The node is about to become inactive: stored bitmaps are the image's from here on (qcow2_inactivate).
    What cannot be stored is lost, and QEMU only prints why. Raises OSError."""
    node = driver.node
    if node.is_writable():
        try:
            await store(driver)
        except QmpError as error:
            lost = f"Lost persistent bitmaps during inactivation of node '{node.device_or_node_name}'"
            node.graph.report(f"{lost}: {error.desc}")
    # Those that go to another machine with its guest stay, and are not the image's.
    for bitmap in [each for each in node.bitmaps if each.persistent and not each.skip_store]:
        bitmap.release()


async def mark_in_use(driver: Qcow2) -> None:
    """Rewrite the directory where it is, with every bitmap in use (also when a read-only node becomes
    writable)."""
    for stored in driver.stored_bitmaps:
        stored.flags |= IN_USE
    directory = b"".join(stored.encode() for stored in driver.stored_bitmaps)
    # The header loses its mark first and gets it back last: in between the extension counts for nothing.
    header = driver.header
    header.autoclear &= ~BITMAPS
    await driver.write_header()
    await driver.file.write(header.bitmap_directory_offset, directory)
    header.autoclear |= BITMAPS
    await driver.write_header()
    for bitmap in driver.node.bitmaps:
        if bitmap.persistent:
            bitmap.readonly = False


async def read_directory(driver: Qcow2) -> list[StoredBitmap]:
    """The entries, checked. Raises QmpError in QEMU's words, OSError."""
    header = driver.header
    if not header.bitmap_count:
        return []
    size = header.bitmap_directory_bytes
    if not size:
        raise QmpError("Requested bitmap directory size is zero")
    raw = await driver.file.read(header.bitmap_directory_offset, size)
    found: list[StoredBitmap] = []
    at = 0
    while at < size:
        if at + _ENTRY.size > size:
            raise QmpError("Broken bitmap directory")
        if len(found) == header.bitmap_count:
            raise QmpError("More bitmaps found than specified in header extension")
        table_offset, table_entries, flags, kind, bits, name_bytes, extra = _ENTRY.unpack_from(raw, at)
        following = at + _ENTRY.size + name_bytes + extra
        following += -following % 8
        if following > size:
            raise QmpError("Broken bitmap directory")
        if extra:
            raise QmpError("Bitmap extra data is not supported")
        name = raw[at + _ENTRY.size : at + _ENTRY.size + name_bytes].decode(errors="replace")
        stored = StoredBitmap(name, bits, flags, table_offset, table_entries)
        if kind != 1 or not _is_sound(driver, stored, name_bytes):
            raise QmpError(f"Bitmap '{name}' doesn't satisfy the constraints")
        found.append(stored)
        at = following
    if len(found) != header.bitmap_count:
        raise QmpError("Less bitmaps found than specified in header extension")
    return found


def _is_sound(driver: Qcow2, stored: StoredBitmap, name_bytes: int) -> bool:
    cluster_bytes = driver.header.cluster_bytes
    table_bytes = stored.table_entries * cluster_bytes
    return (
        0 < stored.table_entries <= _MAX_TABLE_ENTRIES
        and stored.table_offset > 0
        and not stored.table_offset % cluster_bytes
        and _MIN_GRANULARITY_BITS <= stored.granularity_bits <= _MAX_GRANULARITY_BITS
        and not stored.flags & ~(IN_USE | AUTO)
        and name_bytes <= _MAX_NAME_BYTES
        and table_bytes <= _MAX_BYTES
        and (
            bool(stored.flags & IN_USE)
            or driver.node.size_bytes <= table_bytes * 8 << stored.granularity_bits
        )
    )


async def read_table(driver: Qcow2, stored: StoredBitmap) -> list[int]:
    """The bitmap table. OSError EIO if an entry is invalid."""
    table = list(words(await driver.file.read(stored.table_offset, stored.table_entries * 8)))
    for entry in table:
        offset = entry & _OFFSET_MASK
        if entry & _RESERVED_MASK or (offset and entry & _ALL_ONES) or offset % driver.header.cluster_bytes:
            raise OSError(EIO, strerror(EIO))
    return table


def _bytes_per_cluster_of_bits(driver: Qcow2, granularity_bytes: int) -> int:
    """How much of the disk one cluster of bits covers."""
    return driver.header.cluster_bytes * 8 * granularity_bytes


async def _load_bits(driver: Qcow2, stored: StoredBitmap, bitmap: DirtyBitmap) -> None:
    step = _bytes_per_cluster_of_bits(driver, bitmap.granularity_bytes)
    try:
        table = await read_table(driver, stored)
    except OSError as error:
        raise QmpError(
            f"Could not read bitmap_table table from image for bitmap '{stored.name}': "
            f"{strerror(error.errno or EIO)}"
        ) from None
    if len(table) != -(-bitmap.size_bytes // step):
        raise QmpError(f"Could not read bitmap '{stored.name}' from image: Invalid argument")
    for number, entry in enumerate(table):
        if entry & _OFFSET_MASK:
            bitmap.deserialise(
                number * step, await driver.file.read(entry & _OFFSET_MASK, driver.header.cluster_bytes)
            )
        elif entry & _ALL_ONES:
            bitmap.set(number * step, min(step, bitmap.size_bytes - number * step))


# Storing.


def check_can_store(driver: Qcow2, name: str, granularity_bytes: int) -> None:
    """Whether a new persistent bitmap would fit (qcow2_co_can_store_new_dirty_bitmap). Raises QmpError."""
    node = driver.node
    if find_bitmap(node, name) is not None:
        raise QmpError(f"Bitmap already exists: {name}")
    try:
        if driver.header.version < 3:
            raise QmpError("Cannot store dirty bitmaps in qcow2 v2 files")
        _check_constraints(driver, name, granularity_bytes)
        kept = [b.name or "" for b in node.bitmaps if b.persistent and not b.skip_store]
        if len(kept) + 1 > _MAX_BITMAPS:
            raise QmpError("Maximum number of persistent bitmaps is already reached")
        if sum(_entry_bytes(other) for other in [*kept, name]) > _MAX_DIRECTORY_BYTES:
            raise QmpError("Not enough space in the bitmap directory")
    except QmpError as error:
        where = node.device_or_node_name
        raise error.prefixed(f"Can't make bitmap '{name}' persistent in '{where}': ") from None


def _entry_bytes(name: str) -> int:
    return len(StoredBitmap(name, 0, 0, 0, 0).encode())


def _check_constraints(driver: Qcow2, name: str, granularity_bytes: int) -> None:
    if granularity_bytes > 1 << _MAX_GRANULARITY_BITS:
        raise QmpError(f"Granularity exceeds maximum ({1 << _MAX_GRANULARITY_BITS} bytes)")
    if granularity_bytes < 1 << _MIN_GRANULARITY_BITS:
        raise QmpError(f"Granularity is under minimum ({1 << _MIN_GRANULARITY_BITS} bytes)")
    bits = -(-driver.node.size_bytes // granularity_bytes)
    if -(-bits // 8) > min(_MAX_BYTES, _MAX_TABLE_ENTRIES * driver.header.cluster_bytes):
        raise QmpError("Too much space will be occupied by the bitmap. Use larger granularity")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise QmpError(f"Name length exceeds maximum ({_MAX_NAME_BYTES} characters)")


async def store(driver: Qcow2) -> None:
    """Write all persistent bitmaps of the node into the image, at close. Raises QmpError, OSError."""
    stored_by_name = {stored.name: stored for stored in driver.stored_bitmaps}
    outdated: list[StoredBitmap] = []
    changed = False
    for bitmap in driver.node.bitmaps:
        name = bitmap.name
        if (
            name is None
            or not bitmap.persistent
            or bitmap.skip_store
            or bitmap.inconsistent
            or bitmap.readonly
        ):
            continue
        changed = True
        try:
            _check_constraints(driver, name, bitmap.granularity_bytes)
        except QmpError as error:
            raise error.prefixed(f"Bitmap '{name}' doesn't satisfy the constraints: ") from None
        if name in stored_by_name:
            old = stored_by_name[name]
            if not old.flags & IN_USE:
                raise QmpError(f"Bitmap '{name}' already exists in the image")
            outdated.append(old)
        flags = AUTO if bitmap.enabled else 0
        offset, entries = await _store_bits(driver, bitmap)
        bits = bitmap.granularity_bytes.bit_length() - 1
        stored_by_name[name] = StoredBitmap(name, bits, flags, offset, entries)
    if changed:
        await _replace_directory(driver, list(stored_by_name.values()))
        for old in outdated:
            await _give_back_bits(driver, old)


async def _store_bits(driver: Qcow2, bitmap: DirtyBitmap) -> tuple[int, int]:
    """(offset, entries) of the new bitmap table. Clusters without a dirty bit are not stored."""
    await driver.refcounts.load()
    bits, size = driver.header.cluster_bits, driver.header.cluster_bytes
    step = _bytes_per_cluster_of_bits(driver, bitmap.granularity_bytes)
    table = []
    for start in range(0, bitmap.size_bytes, step):
        length = min(step, bitmap.size_bytes - start)
        place = 0
        if bitmap.next_dirty(start, length) is not None:
            place = driver.refcounts.allocate(1) << bits
            await driver.file.write(place, bitmap.serialise(start, length).ljust(size, b"\0"))
        table.append(place)
    table_offset = driver.refcounts.allocate(-(-len(table) * 8 // size)) << bits
    await driver.file.write(table_offset, packed(table))
    return table_offset, len(table)


async def _replace_directory(driver: Qcow2, entries: list[StoredBitmap]) -> None:
    """A new directory and the header that names it; then the old one is given back."""
    header = driver.header
    bits, size = header.cluster_bits, header.cluster_bytes
    old_offset, old_bytes = header.bitmap_directory_offset, header.bitmap_directory_bytes
    directory = b"".join(stored.encode() for stored in entries)
    offset = 0
    if entries:
        await driver.refcounts.load()
        offset = driver.refcounts.allocate(-(-len(directory) // size)) << bits
        await driver.file.write(offset, directory)
    header.bitmap_count = len(entries)
    header.bitmap_directory_offset, header.bitmap_directory_bytes = offset, len(directory)
    header.autoclear = header.autoclear & ~BITMAPS | (BITMAPS if entries else 0)
    await driver.write_header()
    driver.stored_bitmaps = entries
    if old_bytes:
        driver.refcounts.give_back(old_offset >> bits, -(-old_bytes // size))


async def _give_back_bits(driver: Qcow2, stored: StoredBitmap) -> None:
    await driver.refcounts.load()
    bits, size = driver.header.cluster_bits, driver.header.cluster_bytes
    for entry in await read_table(driver, stored):
        if entry & _OFFSET_MASK:
            driver.refcounts.give_back((entry & _OFFSET_MASK) >> bits, discard=True)
    driver.refcounts.give_back(stored.table_offset >> bits, -(-stored.table_entries * 8 // size))


async def remove(driver: Qcow2, name: str) -> None:
    """Take a bitmap out of the image; it need not be there (qcow2_co_remove_persistent_dirty_bitmap).
    Raises QmpError."""
    kept = [stored for stored in driver.stored_bitmaps if stored.name != name]
    gone = [stored for stored in driver.stored_bitmaps if stored.name == name]
    if gone:
        try:
            await _replace_directory(driver, kept)
            await _give_back_bits(driver, gone[0])
            await driver.flush()
        except OSError as error:
            raise QmpError(f"Failed to update bitmap extension: {strerror(error.errno or EIO)}") from None


def check_resize(driver: Qcow2) -> None:
    """Raise QmpError if a stored bitmap forbids a new size (qcow2_truncate_bitmaps_check)."""
    for stored in driver.stored_bitmaps:
        bitmap = find_bitmap(driver.node, stored.name)
        if bitmap is None:
            raise QmpError("Cannot resize qcow2 with persistent bitmaps that were not loaded into memory")
        bitmap.check()
