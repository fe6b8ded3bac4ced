"""A map from ranges of an image to values, small by what was set and not by how big the image is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Inserting into a list moves everything behind the place, so the extents are kept in short lists ("leaves")
# and one list of leaves. 512 keeps a move under a microsecond and the list of leaves short: three million
# extents are some ten thousand leaves.
_LEAF_MOST = 512


class _Leaf:
    """Neighbouring extents as three columns. `owner` is the map's token: a leaf of another owner is shared
    with a snapshot and must be copied before a change."""

    __slots__ = ("ends", "owner", "starts", "values")

    def __init__(self, starts: list[int], ends: list[int], values: list[Any], owner: object) -> None:
        self.starts = starts
        self.ends = ends
        self.values = values
        self.owner = owner


class ExtentMap:
    """Sorted extents [start, end) that do not overlap, each with a value that is not None.

    Neighbours that touch are joined if their values are the same object or equal ints. A value belongs to
    all of its extent: cutting an extent gives both parts the same value (a subclass may say otherwise, see
    `part`). Reads take O(log n + k), a change O(log n + k + leaf).
    """

    __slots__ = ("_firsts", "_leaves", "_owner", "covered_bytes")

    def __init__(self) -> None:
        self._owner: object = object()
        self._leaves: list[_Leaf] = []
        self._firsts: list[int] = []
        self.covered_bytes = 0

    def part(self, value: Any, start: int, end: int) -> Any:
        """The value of [start, end) which is left of an extent after a cut."""
        return value

    def snapshot(self) -> ExtentMap:
        """An independent copy. Both share leaves until one of them changes a leaf."""
        other = self.__class__()
        self._owner = object()
        other._leaves = self._leaves[:]
        other._firsts = self._firsts[:]
        other.covered_bytes = self.covered_bytes
        return other

    def __len__(self) -> int:
        return sum(len(leaf.starts) for leaf in self._leaves)

    def __bool__(self) -> bool:
        return bool(self._leaves)

    # Reads.

    def _leaf_at(self, offset: int) -> int:
        """The index of the last leaf that begins at or before `offset`; 0 if there is none."""
        if len(self._firsts) == 1:
            return 0
        at = bisect_right(self._firsts, offset) - 1
        return at if at > 0 else 0

    def get(self, offset: int) -> Any:
        """The value at `offset`, or None."""
        if not self._leaves:
            return None
        leaf = self._leaves[self._leaf_at(offset)]
        at = bisect_right(leaf.starts, offset) - 1
        if at >= 0 and leaf.ends[at] > offset:
            return leaf.values[at]
        return None

    def run_at(self, offset: int, limit: int) -> tuple[int, Any]:
        """(end, value) of the longest run of one value (or of a gap: None) from `offset`, cut at `limit`."""
        if not self._leaves:
            return limit, None
        number = self._leaf_at(offset)
        leaf = self._leaves[number]
        at = bisect_right(leaf.starts, offset) - 1
        if at >= 0 and leaf.ends[at] > offset:
            end = leaf.ends[at]
            return (end if end < limit else limit), leaf.values[at]
        at += 1
        if at < len(leaf.starts):
            following = leaf.starts[at]
        elif number + 1 < len(self._firsts):
            following = self._firsts[number + 1]
        else:
            return limit, None
        return (following if following < limit else limit), None

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int, Any]]:
        """(start, end, value) of what is set in [start, end), cut to that range, without the gaps.

        The map must not change while this runs.
        """
        if not self._leaves or start >= end:
            return
        leaves = self._leaves
        number = self._leaf_at(start)
        leaf = leaves[number]
        at = bisect_right(leaf.starts, start) - 1
        if at < 0 or leaf.ends[at] <= start:
            at += 1
        while True:
            starts, ends, values = leaf.starts, leaf.ends, leaf.values
            for i in range(at, len(starts)):
                first = starts[i]
                if first >= end:
                    return
                last = ends[i]
                yield (first if first > start else start), (last if last < end else end), values[i]
            number += 1
            if number == len(leaves):
                return
            leaf = leaves[number]
            at = 0

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, Any]]:
        """Like `extents`, with the gaps: they come as (start, end, None)."""
        at = start
        for first, last, value in self.extents(start, end):
            if first > at:
                yield at, first, None
            yield first, last, value
            at = last
        if at < end:
            yield at, end, None

    def next_set(self, offset: int, end: int) -> int | None:
        """The first set offset in [offset, end), or None."""
        for first, _, _ in self.extents(offset, end):
            return first
        return None

    def next_clear(self, offset: int, end: int) -> int | None:
        """The first offset of a gap in [offset, end), or None."""
        at = offset
        for first, last, _ in self.extents(offset, end):
            if first > at:
                break
            at = last
        return at if at < end else None

    def covered_in(self, start: int, end: int) -> int:
        """How many bytes of [start, end) are set."""
        return sum(last - first for first, last, _ in self.extents(start, end))

    # Changes.

    def set(self, start: int, end: int, value: Any) -> None:
        """Let all of [start, end) have `value`; an empty range changes nothing."""
        if start < end:
            self._replace(start, end, value)

    def clear(self, start: int, end: int) -> None:
        """Let [start, end) be a gap."""
        if start < end and self._leaves:
            self._replace(start, end, None)

    def clear_all(self) -> None:
        self._leaves = []
        self._firsts = []
        self.covered_bytes = 0

    def _own(self, number: int) -> _Leaf:
        leaf = self._leaves[number]
        if leaf.owner is not self._owner:
            leaf = _Leaf(leaf.starts[:], leaf.ends[:], leaf.values[:], self._owner)
            self._leaves[number] = leaf
        return leaf

    def _replace(self, start: int, end: int, value: Any) -> None:
        if not self._leaves:
            self._leaves = [_Leaf([start], [end], [value], self._owner)]
            self._firsts = [start]
            self.covered_bytes = end - start
            return
        number = self._leaf_at(start)
        if number + 1 < len(self._firsts) and self._firsts[number + 1] < end:
            # Whole leaves behind the first one that the range swallows go at once; then the range touches at
            # most two leaves, and the second is cut from its front.
            self._swallow(number, bisect_left(self._firsts, end) - 1, end)
        leaf = self._own(number)
        self._splice(leaf, start, end, value)
        if not leaf.starts:
            del self._leaves[number]
            del self._firsts[number]
        else:
            self._firsts[number] = leaf.starts[0]
            if value is not None and len(self._leaves) > 1:
                self._join_leaves(number)
                if number > 0 and leaf.starts and leaf.starts[0] == start:
                    self._join_leaves(number - 1)
            if len(leaf.starts) > _LEAF_MOST:
                self._split(number)

    def _join_leaves(self, number: int) -> None:
        """Join the last extent of a leaf with the first one of the next, if they touch and are equal."""
        if number + 1 == len(self._leaves):
            return
        left, right = self._leaves[number], self._leaves[number + 1]
        if left.ends[-1] != right.starts[0] or not _same(left.values[-1], right.values[0]):
            return
        left, right = self._own(number), self._own(number + 1)
        left.ends[-1] = right.ends[0]
        del right.starts[0], right.ends[0], right.values[0]
        if right.starts:
            self._firsts[number + 1] = right.starts[0]
        else:
            del self._leaves[number + 1], self._firsts[number + 1]

    def _swallow(self, number: int, last: int, end: int) -> None:
        for leaf in self._leaves[number + 1 : last]:
            self.covered_bytes -= sum(leaf.ends) - sum(leaf.starts)
        leaf = self._own(last)
        self._splice(leaf, self._firsts[last], end, None)
        if leaf.starts:
            self._firsts[last] = leaf.starts[0]
        else:
            last += 1
        del self._leaves[number + 1 : last]
        del self._firsts[number + 1 : last]

    def _splice(self, leaf: _Leaf, start: int, end: int, value: Any) -> None:
        """Replace [start, end) inside one leaf; `value` None makes a gap."""
        starts, ends, values = leaf.starts, leaf.ends, leaf.values
        low = bisect_right(ends, start)
        high = bisect_left(starts, end, low)
        new_starts, new_ends, new_values = [start], [end], [value]
        if value is None:
            new_starts, new_ends, new_values = [], [], []
        # On either side there may be a rest of an extent, or a neighbour. Equal values that touch stay one
        # extent.
        if low < high and ends[high - 1] > end:
            rest_end = ends[high - 1]
            rest = self.part(values[high - 1], end, rest_end)
            if _same(rest, value):
                new_ends[0] = rest_end
            else:
                new_starts.append(end)
                new_ends.append(rest_end)
                new_values.append(rest)
        elif high < len(starts) and starts[high] == end and _same(values[high], value):
            new_ends[0] = ends[high]
            high += 1
        if low < high and starts[low] < start:
            rest_start = starts[low]
            rest = self.part(values[low], rest_start, start)
            if _same(rest, value):
                new_starts[0] = rest_start
            else:
                new_starts.insert(0, rest_start)
                new_ends.insert(0, start)
                new_values.insert(0, rest)
        elif low > 0 and ends[low - 1] == start and _same(values[low - 1], value):
            low -= 1
            new_starts[0] = starts[low]
        self.covered_bytes += sum(starts[low:high]) - sum(ends[low:high]) + sum(new_ends) - sum(new_starts)
        starts[low:high] = new_starts
        ends[low:high] = new_ends
        values[low:high] = new_values

    def _split(self, number: int) -> None:
        leaf = self._leaves[number]
        half = len(leaf.starts) // 2
        # Writing from low to high is common: then the left half is never touched again, so fill it well.
        if number == len(self._leaves) - 1:
            half = len(leaf.starts) - 64
        right = _Leaf(leaf.starts[half:], leaf.ends[half:], leaf.values[half:], self._owner)
        del leaf.starts[half:], leaf.ends[half:], leaf.values[half:]
        self._leaves.insert(number + 1, right)
        self._firsts.insert(number + 1, right.starts[0])


def _same(left: Any, right: Any) -> bool:
    return left is right or (left.__class__ is int and right.__class__ is int and bool(left == right))
