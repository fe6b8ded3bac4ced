"""The whole way, on the real simulator: what is wrong is a finding, so a gate is not green for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.gate.case import plan
from scenarios.gate.work import run_one
from scenarios.language.loader import load_text

HEAD = "name: wrong on purpose\ndisks: {vda: {size: 1M}}\nmethods: [overlay]\nsteps:\n"
WRITE = "  - guest: {write: {at: 0, length: 64k, pattern: 0x11}}\n"


@pytest.mark.parametrize(
    "steps",
    [
        "  - guest: {read: {at: 0, length: 64k, pattern: 0x12}}\n",
        "  - qmp: {execute: query-jobs, returns: [{id: j0}]}\n",
        "  - qmp: {execute: no-such-command, error: {class: GenericError}}\n",
        "  - qmp: {execute: blockdev-add, arguments: {driver: null-co, node-name: n0, size: 65536}}\n",
        "  - event: {name: BLOCK_JOB_COMPLETED, within: 1s}\n",
        "  - fleece: {id: a}\n  - map: {from: a, expect: [{at: 0, length: 1M, state: hole}]}\n  - end: a\n",
    ],
    ids=["read", "returns", "error", "left behind", "event", "map"],
)
def test_a_wrong_spec_is_a_finding(steps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [case] = plan([load_text(HEAD + WRITE + steps)], ["sim:7.2"], [], 0)
    result = run_one(case)
    assert (result.outcome, result.reason if result.outcome == "broken" else "") == ("finding", "")
    assert result.findings


def test_the_same_without_anything_wrong_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = "  - fleece: {id: monday}\n  - copy: {from: monday}\n  - end: monday\n"
    [case] = plan([load_text(HEAD + WRITE + steps)], ["sim:7.2"], [], 0)
    result = run_one(case)
    assert (result.outcome, result.findings, result.reason) == ("holds", [], "")
