"""A value for every offset of [0, size), kept as runs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


class IntervalMap(Generic[Value]):
    """Runs of values, found by bisection; an assignment costs what it covers."""

    __slots__ = ("_size", "_starts", "_values")

    def __init__(self, size: int, value: Value) -> None:
        self._size = size
        self._starts = [0]
        self._values = [value]

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, Value]]:
        """(start, end, value) of all runs that touch [start, end), cut to it. Not to be changed meanwhile."""
        starts, values = self._starts, self._values
        index = bisect_right(starts, start) - 1
        end = min(end, self._size)
        while start < end:
            stop = starts[index + 1] if index + 1 < len(starts) else self._size
            stop = min(stop, end)
            yield start, stop, values[index]
            start = stop
            index += 1

    def replace(self, start: int, pieces: list[tuple[int, int, Value]]) -> None:
        """Put `pieces`, (start, end, value) without gaps from `start` on, in place of what is there."""
        end = min(pieces[-1][1], self._size) if pieces else start
        if start >= end:
            return
        first = self._cut(start)
        last = self._cut(end) if end < self._size else len(self._starts)
        new_starts: list[int] = []
        new_values: list[Value] = []
        for piece_start, _, value in pieces:
            if piece_start < end and not (new_values and new_values[-1] == value):
                new_starts.append(piece_start)
                new_values.append(value)
        self._starts[first:last] = new_starts
        self._values[first:last] = new_values

    def _cut(self, offset: int) -> int:
        """The index of the run that begins at `offset`, after making it so."""
        index = bisect_left(self._starts, offset)
        if index == len(self._starts) or self._starts[index] != offset:
            self._starts.insert(index, offset)
            self._values.insert(index, self._values[index - 1])
        return index
