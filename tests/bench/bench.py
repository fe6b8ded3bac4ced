"""Each figure beside its peer, in one run, in turn: `tox -e bench`, or `python tests/bench/bench.py [--json
FILE]`.

Exit status 0: every row reaches its floor; 1: one falls short; 2: a program that is needed is missing.
"""

from __future__ import annotations

import argparse
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
from tests.bench import peers


class Row(msgspec.Struct):
    """`ratio` is how many times faster ours is than the peer (medians of pairs); below 1 ours is slower."""

    what: str
    ours_us: float
    peer_us: float
    ratio: float
    lowest: float
    highest: float
    floor: float
    peer: str

    @property
    def holds(self) -> bool:
        return self.ratio >= self.floor


def compare(
    what: str, peer: str, floor: float, ours: Callable[[], None], theirs: Callable[[], None], pairs: int
) -> Row:
    """Run both in turn after a warm-up; each pair gives one ratio."""
    ours(), theirs()
    times = [(peers.timed(ours), peers.timed(theirs)) for _ in range(pairs)]
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
    )


def _started(argv: list[str], directory: Path) -> Callable[[], None]:
    return lambda: peers.Real(argv, directory).close()


def _cold_cycle(argv: list[str], directory: Path) -> Callable[[], None]:
    def run() -> None:
        program = peers.Real(argv, directory)
        try:
            for options in peers.disk_nodes(str(directory)):
                program.command("blockdev-add", options)
            program.run_cycle()
        finally:
            program.close()

    return run


def measure(directory: Path, pairs: int) -> list[Row]:
    system, daemon = shutil.which("qemu-system-x86_64"), shutil.which("qemu-storage-daemon")
    if system is None or daemon is None:
        raise FileNotFoundError(
            "qemu-system-x86_64 and qemu-storage-daemon: apt-get install qemu-system-x86 qemu-utils"
        )
    none = ["-M", "none", "-nodefaults", "-display", "none", "-S"]
    emulator = directory / "emulator"
    write_emulator(str(emulator), "7.2")
    peers.make_disks(directory)
    simulated = peers.Simulated()
    warm = peers.Real([daemon], directory)
    try:
        for options in peers.disk_nodes(str(directory)):
            warm.command("blockdev-add", options)
        rows = [
            compare("fleecing cycle", "warm storage daemon", 10, simulated.run_cycle, warm.run_cycle, pairs)
        ]
    finally:
        warm.close()
    few = max(5, pairs // 5)

    def simulated_cold() -> None:
        peers.Simulated().run_cycle()

    rows.append(
        compare(
            "fleecing cycle, cold",
            "cold storage daemon",
            1,
            simulated_cold,
            _cold_cycle([daemon], directory),
            few,
        )
    )
    rows.append(
        compare(
            "fleecing cycle, cold",
            "cold qemu-system -M none",
            1,
            simulated_cold,
            _cold_cycle([system, *none], directory),
            few,
        )
    )
    ours = _started([str(emulator / "qemu-system-x86_64"), *none], directory)
    rows.append(
        compare(
            "executable, start to greeting",
            "qemu-system -M none",
            0.25,
            ours,
            _started([system, *none], directory),
            few,
        )
    )
    return rows


def show(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "ours (us)", "peer (us)", "faster", "10 % .. 90 %", "floor", "verdict", "peer")
    for row in rows:
        verdict = "[green]holds[/]" if row.holds else "[red]falls short[/]"
        figures = (f"{row.ours_us:.0f}", f"{row.peer_us:.0f}", f"{row.ratio:.2f}x")
        table.add_row(
            row.what, *figures, f"{row.lowest:.2f} .. {row.highest:.2f}", f"{row.floor:g}x", verdict, row.peer
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="benchmarks, each beside its peer")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of the warm cycle (cold ones: a fifth)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="goldenfleece-bench-") as name:
        try:
            rows = measure(Path(name), arguments.pairs)
        except FileNotFoundError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
    show(rows)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(msgspec.to_builtins(rows), indent=2) + "\n")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
