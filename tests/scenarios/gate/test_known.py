"""Known findings: they are told, they fail nothing, and nothing else hides behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.gate import known, work
from scenarios.gate.case import SPECS, Case, load_specs
from scenarios.gate.known import Known, KnownFileError
from scenarios.language.loader import load_file
from simulator.block.rules import BlockRules
from simulator.versions.version import Version

ENTRIES = known.load()


def case_of(label: str, method: str) -> Case:
    return Case(load_file(SPECS / f"{label}.yaml"), "sim:7.2", method, 0)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_entries_name_specs_and_methods_that_exist(entry: Known) -> None:
    for label in entry.specs:
        scenario = load_file(SPECS / f"{label}.yaml")
        assert entry.method in (scenario.methods or [""]), label


# Those that the simulator has too, in the version that it has.
CASES = [
    (entry, label)
    for entry in ENTRIES
    if not entry.only_on and "7.2" in entry.versions
    for label in entry.specs
]


@pytest.mark.parametrize(("entry", "label"), CASES, ids=[f"{entry.id}-{label}" for entry, label in CASES])
def test_each_is_shown_by_the_simulator_of_that_version(entry: Known, label: str) -> None:
    result = work.run_one(case_of(label, entry.method))
    assert result.outcome == "known", result
    assert result.reason.startswith(entry.id)


@pytest.mark.parametrize(("entry", "label"), CASES, ids=[f"{entry.id}-{label}" for entry, label in CASES])
def test_without_the_version_s_defects_the_spec_holds_and_is_told_as_fixed(
    entry: Known, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_defects(version: Version) -> BlockRules:
        return BlockRules()

    monkeypatch.setattr("simulator.machine.rules_of", without_defects)
    result = work.run_one(case_of(label, entry.method))
    assert (result.outcome, result.fixed) == ("holds", entry.id)


def test_another_judge_s_finding_is_no_known_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = tmp_path / "leaves_a_node.yaml"
    spec.write_text(
        "name: leaves a node\n"
        "disks: {vda: {size: 1M}}\n"
        "steps:\n"
        "  - qmp: {execute: blockdev-add, arguments: {driver: null-co, node-name: left}}\n"
    )
    (scenario,) = load_specs([spec])
    entry = Known(
        id="x", versions=["7.2"], method="", judges=["point_in_time"], specs=["any"], reason="r", source="s"
    )
    monkeypatch.setattr(work, "entry_for", lambda *_: entry)
    result = work.run_one(Case(scenario, "sim:7.2", "", 0))
    assert result.outcome == "finding"
    assert {finding.judge for finding in result.findings} == {"nothing_left"}


def test_a_version_that_is_not_named_has_no_known_findings() -> None:
    assert known.entry_for(ENTRIES[0].specs[0], ENTRIES[0].method, "sim:11.1", "11.1") is None


def test_a_broken_list_is_told_with_its_place(tmp_path: Path) -> None:
    broken = tmp_path / "known.toml"
    broken.write_text("[[known]]\nid = 7\n")
    with pytest.raises(KnownFileError, match=r"known\.toml.*id"):
        known.load(broken)


def test_a_defect_of_the_process_is_known_only_where_there_is_one() -> None:
    crash = next(entry for entry in ENTRIES if "storage-daemon" in entry.only_on)
    found = {
        backend: known.entry_for(crash.specs[0], crash.method, backend, crash.versions[0])
        for backend in ("qemu", "qemu:/opt/qemu", "storage-daemon", "sim:7.2", "sim-process:7.2")
    }
    assert found == {
        "qemu": crash,
        "qemu:/opt/qemu": crash,
        "storage-daemon": crash,
        "sim:7.2": None,
        "sim-process:7.2": None,
    }


@pytest.mark.parametrize(("sometimes", "fixed"), [(False, "it"), (True, "")])
def test_one_that_shows_sometimes_is_not_told_as_fixed(
    sometimes: bool, fixed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Known(
        id="it", versions=["7.2"], method="overlay", judges=["cut"], specs=["basic/one_disk"],
        reason="r", source="s", sometimes=sometimes,
    )  # fmt: skip
    monkeypatch.setattr(known, "load", lambda: (entry,))
    result = work.run_one(case_of("basic/one_disk", "overlay"))
    assert (result.outcome, result.fixed) == ("holds", fixed)
