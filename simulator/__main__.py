"""`python -m simulator [--qemu VERSION] PROGRAM ARGUMENTS...`: run as that program, installing nothing."""

import sys

from simulator.serve.main import main

_USAGE = "usage: python -m simulator [--qemu VERSION] qemu-system-x86_64|qemu-storage-daemon ARGUMENTS..."


def _main(argv: list[str]) -> int:
    version = "7.2"
    if argv[:1] == ["--qemu"] and len(argv) > 1:
        version, argv = argv[1], argv[2:]
    if not argv or argv[0] not in ("qemu-system-x86_64", "qemu-storage-daemon"):
        print(_USAGE, file=sys.stderr)
        return 2
    return main(argv[0], version, argv[1:])


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
