"""ExtentMap against a plain list with one value for each offset."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.block import extents
from simulator.block.extents import ExtentMap

SIZE = 400


def oracle_runs(cells: list[int | None], start: int, end: int) -> list[tuple[int, int, int | None]]:
    runs, at = [], start
    for value, group in groupby(cells[start:end]):
        length = len(list(group))
        runs.append((at, at + length, value))
        at += length
    return runs


ranges = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted)
changes = st.lists(
    st.tuples(st.sampled_from(["set", "clear", "snapshot"]), ranges, st.integers(0, 3)),
    min_size=1,
    max_size=60,
)


def split_in_half(self, number):
    leaf = self._leaves[number]
    half = len(leaf.starts) // 2
    right = extents._Leaf(leaf.starts[half:], leaf.ends[half:], leaf.values[half:], self._owner)
    del leaf.starts[half:], leaf.ends[half:], leaf.values[half:]
    self._leaves.insert(number + 1, right)
    self._firsts.insert(number + 1, right.starts[0])


def agree(subject: ExtentMap, cells: list[int | None], start: int, end: int) -> None:
    assert list(subject.runs(start, end)) == oracle_runs(cells, start, end)
    assert list(subject.extents(start, end)) == [
        r for r in oracle_runs(cells, start, end) if r[2] is not None
    ]
    assert subject.covered_bytes == sum(cell is not None for cell in cells)
    assert subject.covered_in(start, end) == sum(cell is not None for cell in cells[start:end])
    inside = [i for i in range(start, end) if cells[i] is not None]
    assert subject.next_set(start, end) == (inside[0] if inside else None)
    outside = [i for i in range(start, end) if cells[i] is None]
    assert subject.next_clear(start, end) == (outside[0] if outside else None)
    if start < end:
        assert subject.get(start) == cells[start]
        first = oracle_runs(cells, start, end)[0]
        assert subject.run_at(start, end) == (first[1], first[2])


@pytest.mark.parametrize("leaf_most", [3, 512])
@given(changes=changes, window=ranges)
@settings(max_examples=150, deadline=None)
def test_any_changes_agree_with_one_value_for_each_offset(leaf_most, changes, window):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extents, "_LEAF_MOST", leaf_most)
        if leaf_most == 3:
            patch.setattr(ExtentMap, "_split", split_in_half)
        subject, cells = ExtentMap(), [None] * SIZE
        kept = []
        for verb, (start, end), value in changes:
            if verb == "snapshot":
                kept.append((subject, cells))
                subject, cells = subject.snapshot(), cells[:]
            elif verb == "set":
                subject.set(start, end, value)
                cells[start:end] = [value] * (end - start)
            else:
                subject.clear(start, end)
                cells[start:end] = [None] * (end - start)
            agree(subject, cells, *window)
            agree(subject, cells, 0, SIZE)
        for old, old_cells in kept:
            agree(old, old_cells, 0, SIZE)


def test_many_extents_stay_sorted_joined_and_counted():
    subject = ExtentMap()
    for i in range(0, 20_000, 2):
        subject.set(i * 10, i * 10 + 10, i)
    assert len(subject) == 10_000
    assert subject.covered_bytes == 100_000
    assert subject.run_at(1_000 * 10, 1 << 40) == (10_010, 1_000)
    subject.set(5, 199_985, 7)
    assert list(subject.extents(0, 300_000)) == [(0, 5, 0), (5, 199_985, 7), (199_985, 199_990, 19_998)]
    assert subject.covered_bytes == 199_990


def test_a_snapshot_does_not_copy_the_leaves():
    subject = ExtentMap()
    for i in range(5_000):
        subject.set(i * 10, i * 10 + 5, i)
    copy = subject.snapshot()
    subject.set(0, 1, 99)
    shared = sum(a is b for a, b in zip(subject._leaves, copy._leaves, strict=True))
    assert shared == len(copy._leaves) - 1
