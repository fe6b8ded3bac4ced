"""What a property finds is a spec file, as small as it gets, and a command that repeats it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given

from scenarios.cli import main
from scenarios.explore.bugs import bug
from scenarios.explore.generator import limits_for, scenarios
from scenarios.explore.search import DoesNotHoldError, Holds, budget, seeds
from scenarios.language.loader import load_file
from scenarios.language.steps import Scenario

METHOD = "overlay"


def search() -> None:
    holds = Holds("sim:7.2", METHOD)

    @budget(100)
    @given(scenario=scenarios(METHOD, limits_for(METHOD)), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        holds(scenario, seed)

    all_hold()


def test_a_bug_becomes_a_spec_that_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with bug("cbw-copies-too-late"), pytest.raises(DoesNotHoldError) as told:
        search()
    error = told.value
    assert error.path.parent == Path("goldenfleece-findings")
    assert "point_in_time" in str(error)
    assert f"repeat: {error.repeat}" in str(error)
    smallest = load_file(error.path)
    # A write, a point in time, another write there, a look, and hardly anything else.
    assert len(smallest.steps) <= 8
    program, *words = shlex.split(error.repeat)
    assert (program, words[:2]) == ("goldenfleece", ["replay", str(error.path)])
    assert words[2:] == ["--backend", "sim:7.2", "--method", METHOD, "--seed", str(smallest.seed)]
    with bug("cbw-copies-too-late"):
        assert main(words) == 1
    assert "point_in_time" in capsys.readouterr().out
    assert main(words) == 0
