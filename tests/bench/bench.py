"""Each figure beside its peer, in one run, in turn: `tox -e bench`, or `python tests/bench/bench.py [--json
FILE]`.

Exit status 0: every row reaches its floor; 1: one falls short; 2: a program that is needed is missing.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from simulator.serve.emulator import write_emulator
from tests.bench import nbd_copies, peers, qemu_test

# What every run is held to on a machine that does nothing else; see the goals for what is aimed at.
OVERLAY_FLOOR = 10.0
FILTER_FLOOR = 10.0
COLD_FLOOR = 6.0
ROUND_TRIP_FLOOR = 2.0
START_FLOOR = 0.5
NBDCOPY_FLOOR = 0.3
WHOLE_TEST_FLOOR = 1.5
INSIDE_TEST_FLOOR = 3.0


class Row(msgspec.Struct):
    """`ratio` is how many times faster ours is than the peer (medians of pairs); below 1 ours is slower.

    `floor` is what every run must reach; `goal` what is aimed at beyond it, 0 for nothing.
    """

    what: str
    ours_us: float
    peer_us: float
    ratio: float
    lowest: float
    highest: float
    floor: float
    peer: str
    goal: float = 0

    @property
    def holds(self) -> bool:
        return self.ratio >= self.floor


def compare(
    what: str,
    peer: str,
    floor: float,
    ours: Callable[[], None],
    theirs: Callable[[], float | None],
    pairs: int,
    goal: float = 0,
    batch: int = 1,
) -> Row:
    """Run both in turn after a warm-up; each pair gives one ratio. A peer that returns seconds has timed
    itself.

    `batch` runs of one side follow each other before it is the other's turn: what is meant to run by the
    thousand is not timed with the caches as another process left them. Times are of one run.
    """

    def timed(run: Callable[[], float | None]) -> float:
        said: list[float | None] = []

        def run_batch() -> None:
            said.extend(run() for _ in range(batch))

        took = peers.timed(run_batch)
        return (sum(filter(None, said)) or took) / batch

    ours()
    theirs()
    times = [(timed(ours), timed(theirs)) for _ in range(pairs)]
    ratios = sorted(their / our for our, their in times)
    return Row(
        what=what,
        peer=peer,
        ours_us=statistics.median(our for our, _ in times) * 1e6,
        peer_us=statistics.median(their for _, their in times) * 1e6,
        ratio=statistics.median(ratios),
        lowest=ratios[len(ratios) // 10],
        highest=ratios[-1 - len(ratios) // 10],
        floor=floor,
        goal=goal,
    )


def _started(argv: list[str], directory: Path) -> Callable[[], None]:
    return lambda: peers.Real(argv, directory).close()


def _cold_cycle(argv: list[str], directory: Path) -> Callable[[], None]:
    def run() -> None:
        program = peers.Real(argv, directory)
        try:
            for options in peers.disk_nodes(str(directory)):
                program.command("blockdev-add", options)
            program.run(peers.overlay_cycle(str(directory)))
        finally:
            program.close()

    return run


def _simulated_cold() -> None:
    peers.Simulated().run(peers.overlay_cycle(""))


def measure(directory: Path, pairs: int, qemu_source: Path | None) -> list[Row]:
    system, daemon = shutil.which("qemu-system-x86_64"), shutil.which("qemu-storage-daemon")
    if system is None or daemon is None:
        raise FileNotFoundError(
            "qemu-system-x86_64 and qemu-storage-daemon: apt-get install qemu-system-x86 qemu-utils"
        )
    emulator = directory / "emulator"
    write_emulator(str(emulator), "7.2")
    peers.make_disks(directory)
    few = max(5, pairs // 5)
    return [
        *_warm_cycles(daemon, directory, pairs),
        *_cold_cycles(system, daemon, directory, few),
        _round_trips(str(emulator / "qemu-storage-daemon"), daemon, directory, pairs),
        compare(
            "executable, start to greeting",
            "qemu-system -M none",
            START_FLOOR,
            _started([str(emulator / "qemu-system-x86_64"), *_NO_MACHINE], directory),
            _started([system, *_NO_MACHINE], directory),
            few,
        ),
        *(
            _nbdcopy(str(emulator / "qemu-storage-daemon"), layout, directory, few)
            for layout in ("raw", "qcow2")
        ),
        *_image_fleecing(system, directory, qemu_source, few),
    ]


WARM_BATCH = 50  # cycles of one side in a row

_NO_MACHINE = ["-M", "none", "-nodefaults", "-display", "none", "-S"]


def _warm_cycles(daemon: str, directory: Path, pairs: int) -> list[Row]:
    """In this process, beside a storage daemon that has been started before."""
    simulated = peers.Simulated()
    warm = peers.Real([daemon], directory)
    rows = []
    try:
        for options in peers.disk_nodes(str(directory)):
            warm.command("blockdev-add", options)
        cycles = (
            ("overlay", OVERLAY_FLOOR, peers.overlay_cycle),
            ("filter", FILTER_FLOOR, peers.filter_cycle),
        )
        for name, floor, cycle in cycles:
            ours, theirs = cycle(""), cycle(str(directory))
            rows.append(
                compare(
                    f"fleecing cycle, {name}",
                    "warm storage daemon",
                    floor,
                    functools.partial(simulated.run, ours),
                    functools.partial(warm.run, theirs),
                    max(5, pairs // 10),
                    goal=20,
                    batch=WARM_BATCH,
                )
            )
    finally:
        warm.close()
    return rows


def _image_fleecing(system: str, directory: Path, qemu_source: Path | None, pairs: int) -> list[Row]:
    """The five cases of QEMU's own test, with 64 MiB read and compared in each, on the same emulator."""
    test = qemu_test.QemuTest(qemu_test.source(qemu_source), system, directory)
    whole = compare(
        "image-fleecing, whole command",
        "QEMU's own test, whole command",
        WHOLE_TEST_FLOOR,
        qemu_test.specs_command(system),
        test.run,
        pairs,
        goal=3,
    )
    inside = compare(
        "image-fleecing, once all is loaded",
        "QEMU's own test, once it is loaded",
        INSIDE_TEST_FLOOR,
        qemu_test.specs_inside(system),
        test.run_inside,
        pairs,
        goal=3,
    )
    qemu_test.end()
    return [whole, inside]


