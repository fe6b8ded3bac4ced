"""Makes .venv with goldenfleece in it, for ci/gate and ci/test. Standard library only; safe to run again.

    python3 ci/setup_environment.py [EXTRA ...]

Installs only if the environment is not there yet or pyproject.toml has changed since. Exit status 2, with
what to do about it, if something is missing.
"""

from __future__ import annotations

import hashlib
import os
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
    wanted = fingerprint(extras)
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted and runs([str(PYTHON), "-c", ""]):
        return
    make_environment()
    install(extras)
    STAMP.write_text(wanted, encoding="utf-8")


def fingerprint(extras: list[str]) -> str:
    """Changes whenever what is to be installed does, or where."""
    project = (ROOT / "pyproject.toml").read_bytes()
    return "\n".join([hashlib.sha256(project).hexdigest(), str(ROOT), *sorted(extras)])


def make_environment() -> None:
    STAMP.unlink(missing_ok=True)
    say(f"making the environment {VENV}")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if runs(command):
        return
    # Debian splits ensurepip off: the module venv is there, but cannot make an environment with pip.
    package = "python3-venv"
    if os.geteuid() != 0:
        fail(f"Python cannot make a virtual environment. Run: sudo apt-get install -y {package}")
    apt_install([package])
    if subprocess.run(command, check=False).returncode != 0:
        fail(f"{' '.join(command)} failed, though {package} is installed")


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
