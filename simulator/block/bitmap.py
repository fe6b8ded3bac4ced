"""Dirty bitmaps: which parts of a node were written. Source: block/dirty-bitmap.c and util/hbitmap.c, 7.2."""

from __future__ import annotations

from simulator.block.chain import cluster_bytes
from simulator.block.errors import QmpError
from simulator.block.extents import ExtentMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from simulator.block.node import Node

MAX_NAME_BYTES = 1023  # BDRV_BITMAP_MAX_NAME_SIZE


def find_bitmap(node: Node, name: str) -> DirtyBitmap | None:
    """bdrv_find_dirty_bitmap: anonymous ones have no name to be found by."""
    for bitmap in node.bitmaps:
        if bitmap.name == name:
            return bitmap
    return None


class DirtyBitmap:
    """One BdrvDirtyBitmap; making it puts it in front of the node's others.

    `granularity_bytes` is a power of two of at least 512. Offsets and lengths are bytes. A bit stands for a
    whole granule, the last of which may reach beyond the node.

    enabled: writes to the node set bits. busy: in use by an operation. successor: the nameless one that
    records while this one is busy. inconsistent: what the image held cannot be trusted; it may only be
    removed. skip_store: being removed, so it is not to be stored any more.
    """

    __slots__ = (
        "_dirty", "busy", "enabled", "granularity_bytes", "inconsistent", "name", "node", "persistent",
        "readonly", "size_bytes", "skip_store", "successor",
    )  # fmt: skip

    def __init__(self, node: Node, name: str | None, granularity_bytes: int) -> None:
        if name is not None:
            if find_bitmap(node, name) is not None:
                raise QmpError(f"Bitmap already exists: {name}")
            if len(name.encode()) > MAX_NAME_BYTES:
                raise QmpError(f"Bitmap name too long: {name}")
        self.node = node
        self.name = name
        self.granularity_bytes = granularity_bytes
        self.size_bytes = node.size_bytes
        self.enabled = True
        self.busy = self.readonly = self.persistent = self.inconsistent = self.skip_store = False
        self.successor: DirtyBitmap | None = None
        self._dirty = ExtentMap()
        node.bitmaps.insert(0, self)

    def __repr__(self) -> str:
        return f"<bitmap {self.name} of {self.node.node_name}, {self.count_bytes} bytes dirty>"

    # -- what it says
    @property
    def recording(self) -> bool:
        """Whether a write to the node sets bits here; see `info` for what a query calls recording."""
        return self.enabled

    @property
    def count_bytes(self) -> int:
        return self._dirty.covered_bytes

    @property
    def end(self) -> int:
        """`size_bytes` rounded up to whole granules."""
        return self.size_bytes + -self.size_bytes % self.granularity_bytes

    def get(self, offset: int) -> bool:
        return self._dirty.get(offset) is not None

    def next_dirty(self, offset: int, length: int) -> int | None:
        """The first dirty offset in the range, or None (hbitmap_next_dirty)."""
        return self._dirty.next_set(offset, min(offset + length, self.size_bytes))

    def next_zero(self, offset: int, length: int) -> int | None:
        return self._dirty.next_clear(offset, min(offset + length, self.size_bytes))

    def next_dirty_area(self, offset: int, end: int, longest: int) -> tuple[int, int] | None:
        """(offset, length) of the first dirty run in [offset, end), at most `longest`
        (hbitmap_next_dirty_area)."""
        for first, last, _ in self._dirty.extents(offset, min(end, self.size_bytes)):
            return first, min(last - first, longest)
        return None

    def status(self, offset: int, length: int) -> tuple[bool, int]:
        """(dirty, length) of the run from `offset` (hbitmap_status)."""
        last, value = self._dirty.run_at(offset, offset + length)
        return value is not None, last - offset

    def dirty_areas(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of every dirty run in order, cut at the node's end. It must not change
        meanwhile."""
        for first, last, _ in self._dirty.extents(0, self.size_bytes):
            yield first, last - first

    def info(self, with_status: bool = False) -> dict[str, Any]:
        """BlockDirtyInfo. Recording says whether writes are remembered here or in the successor."""
        successor = self.successor
        info: dict[str, Any] = {
            "count": self.count_bytes,
            "granularity": self.granularity_bytes,
            "recording": self.enabled or (successor is not None and successor.enabled),
            "busy": self.busy,
            "persistent": self.persistent,
        }
        if self.name is not None:
            info["name"] = self.name
        if self.inconsistent:
            info["inconsistent"] = True
        if with_status:
            info["status"] = self._status()
        return info

    def _status(self) -> str:
        """DirtyBitmapStatus (bdrv_dirty_bitmap_status, block/dirty-bitmap.c:191, 5.2)."""
        if self.inconsistent:
            return "inconsistent"
        if self.successor is not None:
            return "frozen"
        if self.busy:
            return "locked"
        return "active" if self.enabled else "disabled"

    def serialise(self, offset: int, length: int) -> bytes:
        """One bit a granule, lowest first, in 64 bit little-endian words (hbitmap_serialize_part). `offset`
        is a multiple of 64 granules."""
        unit = self.granularity_bytes
        count = -(-length // unit)
        bits = bytearray(-(-count // 64) * 8)
        base = offset // unit
        for first, last, _ in self._dirty.extents(offset, offset + length):
            _set_bits(bits, first // unit - base, -(-last // unit) - base)
        return bytes(bits)

    # -- changes of bits
    def set(self, offset: int, length: int) -> None:
        """Every granule that the range touches."""
        unit = self.granularity_bytes
        end = offset + length
        if length:
            self._dirty.set(offset - offset % unit, min(end + -end % unit, self.end), 1)

    def reset(self, offset: int, length: int) -> None:
        """Whole granules only, or up to the end of the node."""
        unit = self.granularity_bytes
        end = offset + length
        if offset % unit or (end % unit and end != self.size_bytes):
            raise AssertionError(f"reset of {offset}+{length} is not aligned to {unit}")
        self._dirty.clear(offset, end + -end % unit)

    def clear(self) -> ExtentMap:
        """No bit is set any more; returns what `restore` takes."""
        backup, self._dirty = self._dirty, ExtentMap()
        return backup

    def restore(self, backup: ExtentMap) -> None:
        self._dirty = backup

    def merge(self, source: DirtyBitmap) -> ExtentMap:
        """Also what is dirty in `source`, which has the same size; returns what `restore` takes."""
        backup = self._dirty.snapshot()
        for offset, length in source.dirty_areas():
            self.set(offset, length)
        return backup

    def deserialise(self, offset: int, bits: bytes) -> None:
        """Set the bits that `serialise` gave for `offset`."""
        unit = self.granularity_bytes
        for first, last in _runs_of_bits(bits):
            start, end = offset + first * unit, min(offset + last * unit, self.end)
            self._dirty.set(start, end, 1)

    def truncate(self, size_bytes: int) -> None:
        """The node has a new size. A granule that is partly inside stays as it is."""
        self.size_bytes = size_bytes
        self._dirty.clear(self.end, 1 << 63)

    # -- use by operations
    def check(self, busy: bool = True, readonly: bool = True, inconsistent: bool = True) -> None:
        """Raise QmpError if it is what must not be used (bdrv_dirty_bitmap_check)."""
        if busy and self.busy:
            raise QmpError(
                f"Bitmap '{self.name}' is currently in use by another operation and cannot be used"
            )
        if readonly and self.readonly:
            raise QmpError(f"Bitmap '{self.name}' is readonly and cannot be modified")
        if inconsistent and self.inconsistent:
            raise QmpError(f"Bitmap '{self.name}' is inconsistent and cannot be used")

    def check_mergeable(self, size_bytes: int) -> None:
        """Into one of that size (bdrv_merge_dirty_bitmap). Raises QmpError."""
        self.check(readonly=False)
        if self.size_bytes != size_bytes:
            raise QmpError(
                f"Bitmaps are of different sizes (destination size is {size_bytes}, source size is "
                f"{self.size_bytes}) and can't be merged"
            )

    def create_successor(self) -> None:
        """From now on a nameless bitmap records what this one would have, and this one is busy and still."""
        self.check(readonly=False, inconsistent=False)
        if self.successor is not None:
            raise QmpError("Cannot create a successor for a bitmap that already has one")
        successor = DirtyBitmap(self.node, None, self.granularity_bytes)
        successor.enabled, self.enabled = self.enabled, False
        self.successor = successor
        self.busy = True

    def abdicate(self) -> DirtyBitmap:
        """The successor takes name and place; what was dirty here is forgotten. Returns the successor."""
        successor = self.successor
        if successor is None:
            raise QmpError("Cannot relinquish control if there's no successor present")
        successor.name, self.name = self.name, None
        successor.persistent, self.persistent = self.persistent, False
        self.successor = None
        self.busy = False
        self.release()
        return successor

    def reclaim(self) -> None:
        """What the successor recorded is added here and the successor goes away."""
        successor = self.successor
        if successor is None:
            raise QmpError("Cannot reclaim a successor when none is present")
        self.merge(successor)
        self.enabled = successor.enabled
        self.busy = False
        self.successor = None
        successor.release()

    def release(self) -> None:
        """It is no bitmap of its node any more. What an image stored of it stays."""
        if self.busy or self.successor is not None:
            raise AssertionError(f"{self!r} is released while in use")
        self.node.bitmaps.remove(self)


def default_granularity(node: Node) -> int:
    """bdrv_get_default_bitmap_granularity: the cluster size, within 4 and 64 KiB."""
    unit = cluster_bytes(node)
    return min(65536, max(4096, unit)) if unit else 65536


def _set_bits(bits: bytearray, first: int, last: int) -> None:
    """Set bits first..last-1, lowest bit of each byte first."""
    while first < last and first & 7:
        bits[first >> 3] |= 1 << (first & 7)
        first += 1
    whole = (last - first) >> 3
    if whole > 0:
        bits[first >> 3 : (first >> 3) + whole] = b"\xff" * whole
        first += whole << 3
    while first < last:
        bits[first >> 3] |= 1 << (first & 7)
        first += 1


def _runs_of_bits(bits: bytes) -> Iterator[tuple[int, int]]:
    """(first, end) of every run of set bits."""
    start = None
    at = 0
    while at < len(bits):
        byte = bits[at]
        if byte in (0, 255):
            same = len(bits[at:]) - len(bits[at:].lstrip(bytes([byte])))
            if byte == 0 and start is not None:
                yield start, at * 8
                start = None
            elif byte == 255 and start is None:
                start = at * 8
            at += same
            continue
        for bit in range(8):
            if byte >> bit & 1:
                if start is None:
                    start = at * 8 + bit
            elif start is not None:
                yield start, at * 8 + bit
                start = None
        at += 1
    if start is not None:
        yield start, len(bits) * 8
