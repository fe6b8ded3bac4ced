"""What is wrong with a spec, told to its author: file, line, step, what was expected, what stands there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

# A place in a spec: keys and indices from the top, such as ("steps", 3, "guest", "write", "length").
Place = tuple[str | int, ...]

# What stands in a place between a step and those inside it.
NESTING = ("steps", "together", "destination")


class Problem(NamedTuple):
    """`line` counts from 1. `where` is in words: "step 4 (guest): write.length", or "" for the whole file."""

    path: str
    line: int
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: " + (f"{self.where}: " if self.where else "") + self.message


class SpecError(Exception):
    """A spec cannot be used. `problems` holds everything that is wrong with it, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Problems:
    """Collects problems of one file; knows at which line each place stands."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[Problem] = []
        self.lines: dict[Place, int] = {}
        self.verbs: dict[Place, str] = {}

    def add(self, place: Place, message: str, line: int | None = None) -> None:
        """Note a problem. The line is that of the place, or of the nearest thing around it that has one."""
        known = place
        while line is None and known:
            line = self.lines.get(known)
            known = known[:-1]
        self.found.append(Problem(self.path, line or 1, self.where(place), message))

    def raise_if_any(self) -> None:
        """Raises SpecError with all problems found, sorted by line."""
        if self.found:
            raise SpecError(sorted(dict.fromkeys(self.found), key=lambda problem: problem.line))

    def where(self, place: Place) -> str:
        """A place in words. Steps count from 1, and 6.2 is the second step inside the sixth."""
        steps, rest = _split(place)
        words = dotted(rest)
        if not steps:
            return words
        verb = self.verbs.get(place[: len(place) - len(rest)], "")
        if verb and rest and rest[0] == verb:
            words = dotted(rest[1:])
        number = ".".join(str(index + 1) for index in steps)
        return f"step {number}" + (f" ({verb})" if verb else "") + (f": {words}" if words else "")


def _split(place: Place) -> tuple[list[int], Place]:
    """The indices of the step that a place belongs to, and what is left of the place inside that step."""
    indices: list[int] = []
    at = 0
    while at + 1 < len(place) and place[at] in NESTING:
        at += 1
        while at < len(place) and isinstance(index := place[at], int):
            indices.append(index)
            at += 1
    return indices, place[at:] if indices else place


def dotted(place: Place) -> str:
    """("disks", "vda", "size") -> "disks.vda.size", ("expect", 0, "at") -> "expect[0].at"."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """A suggestion ("did you mean X?") if something in `known` is near, else what there is."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}" if names else "there are none"
