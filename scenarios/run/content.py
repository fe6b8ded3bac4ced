"""What bytes a range holds, short: runs of one value. Judges and oracles compare these, never whole disks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from simulator.wire.nbd.messages import zeroes

# A run: (offset, length, value). value is the byte (0..255) that fills the run, or the bytes themselves where
# they are not uniform. Runs are sorted, do not overlap, and neighbours of one fill value are joined.
Run = tuple[int, int, "int | bytes"]

_SMALLEST_UNIFORM_BYTES = 64
_CHUNK_BYTES = 1 << 20


def runs_of(payload: bytes, offset: int = 0) -> list[Run]:
    """The runs of `payload`, which begins at `offset`. Equal fill values are joined."""
    if payload and payload == zeroes(len(payload)):
        return [(offset, len(payload), 0)]
    runs: list[Run] = []
    for start in range(0, len(payload), _CHUNK_BYTES):
        piece = bytes(payload[start : start + _CHUNK_BYTES])
        _split(piece, 0, len(piece), offset + start, runs)
    return join(runs)


def _split(piece: bytes, start: int, end: int, offset: int, runs: list[Run]) -> None:
    """Add the runs of piece[start:end], which stands at `offset` + `start`."""
    length = end - start
    middle = start + (length >> 1)
    first = piece[start]
    # Comparing bytes is one memcmp; comparing memoryviews goes through them item by item. Most mixtures show
    # in two more bytes, which saves making something to compare with.
    if piece[end - 1] == first == piece[middle] and piece[start:end] == first.to_bytes() * length:
        runs.append((offset + start, length, first))
    elif length <= _SMALLEST_UNIFORM_BYTES:
        runs.extend(_bytewise(piece[start:end], offset + start))
    else:
        _split(piece, start, middle, offset, runs)
        _split(piece, middle, end, offset, runs)


def _bytewise(piece: bytes, offset: int) -> Iterator[Run]:
    """A short piece: two or three uniform stretches stay runs, anything busier is kept as it is."""
    cuts = [0, *(i for i in range(1, len(piece)) if piece[i] != piece[i - 1]), len(piece)]
    if len(cuts) > 5:
        yield offset, len(piece), piece
        return
    for start, end in pairwise(cuts):
        yield offset + start, end - start, piece[start]


def join(runs: Iterable[Run]) -> list[Run]:
    """Join neighbours that touch and have the same fill value."""
    joined: list[Run] = []
    for offset, length, value in runs:
        if joined and isinstance(value, int):
            last_offset, last_length, last_value = joined[-1]
            if last_value == value and isinstance(last_value, int) and last_offset + last_length == offset:
                joined[-1] = (last_offset, last_length + length, value)
                continue
        joined.append((offset, length, value))
    return joined


def cut(runs: Iterable[Run], start: int, end: int) -> list[Run]:
    """The part of `runs` inside [start, end)."""
    inside: list[Run] = []
    for offset, length, value in runs:
        low, high = max(offset, start), min(offset + length, end)
        if low < high:
            piece = value if isinstance(value, int) else value[low - offset : high - offset]
            inside.append((low, high - low, piece))
    return inside
