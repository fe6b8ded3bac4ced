"""A set of clusters of a disk: which are still to copy, are copied, or may be read (HBitmap, util/hbitmap.c, 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.block.extents import ExtentMap

if TYPE_CHECKING:
    from collections.abc import Iterator


class ClusterSet:
    """Offsets and lengths are bytes; what a range touches is rounded out to whole clusters. `size_bytes` need not be
    a multiple of the cluster, and the last cluster may then reach beyond it."""

    __slots__ = ("_map", "cluster_bytes", "end", "size_bytes")

    def __init__(self, size_bytes: int, cluster_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.cluster_bytes = cluster_bytes
        self.end = size_bytes + -size_bytes % cluster_bytes
        self._map = ExtentMap()

    @property
    def count_bytes(self) -> int:
        """Whole clusters, as QEMU counts: the last one may reach beyond the disk (hbitmap_count)."""
        return self._map.covered_bytes

    def _bounds(self, offset: int, length: int) -> tuple[int, int]:
        unit = self.cluster_bytes
        end = offset + length
        return offset - offset % unit, min(end + -end % unit, self.end)

    def set(self, offset: int, length: int) -> None:
        self._map.set(*self._bounds(offset, length), 1)

    def reset(self, offset: int, length: int) -> None:
        self._map.clear(*self._bounds(offset, length))

    def set_all(self) -> None:
        self._map.set(0, self.end, 1)

    def next_set(self, offset: int, end: int) -> int | None:
        """The first offset in the set from `offset` on, below `end`."""
        return self._map.next_set(offset, min(end, self.size_bytes))

    def next_clear(self, offset: int, end: int) -> int | None:
        return self._map.next_clear(offset, min(end, self.size_bytes))

    def next_area(self, offset: int, end: int, longest: int) -> tuple[int, int] | None:
        """(offset, length) of the first run in the set inside [offset, end), at most `longest`, cut at the disk's end
        (hbitmap_next_dirty_area)."""
        end = min(end, self.size_bytes)
        for first, last, _ in self._map.extents(offset, end):
            return first, min(last - first, longest)
        return None

    def status(self, offset: int, end: int) -> tuple[bool, int]:
        """(in the set, length) of the run from `offset` (hbitmap_status)."""
        last, value = self._map.run_at(offset, end)
        return value is not None, last - offset

    def areas(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of every run, in order. The set must not change meanwhile."""
        for first, last, _ in self._map.extents(0, self.end):
            yield first, last - first

    def copy(self) -> ClusterSet:
        """An independent set with the same clusters."""
        other = ClusterSet(self.size_bytes, self.cluster_bytes)
        other._map = self._map.snapshot()
        return other
