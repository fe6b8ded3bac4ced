"""`goldenfleece gate`, `run` and `replay`: the same engine, told differently which cases to run."""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NoReturn, get_args

import msgspec

from scenarios.backends.interface import SetupError
from scenarios.gate import matrix, report
from scenarios.gate.case import SPECS, Case, Result, load_specs, plan
from scenarios.gate.matrix import MatrixTable
from scenarios.gate.pool import Pool
from scenarios.gate.table import Table
from scenarios.gate.work import broken, end_shared, open_once, run_one, run_shared
from scenarios.language.problems import SpecError
from scenarios.language.steps import MethodName

DEFAULT_BACKEND = "sim:7.2"
# Backends of real QEMU that a gate uses where their program is in PATH.
REAL = {"qemu": "qemu-system-x86_64", "storage-daemon": "qemu-storage-daemon"}


class UsageError(Exception):
    """The command line, a spec or a backend cannot be used: exit status 2."""


def gate(argv: Sequence[str]) -> int:
    """All specs (or PATHS) on the simulator and on the real QEMU that is installed."""
    parser = _parser(
        "gate", "Run every spec on the simulator and on real QEMU, and say whether fleecing holds."
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="specs or folders (default: all that are shipped)"
    )
    _add_machine_options(parser)
    parser.add_argument(
        "--matrix",
        action="store_true",
        help="on the system emulator of every version that `goldenfleece matrix build` makes, side by side",
    )
    options = parser.parse_args(argv)
    if options.matrix and options.backend:
        raise UsageError("--matrix names its backends itself: --backend cannot be given, too")
    backends = matrix.backends() if options.matrix else options.backend or _found_backends()
    return _run(options.paths or [SPECS], backends, options, options.json)


def run(argv: Sequence[str]) -> int:
    """The specs of PATHS, by default on the simulator alone."""
    parser = _parser("run", "Run specs and say whether fleecing holds in each.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="spec files or folders")
    _add_machine_options(parser)
    options = parser.parse_args(argv)
    return _run(options.paths, options.backend or [DEFAULT_BACKEND], options, options.json)


def replay(argv: Sequence[str]) -> int:
    """One spec file, told record by record."""
    parser = _parser("replay", "Run one scenario file again and tell what happened, record by record.")
    parser.add_argument("file", metavar="FILE", help="a scenario file, such as one in goldenfleece-findings/")
    options = parser.parse_args(argv)
    cases = _cases([options.file], options.backend or [DEFAULT_BACKEND], options)
    results = []
    for case in cases:
        result = run_one(case, keep_story=True)
        table = Table([case])
        for line in result.story:
            table.line(line)
        table.line()
        with table:
            table.row(result)
        report.tell(table, [case], [result])
        for unknown in result.unknown:
            table.line(f"cannot be judged: {unknown}")
        results.append(result)
    return report.exit_status(results)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"goldenfleece {name}", description=description)
    parser.add_argument(
        "--backend", action="append", metavar="NAME",
        help="sim:VERSION, sim-process:VERSION, qemu[:PATH], storage-daemon[:PATH], container:IMAGE or "
        "chroot:SUITE; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--method", action="append", choices=get_args(MethodName), help="only with this method"
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of specs that name none (default 0)")
    parser.add_argument(
        "-j", type=_at_least_one, dest="jobs", default=os.cpu_count() or 1, metavar="N",
        help="cases to run side by side (default: one a core)",
    )  # fmt: skip
    return parser


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Of the commands that run many cases."""
    parser.add_argument("--json", metavar="FILE", help="write results as JSON lines, too")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="a machine of its own for each case, also where it could be one that others have used",
    )
    parser.add_argument(
        "--order",
        type=_order,
        metavar="random[:SEED]",
        help="run the cases in a random order, whose seed is printed (the rows are in the usual one)",
    )


def _order(text: str) -> int:
    """The seed."""
    kind, colon, seed = text.partition(":")
    if kind != "random" or (colon and not seed.isdigit()):
        raise argparse.ArgumentTypeError(f"expected random or random:SEED, got {text!r}")
    return int(seed) if colon else random.SystemRandom().randrange(10**6)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def _found_backends() -> list[str]:
    """The simulator, and real QEMU where it is in PATH; says what was found."""
    backends = [DEFAULT_BACKEND]
    for name, program in REAL.items():
        path = shutil.which(program)
        print(
            f"real QEMU: {program} " + (f"found at {path}" if path else f"is not in PATH: no {name} backend")
        )
        if path:
            backends.append(name)
    return backends


def _cases(paths: Sequence[str | Path], backends: Sequence[str], options: argparse.Namespace) -> list[Case]:
    """The cases to run, all their backends opened. Raises UsageError."""
    try:
        scenarios = load_specs(paths)
    except SpecError as error:
        raise UsageError(str(error)) from None
    names = list(dict.fromkeys(backends))
    cases = plan(scenarios, names, options.method or [], options.seed)
    if not cases:
        places = ", ".join(str(path) for path in paths)
        raise UsageError(f"no spec to run in {places}" + (" with that method" if options.method else ""))
    for name in names:
        try:
            open_once(name)
        except SetupError as error:
            raise UsageError(f"backend {name}: {error}") from None
    return cases


def _run(
    paths: Sequence[str | Path], backends: Sequence[str], options: argparse.Namespace, json_path: str | None
) -> int:
    begin = time.monotonic()
    cases = _cases(paths, backends, options)
    json_file = _open_json(json_path)
    results: list[Result] = []
    table = MatrixTable(cases) if getattr(options, "matrix", False) else Table(cases)
    order = None
    if options.order is not None:
        table.line(f"order: random:{options.order}")
        order = random.Random(options.order).sample(range(len(cases)), len(cases))
    importlib.import_module("scenarios.run.runner")  # once, and not in every worker
    work = run_one if options.fresh else run_shared
    pool: Pool[Case, Result] = Pool(work, broken, min(options.jobs, len(cases)), at_end=end_shared)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with table:
            for result in pool.run(cases, lambda done: table.progress(done, pool.running), order):
                results.append(result)
                table.row(result)
                if json_file is not None:
                    json_file.write(msgspec.json.encode(result) + b"\n")
                    json_file.flush()
    finally:
        signal.signal(signal.SIGTERM, before)
        if json_file is not None:
            json_file.close()
    report.tell(table, cases, results)
    for words in pool.last_words:
        table.line()
        table.line(f"finding: the end of a machine that cases had shared: {words}", style="bold red")
    status = report.exit_status(results, pool.last_words)
    words = report.verdict_line(results, time.monotonic() - begin, pool.last_words)
    table.line()
    table.line(words, style="bold red" if status else "bold green")
    return status


def _open_json(path: str | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        return open(path, "wb")
    except OSError as error:
        raise UsageError(f"--json {path}: {error.strerror}") from None


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a gate as Ctrl-C does, so that its machines are ended too."""
    del number, frame
    raise KeyboardInterrupt
