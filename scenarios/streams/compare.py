"""What is wrong with answers, what makes one finding of many, and the shortest input that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from scenarios.backends.interface import Backend
from scenarios.streams.drawn import Input
from scenarios.streams.interface import Answer, Wire
from scenarios.streams.play import EXCEPTION, Played, on_real, on_simulator

# How an input went. JUDGED: nothing to say against the simulator, and nothing to compare with. FORETOLD: not
# asked, as the simulator knows that QEMU dies of it. UNSURE: QEMU's own answers vary.
JUDGED, EQUAL, FORETOLD, UNSURE = "judged", "equal", "foretold", "unsure"
# Findings. WRONG: an exception, a malformed answer, a wait for nothing, too much held.
WRONG, UNEQUAL, DIED, HUNG = "wrong", "unequal", "died", "hung"

_TAKES = 2
_MOST_ROUNDS = 20
_ASKED_AT_ONCE = 24
_SHOWN_BYTES = 600
_SHOWN_BEFORE = 20
_LINE_END = b"\r\n"
# What is a client's own does not make another kind of finding.
_NAMES_IN_WORDS = re.compile(r""""id": .*?(?=, "error")|'[^']*'|\\"[^"]*\\"|\\\\u....|\\x..|[0-9]+""")


Verdicts = Callable[[Sequence[Input]], Iterator["Finding | None"]]


class Finding(NamedTuple):
    """`ours` and `theirs` are the answers from where they differ on, or what became of the machine."""

    outcome: str
    seed: int
    shown: Input
    ours: str
    theirs: str = ""

    @property
    def kind(self) -> str:
        """The same for findings that are likely to have one cause."""
        if self.ours.startswith(EXCEPTION):
            return f"{self.outcome}: {self.ours.partition(':')[0]}"
        return _NAMES_IN_WORDS.sub("*", f"{self.outcome}: {self.ours[:100]} | {self.theirs[:100]}")


class Compared(NamedTuple):
    outcome: str
    finding: Finding | None = None


def compare(
    wire: Wire, seeds: Sequence[int], simulator: Backend, real: Backend | None, kinds: set[str]
) -> list[Compared]:
    """Each of them, as it was given to a machine that was given those before it. `kinds`: of findings of
    which the shortest has been looked for, added to. Raises SetupError."""
    inputs = [wire.draw(seed) for seed in seeds]
    results: list[Compared] = []
    while len(results) < len(inputs):
        first = len(results)
        run = _Run(wire, seeds[first:], inputs[first:], simulator, real, kinds)
        results += run.results()
    return results


