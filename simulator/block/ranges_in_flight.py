"""Ranges that are being worked on, and waiting for them (block/reqlist.c, 7.2)."""

from __future__ import annotations

from simulator.engine.task import WaitQueue


class Range:
    """One range in flight. Ranges of a list may overlap."""

    __slots__ = ("end", "offset", "waiters")

    def __init__(self, offset: int, end: int, waiters: WaitQueue) -> None:
        self.offset, self.end, self.waiters = offset, end, waiters

    @property
    def length(self) -> int:
        return self.end - self.offset


class RangesInFlight:
    """Newest first, as QEMU looks through them."""

    __slots__ = ("_ranges", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self._ranges: list[Range] = []

    def __len__(self) -> int:
        return len(self._ranges)

    def add(self, offset: int, length: int) -> Range:
        added = Range(offset, offset + length, WaitQueue(f"{self.what} at {offset}"))
        self._ranges.insert(0, added)
        return added

    def shrink(self, item: Range, length: int) -> None:
        """Give up the tail of a range; who waits for it looks again."""
        item.end = item.offset + length
        item.waiters.wake_all()

    def remove(self, item: Range) -> None:
        self._ranges.remove(item)
        item.waiters.wake_all()

    def conflict(self, offset: int, length: int) -> Range | None:
        end = offset + length
        for item in self._ranges:
            if item.offset < end and offset < item.end:
                return item
        return None

    async def wait_one(self, offset: int, length: int) -> bool:
        """Wait for one overlapping range to end; False if there is none."""
        item = self.conflict(offset, length)
        if item is None:
            return False
        await item.waiters.wait()
        return True

    async def wait_all(self, offset: int, length: int) -> None:
        while await self.wait_one(offset, length):
            pass
