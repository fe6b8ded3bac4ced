"""What ci/test does: Debian's packages, the environment, ruff, mypy, pytest. Standard library only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import setup_environment as setup  # beside this file

LONGEST_S = 15 * 60
CLEAN_UP_S = 60

# Programs (or, with a slash, files) that the tests run, and the Debian package of each.
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-storage-daemon": "qemu-system-common",
    "qemu-img": "qemu-utils",
    "nbdcopy": "libnbd-bin",
    "nbdkit": "nbdkit",
    "/usr/lib/python3/dist-packages/nbd.py": "python3-libnbd",
}
# Where the specs run: the simulator in both its forms and dialects, and both programs of real QEMU.
BACKENDS = ["sim:7.2", "sim:rfc-2013", "sim-process:7.2", "qemu", "storage-daemon"]
# What apt is asked for; qemu-system-x86 brings qemu-system-common along.
PACKAGES = ["qemu-system-x86", "qemu-utils", "libnbd-bin", "python3-libnbd", "nbdkit"]


def main(arguments: list[str]) -> int:
    install_packages()
    setup.main(["test"])
    os.chdir(setup.ROOT)
    binaries = setup.VENV / "bin"
    checks = {
        "ruff": [str(binaries / "ruff"), "check", "--quiet", "."],
        "mypy": [str(binaries / "mypy")],
        "pytest": [str(binaries / "pytest"), "-n", "2", *on_backends(), "tests", "scenarios", *arguments],
    }
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"}
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


def missing() -> list[str]:
    """What is needed and not there."""
    return [
        name for name in NEEDED if not (Path(name).exists() if name.startswith("/") else shutil.which(name))
    ]


def install_packages() -> None:
    """Exit status 2 with the command to run if packages are missing and this is not root."""
    lacking = missing()
    if not lacking:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        setup.fail(f"missing: {', '.join(lacking)}. Run: sudo apt-get install -y {' '.join(PACKAGES)}")
    setup.apt_install(PACKAGES)
    lacking = missing()
    if lacking:
        packages = sorted({NEEDED[name] for name in lacking})
        setup.fail(f"still missing: {', '.join(lacking)} (of Debian's {', '.join(packages)})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
