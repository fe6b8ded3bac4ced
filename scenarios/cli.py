"""`goldenfleece`: one command with sub-commands, each imported only when it is used.

Exit status: 0 holds, 1 a finding, 2 usage or a broken set-up.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple

USAGE = 2


class Command(NamedTuple):
    """Where a sub-command lives: `module` has `function(argv) -> exit status`."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "gate": Command("scenarios.gate.command", "gate", "run every spec on the simulator and on real QEMU"),
    "run": Command("scenarios.gate.command", "run", "run the specs of some files or folders"),
    "replay": Command("scenarios.gate.command", "replay", "run one scenario file and tell what happened"),
    "matrix": Command("scenarios.matrix.command", "main", "make, list and remove images of QEMU versions"),
    "emulator": Command("simulator.serve.emulator", "main", "write executables that answer as QEMU does"),
    "record": Command("scenarios.record.command", "main", "record what a real QEMU answers"),
    "record-sessions": Command(
        "scenarios.conformance.command", "main", "record sessions with a real QEMU, to replay them elsewhere"
    ),
    "replay-sessions": Command(
        "scenarios.conformance.replay", "main", "play recorded sessions, on the simulator or a real QEMU"
    ),
    "diff-sessions": Command(
        "scenarios.conformance.diff_sessions", "main", "play sessions that nobody wrote on two backends"
    ),
    "fuzz-streams": Command(
        "scenarios.streams.command", "main", "give a monitor or an NBD server what no client would say"
    ),
    "diff": Command("scenarios.conformance.diff", "main", "run a spec on two backends, tell where they part"),
    "schema": Command("scenarios.language.schema", "main", "print the JSON Schema of scenario files"),
}


def usage() -> str:
    """What `goldenfleece --help` prints."""
    lines = ["usage: goldenfleece COMMAND ...", "", "Tests and simulates QEMU's image fleecing.", ""]
    lines += [f"  {name:<17}{command.summary}" for name, command in COMMANDS.items()]
    lines += ["", "goldenfleece COMMAND --help tells the rest.", ""]
    lines.append("Exit status: 0 holds, 1 a finding, 2 usage or a broken set-up.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command. Whatever is the user's to mend is one message on standard error, never a
    traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else USAGE
    if words[0] not in COMMANDS:
        print(f"goldenfleece: unknown command {words[0]!r}\n\n{usage()}", file=sys.stderr)
        return USAGE
    try:
        return _call(COMMANDS[words[0]], words[1:])
    except KeyboardInterrupt:
        print("goldenfleece: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _call(command: Command, words: list[str]) -> int:
    from scenarios.backends.interface import SetupError
    from scenarios.gate.command import UsageError
    from scenarios.language.problems import SpecError

    try:
        status = getattr(importlib.import_module(command.module), command.function)(words)
    except (UsageError, SetupError, SpecError) as error:
        print(f"goldenfleece: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        raise
    except Exception:
        # A fault of goldenfleece itself. Python's own exit status for it is 1, which here means a finding.
        traceback.print_exc()
        print("goldenfleece: this is a fault of goldenfleece itself, please report it", file=sys.stderr)
        return USAGE
    return int(status or 0)


if __name__ == "__main__":
    sys.exit(main())
