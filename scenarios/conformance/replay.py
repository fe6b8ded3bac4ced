"""`goldenfleece replay-sessions`: recorded sessions on a backend, compared with what its version answered."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from scenarios.backends.interface import Backend, DeadlinePassed, SetupError
from scenarios.backends.registry import open_backend
from scenarios.conformance import recording
from scenarios.conformance.compare import Difference, differences
from scenarios.conformance.play import play
from scenarios.conformance.recording import RECORDED
from scenarios.conformance.session import SESSIONS, SessionSource, load_all
from scenarios.gate.known import entry_for_session

NOT_YET = RECORDED / "not_yet.txt"


class Replayed(NamedTuple):
    """`steps` were recorded; those that differ are in `differences`, and `known` names the entry of
    ci/known_differences.toml that covers them."""

    backend: str
    session: str
    steps: int
    differences: list[Difference]
    known: str = ""


class Totals:
    """How many sessions and steps there are, and are equal."""

    def __init__(self) -> None:
        self.sessions = self.unequal = self.known = self.steps = self.unequal_steps = 0

    def add(self, replayed: Replayed) -> None:
        self.sessions += 1
        self.steps += replayed.steps
        if replayed.known:
            self.known += 1
        elif replayed.differences:
            self.unequal += 1
            self.unequal_steps += len(replayed.differences)

    def __str__(self) -> str:
        equal = self.sessions - self.unequal - self.known
        known = f" and {self.known} known" if self.known else ""
        steps = self.steps - self.unequal_steps
        return f"{equal} of {self.sessions} sessions equal{known}, {steps} of {self.steps} steps"


def main(argv: Sequence[str]) -> int:
    """0: every step is equal; 1: some are not; 2: usage, a backend that cannot play, or nothing recorded."""
    options = _parser().parse_args(argv)
    backends = options.backend or [f"sim:{version}" for version in recorded_versions(options.directory)]
    cases = [
        (name, source, options.directory)
        for name in backends
        for source in load_all(options.sessions)
        if options.only in source.name
    ]
    totals = {name: Totals() for name in backends}
    with ProcessPoolExecutor(options.jobs) as pool:
        for replayed in pool.map(_replay, cases, chunksize=4):
            if replayed is None:
                continue
            totals[replayed.backend].add(replayed)
            if not replayed.known:
                _tell(replayed, options)
    for name, total in totals.items():
        if not total.sessions:
            raise SetupError(f"{name}: no session was recorded from its version, in {options.directory}")
        print(f"{name}: {total}")
    return int(any(total.unequal for total in totals.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goldenfleece replay-sessions",
        description="Play recorded sessions again and compare what a machine answers with what was recorded.",
    )
    parser.add_argument("--backend", action="append", metavar="NAME", help="default: sim: of each version")
    parser.add_argument("--sessions", type=Path, default=SESSIONS, help="a file or folder of sessions")
    parser.add_argument("--directory", type=Path, default=RECORDED, help="where VERSION/ was recorded")
    parser.add_argument("--only", default="", metavar="WORD", help="sessions whose name has that word")
    parser.add_argument("--all", action="store_true", help="every step that differs, not the first of each")
    parser.add_argument("--list", action="store_true", help="only the names of sessions that differ")
    parser.add_argument("-j", type=int, dest="jobs", default=os.cpu_count() or 1, help="how many at once")
    return parser


def _tell(replayed: Replayed, options: argparse.Namespace) -> None:
    if options.list:
        if replayed.differences:
            print(line_of(replayed.backend, replayed.session))
        return
    for difference in replayed.differences if options.all else replayed.differences[:1]:
        print(f"{replayed.backend}: {difference}")


def line_of(backend: str, session: str) -> str:
    """As in the list of what does not hold yet: "7.2 json/numbers"."""
    return f"{backend.partition(':')[2]} {session}"


def recorded_versions(directory: Path = RECORDED) -> list[str]:
    """Oldest first."""
    return sorted(recording.versions(directory), key=recording.version_key)


def replay(source: SessionSource, backend: Backend, directory: Path = RECORDED) -> Replayed | None:
    """None where the session was not recorded from the backend's version. Raises SetupError."""
    recorded = recording.load(source.name, backend.version, directory)
    if recorded is None:
        return None
    if recorded.digest != source.digest:
        raise SetupError(
            f"{source.name} has changed since it was recorded from {backend.version}."
            f" Run: goldenfleece record-sessions --new --backend NAME"
        )
    try:
        observed = play(source, backend)
    except DeadlinePassed as error:
        observed = [[{"failed": str(error)}]]
    found = differences(recorded, observed)
    entry = entry_for_session(source.name, backend.version) if found and not _is_real(backend) else None
    return Replayed(backend.name, source.name, len(recorded.steps), found, entry.id if entry else "")


def _is_real(backend: Backend) -> bool:
    return "real" in backend.probe()[0]


def _replay(case: tuple[str, SessionSource, Path]) -> Replayed | None:
    name, source, directory = case
    return replay(source, opened(name), directory)


def not_yet(path: Path = NOT_YET) -> Iterator[str]:
    """The sessions, as `line_of`, in which the simulator does not answer to the word yet."""
    yield from path.read_text().splitlines()


_backends: dict[str, Backend] = {}


def opened(name: str) -> Backend:
    """Opened and probed once for each process."""
    if name not in _backends:
        backend = open_backend(name)
        backend.probe()
        _backends[name] = backend
    return _backends[name]
