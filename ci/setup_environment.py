"""Makes .venv with goldenfleece in it, for ci/gate and ci/test. Standard library only; safe to run again.

    python3 ci/setup_environment.py [EXTRA ...]

Installs only if the environment is not there yet or pyproject.toml has changed since. Exit status 2, with
what to do about it, if something is missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
OLDEST_PYTHON = (3, 11)


def main(extras: list[str]) -> None:
    if sys.version_info < OLDEST_PYTHON:
        fail(f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}")
    project, installed = fingerprint(), read_stamp()
    if installed[:1] == [project] and {*extras} <= {*installed[1:]} and runs([str(PYTHON), "-c", ""]):
        return
    extras = sorted({*extras, *installed[1:]})
    make_environment()
    install(extras)
    STAMP.write_text("\n".join([project, *extras]), encoding="utf-8")


def fingerprint() -> str:
    """Changes whenever what is to be installed does, or where."""
    project = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(project + str(ROOT).encode()).hexdigest()


def read_stamp() -> list[str]:
    """What is installed: a fingerprint, then the extras; nothing if there is no environment yet."""
    try:
        return STAMP.read_text(encoding="utf-8").split()
    except OSError:
        return []


def make_environment() -> None:
    # Debian splits ensurepip off: the module venv is there, but cannot make an environment with pip.
    if not runs([sys.executable, "-c", "import ensurepip, venv"]):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            fail("Python cannot make a virtual environment. Run: sudo apt-get install -y python3-venv")
        apt_install(["python3-venv"])
    say(f"making the environment {VENV}")
    try:
        STAMP.unlink(missing_ok=True)
    except OSError as error:
        fail(f"{STAMP}: {error.strerror}")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        fail(f"{' '.join(command)} failed:\n{made.stdout}{made.stderr}")


def install(extras: list[str]) -> None:
    target = str(ROOT) + (f"[{','.join(extras)}]" if extras else "")
    say(f"installing {target}")
    pip = [
        str(PYTHON),
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "--editable",
        target,
    ]
    if subprocess.run(pip, check=False, cwd=ROOT).returncode != 0:
        fail(
            "pip could not install goldenfleece and what it needs (above: why). Without a way to pypi.org, "
            "fill a folder with wheels where there is one:\n"
            f"    pip download --dest wheels '{target}' 'setuptools>=68'\n"
            "and run this again with PIP_NO_INDEX=1 PIP_FIND_LINKS=/path/to/wheels"
        )


def apt_install(packages: list[str]) -> None:
    """As root. Exit status 2 if apt-get fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    say(f"installing {' '.join(packages)}")
    install_them = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (install_them, ["apt-get", "update", "-qq"], install_them):
        done = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
        if command is install_them and done.returncode == 0:
            return
    fail(f"{' '.join(install_them)} failed (above: why)")


def runs(command: list[str]) -> bool:
    """Whether a command ends well; its output is not shown."""
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(text)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
