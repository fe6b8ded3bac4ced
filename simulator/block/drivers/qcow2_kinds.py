"""What an L2 entry of a qcow2 image says of its cluster.

Source: docs/interop/qcow2.txt, "Cluster mapping"; qcow2_get_cluster_type and qcow2_get_subcluster_type,
block/qcow2.h, 7.2.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.block.drivers.qcow2_header import Header

COPIED = 1 << 63  # the refcount of what this entry points to is exactly one
COMPRESSED = 1 << 62
ZERO = 1
OFFSET_MASK = 0x00FFFFFFFFFFFE00

# Kinds of guest clusters and of their parts (QCow2SubclusterType). UNALLOCATED_PLACED: the cluster has its
# place, but this part of it has nothing there yet.
UNALLOCATED, ZERO_PLAIN, ZERO_ALLOCATED, NORMAL, PACKED, UNALLOCATED_PLACED = range(6)
NOT_HERE = (UNALLOCATED, UNALLOCATED_PLACED)
PLACED = (NORMAL, ZERO_ALLOCATED, UNALLOCATED_PLACED)


def kinds_of(header: Header) -> Callable[[int], int]:
    """The function from an L2 entry to the kind of its whole cluster, which with extended entries is one of
    UNALLOCATED, NORMAL and PACKED."""
    if not header.has_data_file:
        return _kind_extended if header.extended_l2 else _kind
    return _kind_outside_extended if header.extended_l2 else _kind_outside


def _kind(entry: int) -> int:
    if entry & COMPRESSED:
        return PACKED
    if entry & ZERO:
        return ZERO_ALLOCATED if entry & OFFSET_MASK else ZERO_PLAIN
    return NORMAL if entry & OFFSET_MASK else UNALLOCATED


def _kind_extended(entry: int) -> int:
    if entry & COMPRESSED:
        return PACKED
    return NORMAL if entry & OFFSET_MASK else UNALLOCATED


def _kind_outside(entry: int) -> int:
    """In a data file the first cluster lies at 0, and is told from none at all by its flag."""
    if entry & (COMPRESSED | ZERO):
        return _kind(entry)
    return NORMAL if entry & (OFFSET_MASK | COPIED) else UNALLOCATED


def _kind_outside_extended(entry: int) -> int:
    return _kind_outside(entry & ~ZERO)
