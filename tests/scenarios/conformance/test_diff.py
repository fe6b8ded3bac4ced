"""`goldenfleece diff`: equal runs are equal, and two versions part where they are known to."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.conformance.diff import main

SPEC = str(Path(__file__).parents[3] / "scenarios/specs/basic/one_disk.yaml")


def diff(*backends: str) -> int:
    return main([SPEC, "--method", "overlay", *(word for name in backends for word in ("--backend", name))])


def test_one_backend_is_equal_to_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff("sim:7.2", "sim:7.2") == 0
    assert "records on sim:7.2 and sim:7.2" in capsys.readouterr().out


def test_two_ways_to_the_same_simulator_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff("sim:7.2", "sim-process:7.2") == 0, capsys.readouterr().out


def test_the_first_difference_is_shown_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff("sim:10.0", "sim:11.1") == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("sim:10.0 ") and line.endswith("| sim:11.1") for line in lines)
    assert lines[-1].startswith("in sim:11.1, $.returns[0].")


def test_it_takes_two_backends() -> None:
    with pytest.raises(SystemExit) as ended:
        diff("sim:7.2")
    assert ended.value.code == 2
