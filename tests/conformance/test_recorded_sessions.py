"""Every recorded session on the simulator of its version: what is not in the list of what does not hold yet
is equal to the word, and what is in it is not, so that the list only gets shorter."""

from __future__ import annotations

import pytest

from scenarios.conformance import recording
from scenarios.conformance.replay import line_of, not_yet, opened, recorded_versions, replay
from scenarios.conformance.session import load_all
from scenarios.gate import known

SESSIONS = {source.name: source for source in load_all()}
NOT_YET = frozenset(not_yet())
LONGEST = 3000


@pytest.mark.parametrize("version", recorded_versions())
@pytest.mark.parametrize("name", SESSIONS)
def test_the_simulator_answers_as_that_version_did(version: str, name: str) -> None:
    replayed = replay(SESSIONS[name], opened(f"sim:{version}"))
    assert replayed is not None, f"{name} was not recorded from {version}"
    differences = "\n".join(map(str, replayed.differences))[:LONGEST]
    if known.entry_for_session(name, version) is not None:
        assert differences, f"{version} {name} is equal now: take it out of {known.PATH}"
    elif line_of(f"sim:{version}", name) in NOT_YET:
        assert differences, f"{version} {name} is equal now: take it out of scenarios/recorded/not_yet.txt"
    else:
        assert not differences, f"{differences}\nrepeat: goldenfleece replay-sessions --only '{name}'"


def test_nothing_is_listed_that_was_not_recorded() -> None:
    recorded = {f"{version} {name}" for version in recorded_versions() for name in SESSIONS}
    assert sorted(NOT_YET - recorded) == []


def test_no_recording_is_of_a_session_that_is_gone() -> None:
    expected = {recording.path_of(name, version) for version in recorded_versions() for name in SESSIONS}
    assert set(recording.RECORDED.glob("*/*/*.jsonl")) == expected


def test_few_differences_stay_and_each_is_of_sessions_that_were_recorded() -> None:
    assert len(known.sessions()) <= 10
    for entry in known.sessions():
        assert set(entry.versions) <= set(recorded_versions())
        assert set(entry.sessions) <= set(SESSIONS)
        assert entry.reason
        assert entry.source


def test_there_are_sessions_enough_of_every_version() -> None:
    assert len(SESSIONS) >= 150
    assert recorded_versions() == ["5.2", "7.2", "10.0", "11.1"]
