"""`goldenfleece emulator DIR --qemu VERSION`: executables that any user of the machine can run as that
version."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys

from simulator import versions

PROGRAMS = ("qemu-system-x86_64", "qemu-storage-daemon")
_OLDEST_PYTHON = (3, 11)

_SCRIPT = """#!{python} -IS
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, {library!r})
from simulator.serve.main import main
sys.exit(main({program!r}, {version!r}, sys.argv[1:]))
"""


def write_emulator(directory: str, version: str) -> None:
    """Write both executables and the library they run into `directory`, which is made if need be.

    They run on the system's own Python where that is new enough, since a user's own may be out of others'
    reach. Raises versions.UnknownVersion, or OSError naming what could not be written.
    """
    versions.load(version)
    directory = os.path.abspath(directory)
    library = os.path.join(directory, "lib")
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.makedirs(directory, exist_ok=True)
    target = os.path.join(library, "simulator")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
    python = _interpreter()
    _compile(python, library)
    _open_to_all(library)
    for program in PROGRAMS:
        path = os.path.join(directory, program)
        with open(path, "w", encoding="utf-8") as script:
            script.write(_SCRIPT.format(python=python, library=library, program=program, version=version))
        os.chmod(path, 0o755)


def _interpreter() -> str:
    """The system's Python if it is new enough, else the one that runs us."""
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        real = os.path.realpath(candidate)
        digits = os.path.basename(real).removeprefix("python").split(".")
        if os.access(real, os.X_OK) and tuple(int(d) for d in digits if d.isdigit()) >= _OLDEST_PYTHON:
            return candidate
    return os.path.realpath(sys.executable)


def _compile(python: str, library: str) -> None:
    """Byte-compile for the interpreter that will run it; those who may not write there start as fast."""
    subprocess.run(
        [python, "-IS", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", library],
        check=False,
    )


def _open_to_all(root: str) -> None:
    for folder, _, files in os.walk(root):
        os.chmod(folder, 0o755)
        for name in files:
            path = os.path.join(folder, name)
            os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | 0o444)


def main(argv: list[str]) -> int:
    """Exit status 0, or 2 for an unknown version or a directory that cannot be written."""
    parser = argparse.ArgumentParser(
        prog="goldenfleece emulator", description="write executables that answer as QEMU"
    )
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument(
        "--qemu", required=True, metavar="VERSION", help=f"one of: {', '.join(versions.names())}"
    )
    arguments = parser.parse_args(argv)
    try:
        write_emulator(arguments.directory, arguments.qemu)
    except (versions.UnknownVersion, OSError) as error:
        sys.stderr.write(f"goldenfleece emulator: {error}\n")
        return 2
    for program in PROGRAMS:
        print(os.path.join(os.path.abspath(arguments.directory), program))
    return 0
