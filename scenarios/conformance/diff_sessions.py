"""`goldenfleece diff-sessions`: sessions that nobody wrote, on the simulator and on a real QEMU."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from scenarios.backends.interface import Backend, DeadlinePassed, SetupError
from scenarios.conformance.compare import Difference, differences
from scenarios.conformance.drawn import draw
from scenarios.conformance.play import QUIET_NS, Pace, play
from scenarios.conformance.recording import Recording, Take, merge
from scenarios.conformance.replay import opened
from scenarios.conformance.session import SessionSource, cut_to, written
from scenarios.gate.known import entry_for_kind

# Most answers are equal when they are first looked at; only others are waited for at length.
_FIRST_QUIET_NS = 6_000_000
# How often a real QEMU is asked again before an answer counts as unlike: what varies is not unlike.
_TAKES = 4
# The same where the order differs or varies: jobs race with each other and with the reply.
_TAKES_OF_AN_ORDER = 16
_MOST_PLAYS_TO_SHRINK = 40
# A session in which QEMU does not answer takes long each time.
_MOST_SECONDS_TO_SHRINK = 60
# How late a job of a real QEMU may be on a busy host: what it takes to start, and after each wait.
_LAGS_NS = range(0, 70_000_000, 10_000_000)
_CHUNK = 8
_STARTS_JOBS = frozenset(
    (
        "block-commit",
        "block-stream",
        "blockdev-backup",
        "blockdev-create",
        "blockdev-mirror",
        "drive-backup",
        "drive-mirror",
        "transaction",
        "x-blockdev-amend",
    )
)
# Ends that vary are told as a list of them.
_ENDED_BY_SIGNAL = re.compile(r'"ended": (\{"\$varies": \[)?-')
_NAMES_IN_WORDS = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9]+")

EQUAL, UNEQUAL, DIED, UNSURE, KNOWN = "equal", "unequal", "died", "unsure", "known"


class Compared(NamedTuple):
    """`outcome`: EQUAL; UNEQUAL: `difference` is the first, `session` the fewest steps that show one there;
    DIED: the same where QEMU answers equally until it ends by a signal; UNSURE: QEMU itself ends now here,
    now there, or all that differs is a reply's place among the events of the jobs it starts; KNOWN: unequal
    or dead by a defect of QEMU that is `known` in ci/known_differences.toml."""

    seed: int
    outcome: str
    steps: int
    difference: Difference | None = None
    session: str = ""
    known: str = ""

    @property
    def kind(self) -> str:
        """Of what is unlike: the same for differences that are likely to have one cause."""
        if self.difference is None or self.known:
            return f"{self.outcome}: {self.known}".removesuffix(": ")
        command = _command(self.difference)
        return f"{self.outcome}: {command}: {_NAMES_IN_WORDS.sub('*', self.difference.where)}"


def main(argv: Sequence[str]) -> int:
    """0: every answer is equal; 1: some are not; 2: usage, or a backend that cannot play."""
    options = _parser().parse_args(argv)
    if len(options.backend) != 2 or "real" in opened(options.backend[0]).probe()[0]:
        raise SetupError("expected --backend twice: the simulator, and what it is compared with")
    if "real" not in opened(options.backend[1]).probe()[0]:
        raise SetupError(f"{options.backend[1]} is no real QEMU: a simulator proves nothing about another")
    first, last = _seeds(options.seeds)
    found: dict[str, list[Compared]] = defaultdict(list)
    counts: Counter[str] = Counter()
    steps = 0
    for compared in _all(options, range(first, last)):
        counts[compared.outcome] += 1
        steps += compared.steps
        if compared.outcome == EQUAL:
            continue
        if compared.difference is not None and not compared.known and compared.kind not in found:
            print(_told(compared), flush=True)
        found[compared.kind].append(compared)
    for kind, alike in sorted(found.items(), key=lambda item: -len(item[1])):
        seeds = ", ".join(str(each.seed) for each in alike[:8])
        print(f"{len(alike):>5} x {kind}: {seeds}{', ...' if len(alike) > 8 else ''}")
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (EQUAL, KNOWN, UNEQUAL, DIED, UNSURE))
    print(f"{last - first} sessions, {steps} steps on {' and '.join(options.backend)}: {told}")
    return int(bool(counts[UNEQUAL]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goldenfleece diff-sessions",
        description="Play sessions that are drawn from numbers on two backends, tell where answers differ.",
    )
    parser.add_argument("--backend", action="append", default=[], metavar="NAME", help="given twice")
    parser.add_argument(
        "--seeds", default="0..100", metavar="FIRST..LAST", help="which sessions; LAST is not"
    )
    parser.add_argument("-j", type=int, dest="jobs", default=os.cpu_count() or 1, help="how many at once")
    return parser


def _seeds(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"([0-9]+)\.\.([0-9]+)", text)
    if not numbers or int(numbers[1]) >= int(numbers[2]):
        raise SetupError(f"--seeds: expected FIRST..LAST such as 0..100, got {text!r}")
    return int(numbers[1]), int(numbers[2])


def _all(options: argparse.Namespace, seeds: range) -> Iterator[Compared]:
    """As they are finished, with a line of progress on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(file=sys.stderr)
    with ProcessPoolExecutor(options.jobs) as pool:
        chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
        running = [pool.submit(_compare_all, options.backend, chunk) for chunk in chunks]
        finished = as_completed(running)
        if console.is_terminal:
            finished = iter(track(finished, "sessions", len(running), console=console, transient=True))
        for done in finished:
            yield from done.result()


