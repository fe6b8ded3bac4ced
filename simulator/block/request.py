"""A request in flight on a node (BdrvTrackedRequest, block/io.c, 7.2)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.engine.task import WaitQueue


class Request:
    """`serialising`: no other request may overlap it."""

    __slots__ = ("end", "offset", "serialising", "waiting", "writes")

    def __init__(self, offset: int, end: int, writes: bool) -> None:
        self.offset, self.end, self.writes = offset, end, writes
        self.serialising = False
        self.waiting = False

    def serialise(self, unit_bytes: int) -> None:
        """Overlap no other request, in whole units of so many bytes."""
        self.serialising = True
        self.offset -= self.offset % unit_bytes
        self.end += -self.end % unit_bytes

    async def wait_for_overlapping(self, requests: Sequence[Request], request_done: WaitQueue) -> None:
        """Until no other request overlaps of which one of the two is serialising. A request that is itself
        waiting is not waited for, or two serialising ones would wait for each other for ever."""
        while self._conflicts(requests):
            self.waiting = True
            try:
                await request_done.wait()
            finally:
                self.waiting = False

    def _conflicts(self, requests: Sequence[Request]) -> bool:
        for other in requests:
            if other is self or not (other.serialising or self.serialising) or other.waiting:
                continue
            if other.offset < self.end and self.offset < other.end:
                return True
        return False
