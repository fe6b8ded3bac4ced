"""What exists at each place of a scenario that is being made: so that only valid steps are made."""

from __future__ import annotations

from collections.abc import Mapping

from scenarios.language import steps

BITMAP = "since"
GRANULARITY_BYTES = 65536


class Alive:
    """A point in time. `deaf`: its export went with the NBD server. `dirty`: granules that its copy of the
    bitmap must show by disk; a disk is left out where that is not known."""

    def __init__(self, disks: list[str], bitmap: str | None, dirty: Mapping[str, frozenset[int]]) -> None:
        self.disks, self.bitmap, self.dirty = disks, bitmap, dirty
        self.deaf = False


class World:
    """`dirty`: granules written since the disk's bitmap was added, by disk that has one; `unsure`: those that
    were discarded, which the filter of a backup job does not pass on."""

    def __init__(self, disks: Mapping[str, steps.Disk]) -> None:
        self.disks = disks
        self.alive: dict[str, Alive] = {}
        self.dirty: dict[str, set[int]] = {}
        self.unsure: dict[str, set[int]] = {}
        self.gone = False
        # Within `together`: what other lanes may name meanwhile, and what must not be known for sure.
        self.taken: set[str] = set()
        self.racing = False

    def lane(self, taken: set[str]) -> World:
        """The same world as one lane of a `together` sees it. `taken` is shared by all lanes."""
        lane = World(self.disks)
        lane.alive, lane.dirty, lane.unsure = dict(self.alive), self.dirty, self.unsure
        lane.taken, lane.racing = taken, True
        return lane

    def joined(self, lanes: list[World]) -> None:
        """After a `together`: what was ended in any lane is gone, what was made in any lane is there."""
        before = set(self.alive)
        for lane in lanes:
            for name in before - lane.alive.keys():
                self.alive.pop(name, None)
            for name in lane.alive.keys() - before:
                self.alive[name] = lane.alive[name]

    def bitmap_emptied(self, disk: str) -> None:
        self.dirty[disk], self.unsure[disk] = set(), set()

    def written(self, disk: str, at: int, length: int, surely: bool) -> None:
        if disk in self.dirty:
            last = (at + length - 1) // GRANULARITY_BYTES
            touched = self.dirty if surely else self.unsure
            touched[disk].update(range(at // GRANULARITY_BYTES, last + 1))

    def taken_point(self, disks: list[str], bitmap: str | None) -> Alive:
        known: dict[str, frozenset[int]] = {}
        if bitmap is not None and not self.racing:
            sure = [disk for disk in disks if self.unsure[disk] <= self.dirty[disk]]
            known = {disk: frozenset(self.dirty[disk]) for disk in sure}
        return Alive(disks, bitmap, known)

    def machine_ended(self, restarted: bool) -> None:
        """Points in time and bitmaps live in the machine."""
        self.alive.clear()
        self.dirty.clear()
        self.gone = not restarted

    def expected_dirty(self, point: Alive, disk: str) -> list[steps.ExpectedExtent] | None:
        """What a map of the bitmap must show; None where that is not known."""
        if disk not in point.dirty:
            return None
        dirty, size = point.dirty[disk], self.disks[disk].size
        return [
            steps.ExpectedExtent(
                at=at,
                length=min(GRANULARITY_BYTES, size - at),
                state="dirty" if at // GRANULARITY_BYTES in dirty else "clean",
            )
            for at in range(0, size, GRANULARITY_BYTES)
        ]
