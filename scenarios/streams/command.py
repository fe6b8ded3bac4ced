"""`goldenfleece fuzz-streams`: inputs that no client would say, on the simulator and beside a real QEMU."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from scenarios.backends.interface import SetupError
from scenarios.conformance.replay import opened
from scenarios.streams.compare import UNEQUAL, WRONG, Compared, Finding, compare
from scenarios.streams.interface import Wire
from scenarios.streams.nbd import NbdWire
from scenarios.streams.qmp import QmpWire

# So many share a machine. A chunk begins at a multiple of it, so that a seed has the same ones before it.
CHUNK = 1000
_DEFAULT_VERSION = "7.2"
_MOST_SEEDS = 8
WIRES = ("qmp", "nbd")


def main(argv: Sequence[str]) -> int:
    """0: nothing; 1: the simulator is wrong, or unlike QEMU; 2: usage, or a backend that cannot play."""
    options = _parser().parse_args(argv)
    if options.count < 1 or options.seed < 0:
        raise SetupError("expected --count of 1 or more and --seed of 0 or more")
    simulator = options.simulator
    if options.backend:
        real = opened(options.backend)
        if "real" not in real.probe()[0]:
            raise SetupError(f"{options.backend} is no real QEMU: a simulator proves nothing about another")
        simulator = simulator or f"sim:{real.version}"
    options.simulator = simulator or f"sim:{_DEFAULT_VERSION}"
    if "real" in opened(options.simulator).probe()[0]:
        raise SetupError(f"--simulator {options.simulator}: expected sim:VERSION")
    counts: Counter[str] = Counter()
    found: dict[str, list[Finding]] = defaultdict(list)
    for compared in _all(options):
        counts[compared.outcome] += 1
        if compared.finding is not None:
            if compared.finding.kind not in found:
                print(_told(compared.finding, options), flush=True)
            found[compared.finding.kind].append(compared.finding)
    for kind, alike in sorted(found.items(), key=lambda item: -len(item[1])):
        seeds = ", ".join(str(each.seed) for each in alike[:_MOST_SEEDS])
        print(f"{len(alike):>5} x {kind}: {seeds}{', ...' if len(alike) > _MOST_SEEDS else ''}")
    where = " and ".join(filter(None, (options.simulator, options.backend)))
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{counts.total()} inputs of {options.wire} on {where}: {told}")
    return int(bool(counts[WRONG] or counts[UNEQUAL]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goldenfleece fuzz-streams",
        description="Give what is drawn from numbers to a monitor or an NBD server, and judge its answers.",
    )
    parser.add_argument("--wire", choices=WIRES, required=True)
    parser.add_argument("--count", type=int, default=10_000, help="how many inputs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first; the others follow it")
    parser.add_argument("--backend", metavar="NAME", help="a real QEMU to compare with")
    parser.add_argument(
        "--simulator", metavar="sim:VERSION", help=f"default: of its version, or {_DEFAULT_VERSION}"
    )
    parser.add_argument("-j", type=int, dest="jobs", default=os.cpu_count() or 1, help="how many at once")
    return parser


def wire_of(name: str, chunk: int) -> Wire:
    """Every eighth machine's monitor is not negotiated with."""
    return NbdWire() if name == "nbd" else QmpWire(negotiates=chunk % 8 != 7)


def _all(options: argparse.Namespace) -> Iterator[Compared]:
    """As they are finished, with a line of progress on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(file=sys.stderr)
    end = options.seed + options.count
    starts = [options.seed, *range(options.seed - options.seed % CHUNK + CHUNK, end, CHUNK)]
    with ProcessPoolExecutor(options.jobs) as pool:
        running = [
            pool.submit(_chunk, options.wire, options.simulator, options.backend, range(start, stop))
            for start, stop in zip(starts, [*starts[1:], end], strict=True)
        ]
        finished = as_completed(running)
        if console.is_terminal:
            finished = iter(track(finished, "inputs", len(running), console=console, transient=True))
        for done in finished:
            yield from done.result()


_kinds: set[str] = set()  # of findings of this process


def _chunk(wire: str, simulator: str, backend: str | None, seeds: range) -> list[Compared]:
    real = opened(backend) if backend else None
    return compare(wire_of(wire, seeds.start // CHUNK), seeds, opened(simulator), real, _kinds)


def _told(finding: Finding, options: argparse.Namespace) -> str:
    again = f"goldenfleece fuzz-streams --wire {options.wire} --simulator {options.simulator}"
    again += f" --backend {options.backend}" if options.backend else ""
    lines = [
        f"{finding.outcome}: {' '.join(repr(part)[2:-1] for part in finding.shown.parts)}",
        f"  handed over {finding.shown.cut_bytes} bytes at once" if finding.shown.cut_bytes else "",
        f"  simulator: {finding.ours}",
        f"  QEMU:      {finding.theirs}" if finding.theirs else "",
        f"  {again} --seed {finding.seed} --count 1",
    ]
    return "\n".join(filter(None, lines))