def _told(compared: Compared) -> str:
    return f"{compared.kind}\n{compared.difference}\n{compared.session}"


# -- one session


def _compare_all(backends: Sequence[str], seeds: range) -> list[Compared]:
    simulator, real = backends
    return [compare(draw(seed), seed, opened(simulator), opened(real)) for seed in seeds]


def compare(source: SessionSource, seed: int, simulator: Backend, real: Backend) -> Compared:
    """Raises SetupError."""
    ours = _play(source, simulator, QUIET_NS)
    theirs = _play(source, real, _FIRST_QUIET_NS, ours)
    steps = len(source.steps)
    if not differences(merge(source, "", [theirs]), ours):
        return Compared(seed, EQUAL, steps)
    difference = _asked_again(source, ours, simulator, real, _TAKES)
    if isinstance(difference, str):
        return Compared(seed, difference, steps)
    smaller, difference = _shrunk(source, difference, simulator, real)
    outcome = DIED if _died(difference) else UNEQUAL
    found = Compared(seed, outcome, steps, difference, written(smaller, str(seed)))
    entry = entry_for_kind(found.kind, found.session, real.version)
    return found if entry is None else found._replace(outcome=KNOWN, known=entry.id)


def _play(
    source: SessionSource,
    backend: Backend,
    quiet_ns: int,
    foreseen: Take | None = None,
    pace: Pace | None = None,
) -> Take:
    try:
        return play(source, backend, quiet_ns, foreseen, pace)
    except DeadlinePassed as error:
        return [[{"failed": str(error)}]]


def _asked_again(
    source: SessionSource, ours: Take, simulator: Backend, real: Backend, takes: int
) -> Difference | str:
    """Jobs have timers, and what a command finds a job at goes by how long the steps before took. So what is
    unlike is looked at once more, each take beside the simulator at that take's own pace."""
    paces = [Pace() for _ in range(takes)]
    theirs = [_play(source, real, QUIET_NS, ours, pace) for pace in paces]
    if all(_is_same_at(pace, source, simulator, take) for pace, take in zip(paces, theirs, strict=True)):
        return EQUAL
    while _varies(found := _unlike(source, ours, theirs)) and len(theirs) < _TAKES_OF_AN_ORDER:
        theirs.append(_play(source, real, QUIET_NS, ours))
    return found


def _is_same_at(pace: Pace, source: SessionSource, simulator: Backend, take: Take) -> bool:
    for pace.lag_ns in _LAGS_NS:
        if not differences(merge(source, "", [take]), _play(source, simulator, QUIET_NS, None, pace)):
            return True
    return False


def _varies(found: Difference | str) -> bool:
    """Whether more takes may show what has not come yet: another order, or another of several outcomes."""
    return _is_of_order(found) or (
        isinstance(found, Difference) and found.wanted[0].startswith("in any order")
    )


def _is_of_order(found: Difference | str) -> bool:
    return isinstance(found, Difference) and sorted(found.wanted) == sorted(found.got)


def _unlike(source: SessionSource, ours: Take, theirs: Sequence[Take]) -> Difference | str:
    """What differs from all that QEMU says; EQUAL, or UNSURE where nobody can tell."""
    if len({len(take) for take in theirs}) != 1:
        return UNSURE
    recording = merge(source, "", theirs)
    return first_that_counts(recording, ours) or (UNSURE if differences(recording, ours) else EQUAL)


def first_that_counts(recording: Recording, ours: Take) -> Difference | None:
    counted = (each for each in differences(recording, ours) if not _is_of_reply(each))
    return next(counted, None)


def _is_of_reply(difference: Difference) -> bool:
    """Whether only the reply to a command that starts jobs has another place among their events.

    A job begins to run before the command returns, and what it waits for, such as the host's threads, races
    with the reply: on a host that is busy enough one of the two is first every time."""
    if _command(difference) not in _STARTS_JOBS or not _is_of_order(difference):
        return False
    wanted, got = ([line for line in lines if not line.startswith('{"return"')] for lines in difference[-2:])
    return wanted == got and len(wanted) < len(difference.wanted)


def _died(difference: Difference) -> bool:
    return any(_ENDED_BY_SIGNAL.search(line) for line in difference.wanted)


def _command(difference: Difference) -> str:
    """What was said: a command's name, or the verb and what it does."""
    name = re.match(r'\{"execute": "([^"]+)"|(\w+)', difference.said)
    assert name is not None
    return name[1] or name[2]


def _shrunk(
    source: SessionSource, difference: Difference, simulator: Backend, real: Backend
) -> tuple[SessionSource, Difference]:
    """As few of the steps as show a difference at the same command, and which."""
    kept = list(source.steps)[: difference.step]
    plays, index = 0, len(kept) - 2
    until = time.monotonic() + _MOST_SECONDS_TO_SHRINK
    while index >= 0 and plays < _MOST_PLAYS_TO_SHRINK and time.monotonic() < until:
        fewer = cut_to(source, kept[:index] + kept[index + 1 :])
        found = _asked_again(fewer, _play(fewer, simulator, QUIET_NS), simulator, real, 2)
        plays += 1
        if isinstance(found, Difference) and _is_same(found, difference):
            kept, difference = list(fewer.steps)[: found.step], found
            index = min(index, len(kept) - 1)
        index -= 1
    return cut_to(source, kept), difference


def _is_same(one: Difference, other: Difference) -> bool:
    return _command(one) == _command(other) and _died(one) == _died(other)
