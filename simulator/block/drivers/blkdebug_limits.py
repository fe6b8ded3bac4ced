"""How blkdebug lets requests look that it is given: not of any place and length. Source: blkdebug_open in
block/blkdebug.c and the request functions of block/io.c that split requests by a driver's limits, 7.2."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Range = tuple[int, int]  # offset, length

NAMES = ("align", "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard", "max-discard")
_INT_MAX = (1 << 31) - 1


class Limits:
    """All in bytes; 0 of the largest is no limit."""

    __slots__ = (
        "_opt_discard",
        "_opt_zeroes",
        "align",
        "max_discard",
        "max_transfer",
        "max_zeroes",
        "opt_discard",
        "opt_zeroes",
    )

    def __init__(self, options: dict[str, Any], align_below: int) -> None:
        """Raises QmpError."""
        align, transfer, opt_zeroes, max_zeroes, opt_discard, max_discard = (
            int(options.get(name, 0)) for name in NAMES
        )
        if align and (align >= _INT_MAX or align.bit_count() != 1):
            raise _cannot("align", align)
        self.align = align or align_below
        unit = max(align, align_below)
        units = (unit, unit, max(opt_zeroes, unit), unit, max(opt_discard, unit))
        values = (transfer, opt_zeroes, max_zeroes, opt_discard, max_discard)
        for name, value, multiple in zip(NAMES[1:], values, units, strict=True):
            if value and (value >= _INT_MAX or value % multiple):
                raise _cannot(name, value)
        self.max_transfer, self.max_zeroes, self.max_discard = transfer, max_zeroes, max_discard
        self._opt_zeroes, self._opt_discard = opt_zeroes, opt_discard
        self.opt_zeroes, self.opt_discard = max(opt_zeroes, self.align), max(opt_discard, self.align)

    def told(self) -> dict[str, int]:
        """Members of BlockLimitsInfo."""
        values = {
            "max-transfer": self.max_transfer,
            "write-zeroes-alignment": self._opt_zeroes,
            "max-write-zeroes": self.max_zeroes,
            "discard-alignment": self._opt_discard,
            "max-discard": self.max_discard,
        }
        return {name: value for name, value in values.items() if value}

    def around(self, offset: int, length: int) -> Range:
        """The smallest aligned range that has all of it."""
        start, end = offset - offset % self.align, offset + length
        return start, end + -end % self.align - start

    def transfers(self, offset: int, length: int) -> Iterator[Range]:
        return _pieces(offset, length, self.max_transfer)

    def zeroes(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """Parts of a range that is to be zeroed, and whether each may be: others are written."""
        yield from _parts(offset, length, self.opt_zeroes, self.max_zeroes)

    def discards(self, offset: int, length: int) -> Iterator[Range]:
        """What is not of whole units is left out."""
        for start, size, _ in _parts(offset, length, self.opt_discard, self.max_discard):
            if not (start | size) % self.align:
                yield start, size


def _cannot(name: str, value: int) -> QmpError:
    return QmpError(f"Cannot meet constraints with {name} {value}")


def _pieces(offset: int, length: int, largest: int) -> Iterator[Range]:
    end = offset + length
    while offset < end:
        size = min(largest or length, end - offset)
        yield offset, size
        offset += size


def _parts(offset: int, length: int, unit: int, largest: int) -> Iterator[tuple[int, int, bool]]:
    """(offset, length, whether it is of whole units): a head, pieces, a tail."""
    end = offset + length
    first, last = offset + -offset % unit, end - end % unit
    if first >= last:
        # It is inside a unit, or crosses one boundary.
        for start, stop in ((offset, min(first, end)), (min(first, end), end)):
            if start < stop:
                yield start, stop - start, False
        return
    if offset < first:
        yield offset, first - offset, False
    for start, size in _pieces(first, last - first, largest):
        yield start, size, True
    if last < end:
        yield last, end - last, False
