"""Specs as pytest items: names, outcomes, reports, and that a broken backend is never a pass."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[3]
RunsPytest = Callable[..., tuple[int, str]]

# Loaded by the pytest under test instead of a runner and backends that work: by the name of the backend.
PRETEND = """
import sys, types
from scenarios.backends.interface import SetupError
from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import GuestOp

class Backend:
    def __init__(self, name):
        self.name = name
        self.version = ""
    def probe(self):
        if self.name == "broken":
            raise SetupError("it never opened its socket")

class Done:
    seconds, reason, verdicts, history, outcome = 0.1, "", [], None, "holds"

def run_case(scenario, backend, method, seed, fresh=True):
    done = Done()
    if backend.name == "lacking":
        done.outcome, done.reason = "not-applicable", "no flux capacitor"
    if backend.name == "wrong":
        done.outcome = "finding"
        evidence = [GuestOp(begin=1, end=2, disk="vda", kind="flush")]
        done.verdicts = [Verdict("point_in_time", "invalid", [Finding("it is not as it was", evidence)])]
    if backend.name == "dies":
        raise SetupError("it died at start")
    return done

runner = types.ModuleType("scenarios.run.runner")
registry = types.ModuleType("scenarios.backends.registry")
runner.run_case, registry.open_backend = run_case, Backend
sys.modules[runner.__name__], sys.modules[registry.__name__] = runner, registry
"""


@pytest.fixture
def pytest_on(tmp_path: Path) -> RunsPytest:
    """Runs pytest on the shipped basic specs in a process of its own: exit status and output."""
    (tmp_path / "pretend.py").write_text(PRETEND)

    def run(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-p", "pretend", "-p", "no:cacheprovider", *words]
        paths = os.pathsep.join((str(tmp_path), str(ROOT)))
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run


ONE = "scenarios/specs/basic/one_disk.yaml"


def test_items_are_named_by_backend_and_method(pytest_on: RunsPytest) -> None:
    status, text = pytest_on(
        "--collect-only", "-q", ONE, "--backend", "sim:7.2", "--qemu", "10.0", "--qemu", "/x/q"
    )
    assert status == 0
    assert [line for line in text.splitlines() if "::" in line] == [
        f"{ONE}::sim:7.2-overlay",
        f"{ONE}::qemu:/x/q-overlay",
        f"{ONE}::sim:7.2-snapshot-access",
        f"{ONE}::qemu:/x/q-snapshot-access",
    ]


def test_selected_under_xdist_with_a_junit_report(pytest_on: RunsPytest, tmp_path: Path) -> None:
    report = tmp_path / "x.xml"
    status, text = pytest_on("scenarios", "-k", "two_disks or fleeced", "-n", "2", "--junitxml", str(report))
    assert status == 0, text
    names = {(case.get("classname"), case.get("name")) for case in ElementTree.parse(report).iter("testcase")}
    chosen = {
        ("scenarios.specs.basic.two_disks.yaml", f"sim:7.2-{m}") for m in ("overlay", "snapshot-access")
    }
    chosen |= {
        ("scenarios.specs.basic.odd_size.yaml", f"sim:7.2-{m}") for m in ("overlay", "snapshot-access")
    }
    assert names >= chosen
    assert not [name for name in names if "one_disk" in str(name[0])]


def test_a_finding_fails_with_the_command_that_repeats_it(pytest_on: RunsPytest) -> None:
    file = ROOT / "goldenfleece-findings" / "basic-one-disk.wrong.overlay.yaml"
    existed = file.parent.exists()
    try:
        status, text = pytest_on(ONE, "--backend", "wrong", "-k", "overlay")
        assert status == 1
        assert "point_in_time: it is not as it was" in text
        assert "guest op disk=vda kind=flush (1-2)" in text
        assert "scenario: goldenfleece-findings/basic-one-disk.wrong.overlay.yaml" in text
        assert f"repeat: pytest {ONE}::wrong-overlay --backend wrong --seed 0" in text
        assert "Traceback" not in text
    finally:
        file.unlink(missing_ok=True)
        if not existed and file.parent.exists():
            file.parent.rmdir()


def test_what_does_not_apply_is_skipped(pytest_on: RunsPytest) -> None:
    status, text = pytest_on(ONE, "--backend", "lacking")
    assert status == 0
    assert "2 skipped" in text
    assert "no flux capacitor" in text


@pytest.mark.parametrize("extra", [[], ["-n", "2"]])
def test_a_backend_that_does_not_work_is_an_error_of_usage(pytest_on: RunsPytest, extra: list[str]) -> None:
    status, text = pytest_on(ONE, "--backend", "broken", *extra)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: backend broken: it never opened its socket" in text
    assert "passed" not in text


def test_a_backend_that_breaks_later_is_no_pass(pytest_on: RunsPytest) -> None:
    status, text = pytest_on(ONE, "--backend", "dies")
    assert status == 1
    assert "2 failed" in text
    assert "it died at start" in text


def test_a_wrong_spec_is_told_with_its_line(pytest_on: RunsPytest) -> None:
    file = ROOT / "scenarios" / "specs" / "basic" / f"wrong_{os.getpid()}.yaml"
    try:
        file.write_text("name: x\nsteps:\n  - gest: {}\n")
        status, text = pytest_on(str(file))
    finally:
        file.unlink()
    assert status == pytest.ExitCode.INTERRUPTED
    assert f'{file.relative_to(ROOT)}:3: step 1: unknown verb "gest", did you mean guest?' in text
