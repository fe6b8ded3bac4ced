"""A request in flight on a node (BdrvTrackedRequest, block/io.c, 7.2)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Request:
    """`serialising`: no other request may overlap it."""

    __slots__ = ("end", "offset", "serialising", "waiting", "writes")

    def __init__(self, offset: int, end: int, writes: bool) -> None:
        self.offset, self.end, self.writes = offset, end, writes
        self.serialising = False
        self.waiting = False

    def conflicts(self, requests: Iterable[Request]) -> bool:
        """Whether one of these overlaps and one of the two is serialising. One that is itself waiting does
        not count."""
        for other in requests:
            if other is self or not (other.serialising or self.serialising) or other.waiting:
                continue
            if other.offset < self.end and self.offset < other.end:
                return True
        return False
