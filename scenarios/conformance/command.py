"""`goldenfleece record-sessions`: what a real version answers in each session, and what of it varies."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from scenarios.backends.interface import SetupError
from scenarios.backends.registry import open_backend
from scenarios.conformance import compare, recording
from scenarios.conformance.play import play
from scenarios.conformance.recording import RECORDED, Take
from scenarios.conformance.replay import opened
from scenarios.conformance.session import SESSIONS, SessionSource, load_all

TAKES = 3
_MOST_TAKES = 12


class _Order(NamedTuple):
    backend: str
    source: SessionSource
    takes: int
    directory: Path
    before: str | None


def main(argv: Sequence[str]) -> int:
    """0: recorded; 1: some sessions could not be; 2: usage, or a backend that is no real QEMU."""
    options = _parser().parse_args(argv)
    backend = open_backend(options.backend)
    if "real" not in backend.probe()[0]:
        raise SetupError(f"{options.backend} is no real QEMU: only real binaries are recorded")
    chosen = [source for source in load_all(options.sessions) if _is_wanted(source, options, backend.version)]
    before = _before(backend.version, options.directory)
    orders = [_Order(options.backend, source, options.takes, options.directory, before) for source in chosen]
    failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for order, said in zip(orders, pool.map(_record, orders), strict=True):
            failed += said.startswith("!")
            print(f"{order.source.name}: {said}", file=sys.stderr if said.startswith("!") else sys.stdout)
    print(f"{len(orders) - failed} sessions recorded from {options.backend}, {backend.version}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goldenfleece record-sessions",
        description="Play the sessions of scenarios/sessions/ on a real QEMU and keep what it answers.",
    )
    parser.add_argument("--backend", required=True, metavar="NAME", help="qemu[:PATH] or chroot:SUITE")
    parser.add_argument("--sessions", type=Path, default=SESSIONS, help="a file or folder of sessions")
    parser.add_argument("--directory", type=Path, default=RECORDED, help="where to put VERSION/")
    parser.add_argument("--only", default="", metavar="WORD", help="sessions whose name has that word")
    parser.add_argument("--new", action="store_true", help="only sessions that are new or were changed")
    parser.add_argument("--takes", type=int, default=TAKES, help=f"how often, at least (default {TAKES})")
    parser.add_argument("-j", type=int, dest="jobs", default=os.cpu_count() or 1, help="how many at once")
    return parser


def _is_wanted(source: SessionSource, options: argparse.Namespace, version: str) -> bool:
    if options.only not in source.name:
        return False
    if not options.new:
        return True
    there = recording.load(source.name, version, options.directory)
    return there is None or there.digest != source.digest


def _before(version: str, directory: Path) -> str | None:
    """The newest recorded version before this one: most answers are its."""
    key = recording.version_key
    older = [name for name in recording.versions(directory) if key(name) < key(version)]
    return max(older, key=key) if older else None


def _record(order: _Order) -> str:
    """What came of it; "!" in front if it could not be recorded."""
    try:
        backend = opened(order.backend)
        takes: list[Take] = [play(order.source, backend) for _ in range(order.takes)]
        made = recording.merge(order.source, _full_version(takes[0]), takes)
        while len(takes) < _MOST_TAKES and compare.spread(made):
            # What varies is seen more of in more takes: two in a row must show nothing new.
            more = [play(order.source, backend) for _ in range(2)]
            new = any(compare.differences(made, take) for take in more)
            takes += more
            made = recording.merge(order.source, _full_version(takes[0]), takes)
            if not new:
                break
        path = recording.save(made, backend.version, order.before, order.directory)
    except SetupError as error:
        return f"! {error}"
    varies = ", varies" if compare.spread(made) else ""
    return f"{len(takes)} takes{varies}, {path.stat().st_size} bytes"


def _full_version(take: Take) -> str:
    qemu = take[0][0]["QMP"]["version"]["qemu"]
    return f"{qemu['major']}.{qemu['minor']}.{qemu['micro']}"
