"""`gate --matrix`: its table, its backends, and what of the versions' differences it tells."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from scenarios.backends.interface import SetupError
from scenarios.gate import matrix
from scenarios.gate.case import SPECS, Case, Result, load_specs
from scenarios.gate.command import UsageError, gate
from scenarios.gate.known import _is_meant
from scenarios.gate.matrix import MatrixTable
from scenarios.matrix import roots


class Version:
    def __init__(self, name: str) -> None:
        self.version = name.partition(":")[2]


def result_of(case: Case, outcome: str) -> Result:
    return Result(
        spec=case.scenario.path, name="", backend=case.backend, method=case.method, seed=0,
        outcome=outcome, seconds=0.25,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_row_is_a_scenario_and_a_column_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "open_once", Version)
    (scenario,) = load_specs([SPECS / "basic/one_disk.yaml"])
    cases = [
        Case(scenario, backend, method, 0)
        for method in ("overlay", "snapshot-access")
        for backend in ("x:5.2", "x:7.2", "x:10.0")
    ]
    outcomes = ["holds", "finding", "known", "not-applicable", "holds", "broken"]
    stream = io.StringIO()
    with MatrixTable(cases, stream) as table:
        for case, outcome in zip(cases, outcomes, strict=True):
            table.row(result_of(case, outcome))
    assert stream.getvalue().splitlines() == [
        "scenario        method                time  5.2      7.2      10.0",
        "basic/one_disk  overlay            0.750 s  holds    finding  known",
        "basic/one_disk  snapshot-access    0.750 s  n/a      holds    broken",
    ]


def test_versions_that_are_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(roots.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(SetupError, match=r"not built: bullseye, .*sid. Run: goldenfleece matrix build$"):
        gate(["--matrix"])
    path = tmp_path / "roots" / "sid"
    (path / "etc").mkdir(parents=True)
    roots.describe(path, roots.About("sid", "1:11.1", "11.1", 1, 1))
    with pytest.raises(SetupError, match=r"build --suite bullseye --suite bookworm --suite trixie$"):
        gate(["--matrix"])


def test_containers_where_an_engine_works_else_chroots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "find", lambda suite: object())
    suites = ["bullseye", "bookworm", "trixie", "sid"]
    assert matrix.backends() == [f"container:{suite}" for suite in suites]

    def none() -> None:
        raise SetupError("there is none")

    monkeypatch.setattr("scenarios.matrix.engine.engine", none)
    assert matrix.backends() == [f"chroot:{suite}" for suite in suites]


def test_matrix_names_its_backends_itself() -> None:
    with pytest.raises(UsageError, match="--matrix names its backends itself"):
        gate(["--matrix", "--backend", "qemu"])


def test_known_findings_of_one_kind_of_program() -> None:
    for name in ("storage-daemon", "storage-daemon:/opt/qsd"):
        assert _is_meant(name, "storage-daemon")
    assert _is_meant("chroot:bullseye+storage-daemon", "+storage-daemon")
    assert _is_meant("chroot:bullseye", "chroot")
    assert not _is_meant("chroot:bullseye", "+storage-daemon")
    assert not _is_meant("sim:7.2", "qemu")