class _Run:
    """Inputs in one machine of each, until one of them ends."""

    def __init__(
        self,
        wire: Wire,
        seeds: Sequence[int],
        inputs: Sequence[Input],
        simulator: Backend,
        real: Backend | None,
        kinds: set[str],
    ) -> None:
        self._wire, self._seeds, self._inputs = wire, seeds, inputs
        self._simulator, self._real, self._kinds = simulator, real, kinds

    def results(self) -> list[Compared]:
        """One or more, of the first inputs."""
        played = on_simulator(self._simulator, self._wire, self._inputs)
        ours = played.answers
        found = list(self._compared(ours) if self._real else map(self._judged, range(len(ours)), ours))
        if played.ended and len(found) == len(ours):
            found.append(self._wrong(len(ours), played.ended))
        return found

    def _judged(self, index: int, ours: Answer) -> Compared:
        return self._wrong(index, ours.complaint) if ours.complaint else Compared(JUDGED)

    def _wrong(self, index: int, why: str) -> Compared:
        def wrong_of(candidates: Sequence[Input]) -> Iterator[Finding | None]:
            """Up to one that an exception comes of, the first of which is the smallest."""
            played = on_simulator(self._simulator, self._wire, candidates)
            said = [answer.complaint for answer in played.answers] + [played.ended]
            for candidate, words in zip(candidates, said, strict=False):
                yield self._finding(WRONG, index, words, "", candidate) if words else None

        return Compared(WRONG, self._shrunk(self._finding(WRONG, index, why, ""), wrong_of))

    def _shrunk(self, finding: Finding, verdicts: Verdicts) -> Finding:
        """The first of its kind here; one is enough to look at."""
        if finding.kind in self._kinds:
            return finding
        self._kinds.add(finding.kind)
        return shrunk(finding, verdicts)

    # -- beside a real QEMU
    def _compared(self, ours: Sequence[Answer]) -> Iterator[Compared]:
        """Up to the input at which QEMU ended."""
        asked = [index for index, answer in enumerate(ours) if not answer.foretells_end]
        theirs = self._ask(asked, ours)
        answers = iter(theirs.answers)
        is_foretold_asked = False
        for index, our in enumerate(ours):
            if our.foretells_end:
                yield Compared(FORETOLD) if is_foretold_asked else self._foretold(index, our)
                is_foretold_asked = True
                continue
            their = next(answers, None)
            if our.complaint:
                yield self._wrong(index, our.complaint)
            elif their is None:
                yield self._ended(index, ours, theirs.ended)
            elif self._is_equal(our, their):
                yield Compared(EQUAL)
            else:
                yield self._looked_at_closely(index, our, their)
            if their is None:
                return

    def _ask(self, asked: Sequence[int], ours: Sequence[Answer]) -> Played:
        assert self._real is not None
        inputs, expected = [self._inputs[index] for index in asked], [ours[index] for index in asked]
        return on_real(self._real, self._wire, inputs, expected)

    def _is_equal(self, our: Answer, their: Answer) -> bool:
        return self._wire.comparable(our.whole) == self._wire.comparable(their.whole)

    def _foretold(self, index: int, our: Answer) -> Compared:
        """One of many is asked, in a machine of its own."""
        theirs = self._ask([index], {index: our})  # type: ignore[arg-type]
        outcome = DIED if theirs.ended else UNEQUAL
        said = theirs.ended or "goes on"
        return Compared(outcome, self._finding(outcome, index, "QEMU dies here", said))

    def _finding(
        self, outcome: str, index: int, ours: str, theirs: str, shown: Input | None = None
    ) -> Finding:
        return Finding(outcome, self._seeds[index], shown or self._inputs[index], ours, theirs)

    def _ended(self, index: int, ours: Sequence[Answer], how: str) -> Compared:
        """An end takes its time, and may show only when the next is asked."""
        outcome = HUNG if how.startswith("hung") else DIED
        if index and outcome == DIED and not self._ask([index], ours).ended:
            index -= bool(self._ask([index - 1], ours).ended)
        return Compared(outcome, self._finding(outcome, index, told(ours[index].whole), how))

    def _looked_at_closely(self, index: int, our: Answer, their: Answer) -> Compared:
        """Alone, in machines of its own, and then with all that was before it; not where one of the kind has
        been looked at."""
        finding = self._unlike(index, self._inputs[index], our, their)
        if finding.kind in self._kinds:
            return Compared(UNEQUAL, finding)
        for first in sorted({index, 0}, reverse=True):
            answers = [self._last(self._inputs[first : index + 1]) for _ in range(_TAKES)]
            if any(self._is_equal(our, their) for our, their in answers):
                continue
            if len({self._wire.comparable(their.whole) for _, their in answers}) > 1:
                return Compared(UNSURE)
            finding = self._unlike(index, self._inputs[index], *answers[0])
            if first != index:
                return Compared(UNEQUAL, finding._replace(seed=self._seeds[first]))
            return Compared(UNEQUAL, self._shrunk(finding, lambda some: self._all_unlike(index, some)))
        return Compared(EQUAL)

    def _last(self, inputs: Sequence[Input]) -> tuple[Answer, Answer]:
        """Both answers to the last of them; an end instead of an answer is one."""
        assert self._real is not None
        ours = on_simulator(self._simulator, self._wire, inputs).answers
        theirs = on_real(self._real, self._wire, inputs, ours)
        return ours[-1], theirs.answers[-1] if len(theirs.answers) == len(ours) else Answer(
            (theirs.ended.encode(),)
        )

    def _unlike(self, index: int, shown: Input, our: Answer, their: Answer) -> Finding:
        one, other = parted(self._wire.comparable(our.whole), self._wire.comparable(their.whole))
        return self._finding(UNEQUAL, index, told(one), told(other), shown)

    def _all_unlike(self, index: int, candidates: Sequence[Input]) -> Iterator[Finding | None]:
        assert self._real is not None
        ours = on_simulator(self._simulator, self._wire, candidates).answers
        theirs = on_real(self._real, self._wire, candidates, ours).answers
        for shown, our, their in zip(candidates, ours, theirs, strict=False):
            yield None if self._is_equal(our, their) else self._unlike(index, shown, our, their)


def parted(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    """Of lines, the first that differ; else from a little before the first byte that does."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    if not one.endswith(_LINE_END):
        start = max(0, same - _SHOWN_BEFORE)
        return one[start:], other[start:]
    start = one.rfind(b"\n", 0, same) + 1
    return one[start:].partition(_LINE_END)[0], other[start:].partition(_LINE_END)[0]


def told(answer: bytes) -> str:
    return repr(answer[:_SHOWN_BYTES])[2:-1] + ("..." if len(answer) > _SHOWN_BYTES else "")


# -- the shortest


def shrunk(finding: Finding, verdicts: Verdicts) -> Finding:
    """The finding with as few parts, and as few bytes in each, as show the same kind of one. `verdicts` gives
    one for each candidate."""
    for _ in range(_MOST_ROUNDS):
        candidates = _smaller(finding.shown)
        smaller = None
        while smaller is None and (some := list(islice(candidates, _ASKED_AT_ONCE))):
            alike = (each for each in verdicts(some) if each is not None and each.kind == finding.kind)
            smaller = min(alike, key=lambda each: len(each.shown.payload), default=None)
        if smaller is None:
            break
        finding = smaller
    return finding


def _smaller(shown: Input) -> Iterator[Input]:
    """Without a run of its parts; then with less of a part."""
    parts = shown.parts
    length = len(parts)
    while length:
        for start in range(0, len(parts) - length + 1, length):
            yield shown._replace(parts=parts[:start] + parts[start + length :])
        length //= 2
    for index, part in enumerate(parts):
        length = len(part) // 2
        while length:
            for fewer in (part[length:], part[:-length]):
                yield shown._replace(parts=(*parts[:index], fewer, *parts[index + 1 :]))
            length //= 2
    if shown.cut_bytes:
        yield shown._replace(cut_bytes=0)
