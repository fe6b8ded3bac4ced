"""What ci/gate and ci/test do on machines that lack something: say what to run, and exit status 2."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "ci"))
    return importlib.import_module("setup_environment")


@pytest.fixture
def run_tests(setup: ModuleType) -> ModuleType:
    return importlib.import_module("run_tests")


def failure(capsys: pytest.CaptureFixture[str], call: Any, *arguments: Any) -> str:
    """What it says before it ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        call(*arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_an_old_python(
    setup: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert failure(capsys, setup.main, []).startswith("setup: Python 3.11 or newer is needed; ")


def test_no_ensurepip_and_not_root(
    setup: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on Debian without python3-venv."""
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup, "STAMP", tmp_path / "installed")
    assert failure(capsys, setup.main, []) == (
        "setup: Python cannot make a virtual environment. Run: sudo apt-get install -y python3-venv\n"
    )


@pytest.fixture
def packages(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """On a machine that has none of the programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return importlib.import_module("debian_packages")


def test_missing_programs_and_not_root(
    packages: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = failure(capsys, packages.need, {**packages.TESTS, "/nowhere/nbd.py": "python3-libnbd"})
    assert said.startswith(
        "setup: missing: qemu-system-x86_64, qemu-storage-daemon, nbdcopy, nbdinfo, qemu-img, nbdkit, cpio, "
        "gdb"
    )
    assert said.endswith(
        "Run: sudo apt-get install -y qemu-system-x86 libnbd-bin qemu-utils nbdkit cpio gdb openssl "
        "python3-libnbd\n"
    )


def test_missing_programs_are_installed_as_root(
    packages: ModuleType, setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def install(names: list[str]) -> None:
        asked.append(names)
        for program in packages.CLIENTS:
            (tmp_path / program).symlink_to("/bin/true")

    asked: list[list[str]] = []
    (tmp_path / "apt-get").symlink_to("/bin/true")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(setup, "apt_install", install)
    packages.need(packages.CLIENTS)
    packages.need(packages.CLIENTS)
    assert asked == [["libnbd-bin", "qemu-utils", "nbdkit"]]


def test_a_package_that_brings_no_program(
    packages: ModuleType,
    setup: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "apt-get").symlink_to("/bin/true")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(setup, "apt_install", lambda names: None)
    assert failure(capsys, packages.need, {"nbdkit": "nbdkit"}) == (
        "setup: still missing: nbdkit (of Debian's nbdkit)\n"
    )


def test_what_is_installed_is_not_installed_again(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ci/gate needs less than ci/test: neither undoes what the other has installed."""
    done: list[list[str]] = []
    monkeypatch.setattr(setup, "STAMP", tmp_path / "installed")
    monkeypatch.setattr(setup, "PYTHON", sys.executable)
    monkeypatch.setattr(setup, "make_environment", lambda: None)
    monkeypatch.setattr(setup, "install", done.append)
    for extras in ([], [], ["test"], [], ["test"]):
        setup.main(extras)
    assert done == [[], ["test"]]
    monkeypatch.setattr(setup, "fingerprint", lambda: "pyproject.toml has changed")
    setup.main([])
    assert done[2:] == [["test"]]


def test_a_test_run_that_never_ends_is_ended(
    run_tests: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_tests, "LONGEST_S", 0.2)
    monkeypatch.setattr(run_tests, "CLEAN_UP_S", 0.2)
    stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    assert run_tests.run([sys.executable, "-c", stubborn], dict(os.environ)) == -1
    assert "not done after 0.2 s" in capsys.readouterr().out
    assert run_tests.run([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ)) == 3


def test_no_python_at_all(tmp_path: Path) -> None:
    for program in ("sh", "dirname"):
        (tmp_path / program).symlink_to(f"/bin/{program}")
    for command in ("gate", "test"):
        done = subprocess.run(
            [ROOT / "ci" / command], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "python3 is missing. Run: apt-get install -y python3 python3-venv" in done.stderr