def _cold_cycles(system: str, daemon: str, directory: Path, pairs: int) -> list[Row]:
    """From nothing: a new machine for each cycle."""
    programs = (("cold storage daemon", [daemon]), ("cold qemu-system -M none", [system, *_NO_MACHINE]))
    return [
        compare(
            "fleecing cycle, cold", peer, COLD_FLOOR, _simulated_cold, _cold_cycle(argv, directory), pairs
        )
        for peer, argv in programs
    ]


def _round_trips(ours: str, theirs: str, directory: Path, pairs: int) -> Row:
    """Commands over a socket, one after the other's reply: what the executable adds to a command."""
    programs: list[peers.Real] = []
    try:
        for name, argv in (("ours", ours), ("theirs", theirs)):
            place = directory / name
            place.mkdir()
            programs.append(peers.Real([argv], place))

        def ask(program: peers.Real) -> None:
            for _ in range(_ROUND_TRIPS):
                program.command("query-jobs", {})

        simulated, real = programs
        row = compare(
            "QMP round trip over a socket",
            "storage daemon",
            ROUND_TRIP_FLOOR,
            functools.partial(ask, simulated),
            functools.partial(ask, real),
            pairs,
        )
    finally:
        for program in programs:
            program.close()
    row.ours_us /= _ROUND_TRIPS
    row.peer_us /= _ROUND_TRIPS
    return row


_ROUND_TRIPS = 20


def _nbdcopy(daemon: str, layout: str, directory: Path, pairs: int) -> Row:
    """A whole image read by a real client, from the executable and from qemu-nbd."""
    copies = nbd_copies.Copies(directory / f"copies-{layout}", layout, daemon)
    try:
        return compare(
            f"nbdcopy of {nbd_copies.IMAGE_BYTES >> 20} MiB of {layout}",
            "qemu-nbd",
            NBDCOPY_FLOOR,
            copies.from_ours,
            copies.from_qemu_nbd,
            pairs,
            goal=0.5,
        )
    finally:
        copies.close()


def _verdict(row: Row) -> str:
    if not row.holds:
        return "[red]falls short[/]"
    return "[green]holds[/]" if row.ratio >= row.goal else "[yellow]short of the goal[/]"


def show(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("what", "ours (us)", "peer (us)", "faster", "10 % .. 90 %", "floor", "goal", "verdict", "peer")
    table = Table(*columns)
    for row in rows:
        verdict = _verdict(row)
        figures = (f"{row.ours_us:.0f}", f"{row.peer_us:.0f}", f"{row.ratio:.2f}x")
        spread = f"{row.lowest:.2f} .. {row.highest:.2f}"
        limits = (f"{row.floor:g}x", f"{row.goal:g}x" if row.goal else "")
        table.add_row(row.what, *figures, spread, *limits, verdict, row.peer)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="benchmarks, each beside its peer")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    parser.add_argument(
        "--qemu-source",
        type=Path,
        metavar="DIRECTORY",
        help="QEMU's unpacked source, for its image-fleecing test (default: that of the installed package, "
        "fetched once into the cache)",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=100,
        help="pairs of each row (batches of the warm cycles: a tenth; what starts programs: a fifth)",
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="goldenfleece-bench-") as name:
        try:
            rows = measure(Path(name), arguments.pairs, arguments.qemu_source)
        except (FileNotFoundError, qemu_test.MissingError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
    show(rows)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(msgspec.to_builtins(rows), indent=2) + "\n")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
