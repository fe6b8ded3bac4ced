"""What ci/test does: Debian's packages, the environment, ruff, mypy, pytest. Standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import debian_packages  # these two are beside this file
import setup_environment as setup

LONGEST_S = 23 * 60
CLEAN_UP_S = 60

# Where the specs run: the simulator in both its forms and dialects, both programs of real QEMU, and of the
# other versions two, each way of running them once. `tox -e matrix` runs all versions.
BACKENDS = [
    "sim:5.2",
    "sim:7.2",
    "sim:10.0",
    "sim:11.1",
    "sim:rfc-2013",
    "sim-process:7.2",
    "qemu",
    "storage-daemon",
    "container:trixie",
    "chroot:bullseye",
]
SUITES = ["bullseye", "trixie"]


def main(arguments: list[str]) -> int:
    debian_packages.need({**debian_packages.TESTS, **debian_packages.IMAGES})
    setup.main(["test"])
    os.chdir(setup.ROOT)
    binaries = setup.VENV / "bin"
    checks = {
        "ruff": [str(binaries / "ruff"), "check", "--quiet", "."],
        "mypy": [str(binaries / "mypy")],
        "pytest": [str(binaries / "pytest"), "-n", "2", *on_backends(), "tests", "scenarios", *arguments],
    }
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"}
    build = [str(binaries / "goldenfleece"), "matrix", "build"]
    if run([*build, *(word for suite in SUITES for word in ("--suite", suite))], environment):
        setup.fail("the images that the tests run could not be built (above: why)")
    outcomes: dict[str, int] = {}
    for name, command in checks.items():
        begin = time.monotonic()
        if name == "pytest":
            # Told before pytest runs, so that pytest's own last line is the last line of all.
            print("== " + ", ".join(words(*outcome) for outcome in outcomes.items()), flush=True)
        print(f"== {name}: {' '.join(command)}", flush=True)
        outcomes[name] = run(command, environment)
        if name != "pytest":
            print(f"== {words(name, outcomes[name])}, {time.monotonic() - begin:.1f} s", flush=True)
    return 1 if any(outcomes.values()) else 0


def on_backends() -> list[str]:
    return [word for name in BACKENDS for word in ("--backend", name)]


def run(command: list[str], environment: dict[str, str]) -> int:
    """The exit status; -1 if it was ended because it took longer than everything may."""
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait(LONGEST_S)
    except subprocess.TimeoutExpired:
        print(f"== {command[0]}: not done after {LONGEST_S} s", flush=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(CLEAN_UP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return -1


def words(name: str, status: int) -> str:
    return f"{name} passed" if status == 0 else f"{name} FAILED (exit status {status})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
