"""Disks and ranges where block layers go wrong: at the edges of clusters and of the disk."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from scenarios.language.steps import Disk

CLUSTER_BYTES = 65536
SECTOR_BYTES = 512

# Below, at and above the edges of the 64 KiB that QEMU copies at least; the first is what shrinks to.
SIZES = (
    4 * CLUSTER_BYTES,
    CLUSTER_BYTES,
    SECTOR_BYTES,
    CLUSTER_BYTES + SECTOR_BYTES,
    2 * CLUSTER_BYTES - SECTOR_BYTES,
    3 * CLUSTER_BYTES + 4096,
    5 * CLUSTER_BYTES + 7 * SECTOR_BYTES,
    9 * CLUSTER_BYTES,
    20 * CLUSTER_BYTES + SECTOR_BYTES,
)
CLUSTERS = (None, 4096, 512, 1 << 21, 1 << 17, 1 << 15)
# What stands several times is drawn more often.
_DELTAS = (0, 0, 0, 0, 0, 0, -SECTOR_BYTES, SECTOR_BYTES, 4096, -4096, CLUSTER_BYTES // 2, -1, 1)
_LENGTHS = (
    CLUSTER_BYTES,
    CLUSTER_BYTES,
    SECTOR_BYTES,
    4096,
    CLUSTER_BYTES + SECTOR_BYTES,
    2 * CLUSTER_BYTES,
    2 * CLUSTER_BYTES,
    CLUSTER_BYTES - SECTOR_BYTES,
    3 * CLUSTER_BYTES,
    1 << 40,
    1,
    CLUSTER_BYTES + 1,
)
_LAST_EDGE = 31

qcow2_disks = st.builds(
    Disk, size=st.sampled_from(SIZES), format=st.just("qcow2"), cluster=st.sampled_from(CLUSTERS)
)
raw_disks = st.builds(Disk, size=st.sampled_from(SIZES), format=st.just("raw"), cluster=st.none())
disks = st.one_of(st.just(Disk(size=SIZES[0])), qcow2_disks, raw_disks)


class Spot(NamedTuple):
    """A range of any disk: near the edge `edge` of its 64 KiB clusters (counted from its end if negative)."""

    edge: int
    delta: int
    length: int

    def on(self, size: int, aligned: bool, within: int = 0) -> tuple[int, int]:
        """(at, length) on a disk of that size, not empty. `aligned`: whole sectors. `within`: no edge of this
        many bytes is crossed (0: any may be)."""
        edges = -(-size // CLUSTER_BYTES)
        at = self.edge % edges * CLUSTER_BYTES if self.edge >= 0 else size
        at = min(max(at + self.delta, 0), size - 1)
        length = self.length
        if aligned:
            at -= at % SECTOR_BYTES
            length += -length % SECTOR_BYTES
        length = min(length, size - at)
        return at, min(length, within - at % within) if within else length


edges = st.one_of(st.integers(0, 2), st.integers(-1, _LAST_EDGE))
spots = st.builds(
    Spot,
    edges,
    st.sampled_from(_DELTAS),
    st.sampled_from(_LENGTHS),
)
