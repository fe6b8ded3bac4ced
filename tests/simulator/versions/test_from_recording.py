"""A recording without a module: what it tells is what the modules say of the same binaries, and the rest is
listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from simulator import versions
from simulator.versions import from_recording

HAND_MADE = [name for name in versions.names() if from_recording.number(name)]


@pytest.mark.parametrize("name", HAND_MADE)
@pytest.mark.parametrize("base", HAND_MADE)
def test_what_a_recording_tells_is_what_was_found_by_hand(name, base):
    greeting = json.loads(Path(versions.RECORDED_DIRECTORY, name, from_recording.GREETING).read_text())
    by_hand = versions.load(name)
    schema = by_hand.recorded("system", "schema")
    facts = from_recording.facts_of(base, versions.load(base).facts, greeting, schema)
    assert set(facts) == set(by_hand.facts)
    untold = from_recording.untold(facts)
    told = {fact for fact in facts if fact not in untold and not fact.startswith("dialect.")}
    assert {fact: facts[fact][1] for fact in told} == {fact: by_hand.facts[fact][1] for fact in told}
    assert len(told) == 15
    assert ("change" in facts["jobs.verbs"][1]) == ("change" in by_hand.jobs.verbs)


OLDER = [("9.2", "7.2"), ("4.0", "5.2"), ("10.0", "10.0"), ("12.1", "11.1")]


@pytest.mark.parametrize(("name", "base"), OLDER)
def test_the_rest_is_as_in_the_version_before(name, base):
    assert from_recording.base_of(name, versions.names()) == base


def test_a_version_that_is_only_recorded_can_be_used(tmp_path, monkeypatch):
    shutil.copytree(Path(versions.RECORDED_DIRECTORY, "10.0"), tmp_path / "9.2")
    monkeypatch.setattr(versions, "RECORDED_DIRECTORY", str(tmp_path))
    monkeypatch.setattr("simulator.versions.version.RECORDED_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(versions, "_loaded", {})
    assert versions.names()[-1] == "9.2"
    version = versions.load("9.2")
    assert version.greeting_version()["qemu"] == {"micro": 13, "minor": 0, "major": 10}
    assert version.queries.shows_active
    assert version.schema("storage-daemon").command("blockdev-add")
    assert "block.backup_step_bytes" in versions.untold("9.2")
    assert "queries.shows_active" not in versions.untold("9.2")


def test_a_version_with_a_module_leaves_nothing_untold():
    assert [name for name in versions.names() if versions.untold(name)] == []
