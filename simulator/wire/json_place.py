"""Where in its input a JSON lexer is: lines and columns from 1 (qobject/json-lexer.c)."""

from __future__ import annotations


class Place:
    """Told of chunks one after the other. Indices are into the chunk at hand."""

    __slots__ = ("_counted", "_line", "_line_end")

    def __init__(self) -> None:
        self._line = 1
        self._line_end = -1  # the index of the last line end, which may lie in an earlier chunk
        self._counted = 0  # line ends before this index are in `_line`

    def at(self, chunk: bytes, index: int) -> tuple[int, int]:
        """Line and column of the byte at `index`. Never less than before."""
        if index > self._counted:
            line_ends = chunk.count(b"\n", self._counted, index)
            if line_ends:
                self._line += line_ends
                self._line_end = chunk.rfind(b"\n", self._counted, index)
            self._counted = index
        return self._line, index - self._line_end

    def leave(self, chunk: bytes, length: int) -> None:
        """The next chunk begins `length` bytes behind the beginning of this one."""
        self.at(chunk, length)
        self._line_end -= length
        self._counted -= length
