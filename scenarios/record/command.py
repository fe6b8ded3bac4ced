"""`goldenfleece record`: keep what a real QEMU says about itself, so that the simulator can answer
as that version.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import simulator.versions
from scenarios.backends.interface import SetupError
from scenarios.record.recording import record, version_of, write

_DEFAULT_TIMEOUT_S = 120.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goldenfleece record",
        description="Record a real QEMU's introspection under simulator/versions/recorded/VERSION.",
    )
    parser.add_argument("--qemu", type=Path, metavar="PATH", help="a real qemu-system-* executable")
    parser.add_argument("--storage-daemon", type=Path, metavar="PATH", help="a real qemu-storage-daemon")
    parser.add_argument("--directory", type=Path, help="where to put VERSION/ (default: into the simulator)")
    parser.add_argument("--timeout", type=float, default=_DEFAULT_TIMEOUT_S, help="seconds for each binary")
    return parser


def main(argv: list[str]) -> int:
    """0: recorded; 2: usage, or a binary that cannot be recorded, with the reason on standard error."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        if options.qemu is None and options.storage_daemon is None:
            parser.error("nothing to record: give --qemu PATH, --storage-daemon PATH or both")
    except SystemExit as ended:
        return 0 if ended.code == 0 else 2
    directory = options.directory or Path(simulator.versions.RECORDED_DIRECTORY)
    wanted = (("system", options.qemu), ("storage-daemon", options.storage_daemon))
    try:
        recordings = [
            (kind, record(path, kind, options.timeout)) for kind, path in wanted if path is not None
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
    return 0
