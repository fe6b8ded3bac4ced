"""The bytes of a file or an image of up to 16 TiB, kept as what was written."""

from __future__ import annotations

from simulator.block.extents import ExtentMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FILL = [bytes([value]) for value in range(256)]

# A remainder smaller than a quarter of the payload it was cut from is copied, so that overwriting most of a
# big write frees its memory. Under this size the copy is not worth its object.
_TRIM_BYTES = 4096


class _Pieces(ExtentMap):
    """Values are a fill byte (int), or (payload, base): the byte at `offset` is payload[offset - base]."""

    __slots__ = ()

    def part(self, value: Any, start: int, end: int) -> Any:
        if value.__class__ is int:
            return value
        payload, base = value
        if len(payload) > _TRIM_BYTES and (end - start) * 4 < len(payload):
            return payload[start - base : end - base], start
        return value


def uniform(payload: bytes) -> int | None:
    """The byte that all of a payload (at least one byte) is made of, or None."""
    first = payload[0]
    length = len(payload)
    # Most of what is not uniform shows it soon; the whole is compared with a copy that takes time to make.
    head = payload[:64]
    if payload[-1] != first or payload[length >> 1] != first or head != _FILL[first] * len(head):
        return None
    return first if payload == _FILL[first] * length else None


class Contents:
    """`size_bytes` bytes: what was never written, or was discarded, is a hole and reads as zero."""

    __slots__ = ("_pieces", "size_bytes")

    def __init__(self, size_bytes: int = 0) -> None:
        self.size_bytes = size_bytes
        self._pieces = _Pieces()

    @property
    def written_bytes(self) -> int:
        """Bytes that are no hole."""
        return self._pieces.covered_bytes

    def snapshot(self) -> Contents:
        """An independent copy that costs little until one of both changes."""
        other = Contents.__new__(Contents)
        other.size_bytes = self.size_bytes
        other._pieces = self._pieces.snapshot()  # type: ignore[assignment]
        return other

    def resize(self, size_bytes: int) -> None:
        """Cut off what is behind the new end, or grow by a hole."""
        if size_bytes < self.size_bytes:
            self._pieces.clear(size_bytes, self.size_bytes)
        self.size_bytes = size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes; behind the end they are zero."""
        end = offset + length
        first_end, value = self._pieces.run_at(offset, end)
        if first_end == end:
            return _bytes_of(value, offset, end)
        runs = self._pieces.runs(offset, end)
        return b"".join([_bytes_of(piece, start, stop) for start, stop, piece in runs])

    def write(self, offset: int, payload: bytes) -> None:
        """Store the payload, growing if it ends behind the end."""
        length = len(payload)
        if not length:
            return
        end = offset + length
        fill = uniform(payload)
        if fill is None:
            self._pieces.set(offset, end, (bytes(payload), offset))
        else:
            self._pieces.set(offset, end, fill)
        if end > self.size_bytes:
            self.size_bytes = end

    def fill(self, offset: int, length: int, value: int) -> None:
        """Store `length` times one byte. Value 0 is written zeroes, which is not a hole."""
        self._pieces.set(offset, offset + length, value)
        if offset + length > self.size_bytes:
            self.size_bytes = offset + length

    def punch(self, offset: int, length: int) -> None:
        """Make a hole; the size stays."""
        self._pieces.clear(offset, offset + length)

    def run_at(self, offset: int, limit: int) -> tuple[int, bool]:
        """(end, is_written) of the run from `offset`. A written run ends where the payload does, so the next
        run may be written too."""
        end, value = self._pieces.run_at(offset, limit)
        return end, value is not None

    def fill_at(self, offset: int, limit: int) -> tuple[int, int | None]:
        """(end, byte) of the run from `offset`: holes are 0, None is a payload that is not uniform."""
        end, value = self._pieces.run_at(offset, limit)
        if value is None:
            return end, 0
        return end, value if value.__class__ is int else None

    def runs(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """(start, end, is_written) over the range, neighbours of one kind joined."""
        start, end, kind = offset, offset, None
        for first, last, value in self._pieces.runs(offset, offset + length):
            written = value is not None
            if written is not kind:
                if kind is not None:
                    yield start, end, kind
                start, kind = first, written
            end = last
        if kind is not None:
            yield start, end, kind


def _bytes_of(value: Any, start: int, end: int) -> bytes:
    if value is None:
        return bytes(end - start)
    if value.__class__ is int:
        return _FILL[value] * (end - start)
    payload, base = value
    if start == base and end - start == len(payload):
        return payload  # type: ignore[no-any-return]
    return payload[start - base : end - base]  # type: ignore[no-any-return]
