"""Extended L2 entries of a qcow2 image: 32 parts of a cluster, of which each is allocated, zero or neither.

Source: docs/interop/qcow2.txt, "Extended L2 Entries"; qcow2_get_subcluster_range_type and
count_contiguous_subclusters, block/qcow2-cluster.c, 7.2.
"""

from __future__ import annotations

from simulator.block.drivers.qcow2_kinds import (
    NORMAL,
    OFFSET_MASK,
    PACKED,
    PLACED,
    UNALLOCATED,
    UNALLOCATED_PLACED,
    ZERO_ALLOCATED,
    ZERO_PLAIN,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.drivers.qcow2_header import Header
    from simulator.block.drivers.qcow2_tables import Table, Tables

PER_CLUSTER = 32
ALL_ALLOCATED = (1 << PER_CLUSTER) - 1
ALL_ZEROES = ALL_ALLOCATED << PER_CLUSTER


def allocated(bitmap: int, first: int, end: int) -> int:
    """The bitmap when parts first..end hold what was written to them."""
    part = _parts(first, end)
    return (bitmap | part) & ~(part << PER_CLUSTER)


def zeroed(bitmap: int, first: int, end: int) -> int:
    """The bitmap when parts first..end read as zeroes."""
    part = _parts(first, end)
    return (bitmap | part << PER_CLUSTER) & ~part


def _parts(first: int, end: int) -> int:
    return (1 << end) - (1 << first)


def is_sound(cluster_kind: int, bitmap: int) -> bool:
    """Whether no part is two things at once."""
    if cluster_kind == NORMAL:
        return not bitmap >> PER_CLUSTER & bitmap
    return cluster_kind != UNALLOCATED or not bitmap & ALL_ALLOCATED


def first_allocated(bitmap: int) -> int:
    """The number of the first part that holds something; PER_CLUSTER if none does."""
    here = bitmap & ALL_ALLOCATED
    return (here & -here).bit_length() - 1 if here else PER_CLUSTER


def end_of_allocated(bitmap: int) -> int:
    """Behind the last part that holds something."""
    return (bitmap & ALL_ALLOCATED).bit_length()


def kind(cluster_kind: int, bitmap: int, part: int) -> int:
    """What one part is, of a bitmap that `is_sound`."""
    if cluster_kind == PACKED:
        return PACKED
    placed = cluster_kind == NORMAL
    if bitmap >> part & 1:
        return NORMAL
    if bitmap >> part + PER_CLUSTER & 1:
        return ZERO_ALLOCATED if placed else ZERO_PLAIN
    return UNALLOCATED_PLACED if placed else UNALLOCATED


def _run_in_cluster(cluster_kind: int, bitmap: int, first: int) -> tuple[int, int]:
    """(kind, end) of the parts from `first` on that are the same."""
    found = kind(cluster_kind, bitmap, first)
    if found == PACKED:
        return found, PER_CLUSTER
    end = first + 1
    while end < PER_CLUSTER and kind(cluster_kind, bitmap, end) == found:
        end += 1
    return found, end


def run(tables: Tables, header: Header, table: Table, offset: int, end: int) -> tuple[int, int, int]:
    """As Tables.run, of what lies before `end` in this one table."""
    size, bits = header.cluster_bytes, header.subcluster_bits
    start = offset & -size
    entry, bitmap = tables.at(table, offset)
    if not is_sound(tables.kind_of(entry), bitmap):
        raise tables.invalid(table, offset)
    found, last = _run_in_cluster(tables.kind_of(entry), bitmap, (offset - start) >> bits)
    if found == PACKED:
        return found, entry, min(end, start + size) - offset
    host, placed = entry & OFFSET_MASK, found in PLACED
    if host & size - 1:
        raise tables.unaligned(table, offset, host)
    stop = start + (last << bits)
    while last == PER_CLUSTER and stop < end:
        entry, bitmap = tables.at(table, stop)
        cluster_kind = tables.kind_of(entry)
        if not is_sound(cluster_kind, bitmap):
            raise tables.invalid(table, stop)
        if kind(cluster_kind, bitmap, 0) != found:
            break
        if placed and entry & OFFSET_MASK != host + stop - start:
            break
        _, last = _run_in_cluster(cluster_kind, bitmap, 0)
        stop += last << bits
    return found, host + offset - start if placed else 0, min(end, stop) - offset
