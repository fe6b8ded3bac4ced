"""A point in time as the runner holds it, and how many of them a scenario stacks up on one disk."""

from __future__ import annotations

from collections.abc import Iterable

from scenarios.language.steps import Scenario, Step

_LONGEST_NODE_NAME = 31
_LONGEST_SUFFIX = len("-scratch")


class Part:
    """One disk's share of a point in time. `export` is its id and its name; `node` is what it exports.

    `made` says what exists by now, in the words of the method that makes it; `files` are those to
    be deleted in the end. `since` is the number of events when it was begun: later ones tell what
    has gone by itself.
    """

    def __init__(self, fleece_id: str, disk: str, since: int) -> None:
        self.disk = disk
        self.export = f"{fleece_id}-{disk}"
        self.stem = self.export
        if len(self.stem) + _LONGEST_SUFFIX > _LONGEST_NODE_NAME:
            self.stem = f"{fleece_id[:11]}-{disk[:11]}"
        self.node = f"{self.stem}-scratch"
        self.job = ""
        self.storage = f"{self.stem}-file"  # the node that the scratch image's bytes go to
        self.made: set[str] = set()
        self.files: list[str] = []
        self.since = since


class Point:
    """One point in time. `ending`: somebody is taking it away."""

    def __init__(self, fleece_id: str, method: str, bitmap: str | None) -> None:
        self.id, self.method, self.bitmap = fleece_id, method, bitmap
        self.parts: list[Part] = []
        self.alive = self.ending = False

    def part(self, disk: str) -> Part:
        return next(part for part in self.parts if part.disk == disk)

    @property
    def disks(self) -> list[str]:
        return [part.disk for part in self.parts]


class Eras:
    """From when a disk has no point in time to when it has none again is one era: how many are made in each.

    Told from the spec before it runs. In a `together`, everything is made before anything is ended.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._alive: dict[str, list[str]] = {}
        self._count: dict[str, int] = {}
        self.by_disk: dict[str, list[int]] = {name: [] for name in scenario.disks}
        self._walk(scenario.steps)
        for disk in scenario.disks:
            self._close(disk)

    def _walk(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if step.together is not None:
                inside = [
                    each for lane in step.together for each in ([lane] if isinstance(lane, Step) else lane)
                ]
                self._walk([each for each in inside if each.end is None])
                self._walk([each for each in inside if each.end is not None])
            elif step.fleece is not None:
                for disk in step.fleece.disks:
                    self._count[disk] = self._count.get(disk, 0) + 1
                if step.fleece.error is None:
                    self._alive[step.fleece.id] = step.fleece.disks
                self._close_idle()
            elif step.end is not None:
                self._alive.pop(step.end.id, None)
                self._close_idle()
            elif step.crash is not None or step.quit is not None or step.ends is not None:
                self._alive.clear()
                self._close_idle()

    def _close_idle(self) -> None:
        busy = {disk for disks in self._alive.values() for disk in disks}
        for disk in list(self._count):
            if disk not in busy:
                self._close(disk)

    def _close(self, disk: str) -> None:
        if self._count.get(disk):
            self.by_disk[disk].append(self._count.pop(disk))

    def stack_up(self) -> bool:
        """Whether any disk has more than one point in time in an era."""
        return any(count > 1 for counts in self.by_disk.values() for count in counts)

    def next_of(self, disk: str) -> int:
        """How many points in time the disk's next era makes; 1 if the spec does not tell."""
        counts = self.by_disk.get(disk)
        return counts.pop(0) if counts else 1
