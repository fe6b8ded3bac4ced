"""DirtyBitmap against a set of granule numbers, and its life by QEMU's rules and words."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.block.bitmap import DirtyBitmap, default_granularity, find_bitmap
from simulator.block.errors import QmpError

SIZE = 100 * 512 + 200  # the last granule of any size reaches beyond it


def node(size=SIZE, cluster_bytes=None):
    return SimpleNamespace(
        size_bytes=size,
        bitmaps=[],
        node_name="n",
        driver=SimpleNamespace(cluster_bytes=cluster_bytes),
        filtered=None,
    )


class Oracle:
    def __init__(self, unit, size):
        self.unit, self.size, self.dirty = unit, size, set()

    def granules(self, offset, length):
        return set(range(offset // self.unit, -(-(offset + length) // self.unit))) if length else set()

    def is_dirty(self, offset):
        return offset // self.unit in self.dirty

    def areas(self):
        found = []
        for number in sorted(self.dirty):
            start, end = number * self.unit, min((number + 1) * self.unit, self.size)
            if found and found[-1][1] == start:
                found[-1][1] = end
            else:
                found.append([start, end])
        return [(start, end - start) for start, end in found]


ranges = st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE)).map(
    lambda t: (t[0], min(t[1], SIZE - t[0]))
)
steps = st.lists(st.tuples(st.sampled_from(["set", "reset"]), ranges), max_size=20)


@given(st.sampled_from([512, 1024, 4096]), steps, ranges)
@settings(max_examples=200, deadline=None)
def test_bits_agree_with_a_set_of_numbers(unit, steps, window):
    bitmap, oracle = DirtyBitmap(node(), "b", unit), Oracle(unit, SIZE)
    for verb, (offset, length) in steps:
        if verb == "set":
            bitmap.set(offset, length)
            oracle.dirty |= oracle.granules(offset, length)
        else:
            offset -= offset % unit
            length = length - length % unit if offset + length < SIZE - unit else SIZE - offset
            bitmap.reset(offset, length)
            oracle.dirty -= oracle.granules(offset, length)
        assert list(bitmap.dirty_areas()) == oracle.areas()
        assert bitmap.count_bytes == len(oracle.dirty) * unit
    offset, length = window
    inside = [at for at in range(offset, offset + length) if oracle.is_dirty(at)]
    assert bitmap.next_dirty(offset, length) == (inside[0] if inside else None)
    clean = [at for at in range(offset, offset + length) if not oracle.is_dirty(at)]
    assert bitmap.next_zero(offset, length) == (clean[0] if clean else None)
    # One bit a granule, as the image format and the checksum of a bitmap have it.
    bits = int.from_bytes(bitmap.serialise(0, SIZE), "little")
    assert {number for number in range(bits.bit_length()) if bits >> number & 1} == oracle.dirty
    copy = DirtyBitmap(node(), "copy", unit)
    copy.deserialise(0, bitmap.serialise(0, SIZE))
    assert list(copy.dirty_areas()) == oracle.areas()
    assert copy.count_bytes == bitmap.count_bytes


@given(st.sampled_from([512, 4096]), st.sampled_from([512, 4096]), steps, steps)
@settings(max_examples=100, deadline=None)
def test_merging_rounds_outward_and_can_be_undone(unit, other_unit, ours, theirs):
    one, other = DirtyBitmap(node(), "a", unit), DirtyBitmap(node(), "b", other_unit)
    for bitmap, changes in ((one, ours), (other, theirs)):
        for verb, (offset, length) in changes:
            if verb == "set":
                bitmap.set(offset, length)
    before = list(one.dirty_areas())
    oracle = Oracle(unit, SIZE)
    for offset, length in before + list(other.dirty_areas()):
        oracle.dirty |= oracle.granules(offset, length)
    backup = one.merge(other)
    assert list(one.dirty_areas()) == oracle.areas()
    one.restore(backup)
    assert list(one.dirty_areas()) == before
    backup = one.clear()
    assert one.count_bytes == 0
    one.restore(backup)
    assert list(one.dirty_areas()) == before


def test_a_reset_that_is_not_aligned_is_a_defect():
    bitmap = DirtyBitmap(node(), "b", 4096)
    with pytest.raises(AssertionError, match="not aligned"):
        bitmap.reset(100, 4096)
    with pytest.raises(AssertionError, match="not aligned"):
        bitmap.reset(0, 5000)


def test_a_new_size_drops_what_lies_wholly_behind_it():
    bitmap = DirtyBitmap(node(), "b", 4096)
    bitmap.set(0, SIZE)
    bitmap.truncate(5000)
    assert (bitmap.count_bytes, list(bitmap.dirty_areas())) == (8192, [(0, 5000)])
    bitmap.truncate(20_000)
    assert list(bitmap.dirty_areas()) == [(0, 8192)]


def test_names_are_unique_and_not_too_long():
    disk = node()
    DirtyBitmap(disk, "b", 512)
    for name, desc in (
        ("b", "Bitmap already exists: b"),
        ("x" * 1024, "Bitmap name too long: " + "x" * 1024),
    ):
        with pytest.raises(QmpError) as caught:
            DirtyBitmap(disk, name, 512)
        assert caught.value.desc == desc
    DirtyBitmap(disk, "y" * 1023, 512)
    assert [bitmap.name[0] for bitmap in disk.bitmaps] == ["y", "b"]


@pytest.mark.parametrize(
    ("cluster", "granularity"), [(None, 65536), (512, 4096), (8192, 8192), (1 << 21, 65536)]
)
def test_the_default_granularity(cluster, granularity):
    assert default_granularity(node(cluster_bytes=cluster)) == granularity


def test_what_must_not_be_used_is_refused_in_order():
    bitmap = DirtyBitmap(node(), "b", 512)
    bitmap.check()
    bitmap.inconsistent = bitmap.readonly = bitmap.busy = True
    words = (
        ("busy", "Bitmap 'b' is currently in use by another operation and cannot be used"),
        ("readonly", "Bitmap 'b' is readonly and cannot be modified"),
        ("inconsistent", "Bitmap 'b' is inconsistent and cannot be used"),
    )
    for attribute, desc in words:
        with pytest.raises(QmpError) as caught:
            bitmap.check()
        assert caught.value.desc == desc
        setattr(bitmap, attribute, False)
    bitmap.check()
    bitmap.busy = True
    bitmap.check(busy=False)


def write(disk, offset, length):
    """What a node does for its bitmaps on a write."""
    for bitmap in disk.bitmaps:
        if bitmap.recording:
            bitmap.set(offset, length)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_successor_records_and_takes_the_place(enabled):
    disk = node()
    bitmap = DirtyBitmap(disk, "b", 512)
    bitmap.persistent = True
    bitmap.set(0, 512)
    bitmap.enabled = enabled
    bitmap.create_successor()
    assert bitmap.info() == {
        "name": "b", "count": 512, "granularity": 512, "recording": enabled, "busy": True, "persistent": True,
    }  # fmt: skip
    assert "name" not in bitmap.successor.info()
    with pytest.raises(QmpError, match="in use by another operation"):
        bitmap.create_successor()
    write(disk, 1024, 512)
    taken = bitmap.abdicate()
    assert disk.bitmaps == [taken]
    assert find_bitmap(disk, "b") is taken
    assert (taken.enabled, taken.busy, taken.persistent) == (enabled, False, True)
    assert list(taken.dirty_areas()) == ([(1024, 512)] if enabled else [])


@pytest.mark.parametrize("enabled", [True, False])
def test_a_reclaimed_successor_adds_what_it_recorded(enabled):
    disk = node()
    bitmap = DirtyBitmap(disk, "b", 512)
    bitmap.set(0, 512)
    bitmap.enabled = enabled
    bitmap.create_successor()
    write(disk, 1024, 512)
    bitmap.reclaim()
    assert disk.bitmaps == [bitmap]
    assert (bitmap.enabled, bitmap.busy) == (enabled, False)
    assert list(bitmap.dirty_areas()) == [(0, 512)] + ([(1024, 512)] if enabled else [])
    for call, desc in (
        (bitmap.reclaim, "Cannot reclaim a successor when none is present"),
        (bitmap.abdicate, "Cannot relinquish control if there's no successor present"),
    ):
        with pytest.raises(QmpError) as caught:
            call()
        assert caught.value.desc == desc
