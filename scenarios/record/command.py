"""`goldenfleece record`: keep what a real QEMU says about itself, so that the simulator can answer
as that version.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import simulator.versions
from scenarios.backends.chroot import ChrootLauncher
from scenarios.backends.interface import SetupError
from scenarios.matrix import roots
from scenarios.record.monitor import Prefix, no_prefix
from scenarios.record.recording import record, version_of, write

PROGRAMS = {"system": "qemu-system-x86_64", "storage-daemon": "qemu-storage-daemon"}
_DEFAULT_TIMEOUT_S = 120.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goldenfleece record",
        description="Record a real QEMU's introspection under simulator/versions/recorded/VERSION.",
    )
    parser.add_argument("--qemu", type=Path, metavar="PATH", help="a real qemu-system-* executable")
    parser.add_argument("--storage-daemon", type=Path, metavar="PATH", help="a real qemu-storage-daemon")
    parser.add_argument("--suite", help="both of a Debian suite that `goldenfleece matrix build` has made")
    parser.add_argument("--directory", type=Path, help="where to put VERSION/ (default: into the simulator)")
    parser.add_argument("--timeout", type=float, default=_DEFAULT_TIMEOUT_S, help="seconds for each binary")
    return parser


def _wanted(options: argparse.Namespace) -> list[tuple[str, Path, Prefix]]:
    """(kind, path, what starts it) of each binary. Raises SetupError."""
    wanted = [("system", options.qemu, no_prefix), ("storage-daemon", options.storage_daemon, no_prefix)]
    found: list[tuple[str, Path, Prefix]] = [each for each in wanted if each[1] is not None]
    if options.suite is not None:
        if not roots.is_suite(options.suite):
            raise SetupError(
                f"--suite {options.suite}: expected one of {', '.join(roots.description().suites)}"
            )
        launcher = ChrootLauncher(options.suite)
        found += [(kind, Path(launcher.find(PROGRAMS[kind])), launcher.prefix) for kind in PROGRAMS]
    return found


def main(argv: list[str]) -> int:
    """0: recorded; 2: usage, or a binary that cannot be recorded, with the reason on standard error."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        if options.qemu is None and options.storage_daemon is None and options.suite is None:
            parser.error(
                "nothing to record: give --qemu PATH, --storage-daemon PATH or both, or --suite SUITE"
            )
    except SystemExit as ended:
        return 0 if ended.code == 0 else 2
    directory = options.directory or Path(simulator.versions.RECORDED_DIRECTORY)
    try:
        recordings = [
            (kind, record(path, kind, options.timeout, prefix)) for kind, path, prefix in _wanted(options)
        ]
    except SetupError as error:
        print(f"goldenfleece record: {error}", file=sys.stderr)
        return 2
    for kind, recording in recordings:
        written = write(recording, directory / version_of(recording) / kind)
        size_bytes = sum(path.stat().st_size for path in written)
        package = recording["greeting"]["version"]["package"]
        print(f"{written[0].parent}: {len(written)} files, {size_bytes} bytes, from {kind} {package}")
        for line in recording["argument_types"]["unreached"]:
            print(f"  a size or a plain number? {line}", file=sys.stderr)
        if kind == "system" and options.directory is None:
            _tell_profile(version_of(recording))
    return 0


def _tell_profile(version: str) -> None:
    """What can be used now, and what of it nobody has looked at."""
    untold = simulator.versions.untold(version)
    print(f"sim:{version} and goldenfleece emulator DIR --qemu {version} answer as it does")
    for name in untold:
        fact = simulator.versions.load(version).facts[name]
        print(f"  could not be told: {name} is {fact[1]!r}, {fact[2]}")
