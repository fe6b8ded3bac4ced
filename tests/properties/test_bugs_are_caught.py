"""Judges and properties can fail: each bug of the catalogue is found, within so many examples."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import Phase, find, given, settings

from scenarios.explore.bugs import CATALOGUE, SEARCHES, bug
from scenarios.explore.generator import limits_for, scenarios
from scenarios.explore.intents import FEATURES
from scenarios.explore.search import budget, scenarios_to_find, seeds
from scenarios.gate.case import Case, Result
from scenarios.gate.work import run_one
from scenarios.language.steps import Scenario

MOST_EXAMPLES = 300


class CaughtError(Exception):
    """Ends the search."""


def first_finding(name: str) -> Result | None:
    chosen = CATALOGUE[name]
    strategy, method = scenarios_to_find(chosen.search, chosen.features)
    caught: list[Result] = []

    @settings(budget(MOST_EXAMPLES), phases=[Phase.generate], report_multiple_bugs=False)
    @given(scenario=strategy, seed=seeds)
    def search(scenario: Scenario, seed: int) -> None:
        result = run_one(Case(scenario, "sim:7.2", method, seed))
        if result.outcome != "holds":
            caught.append(result)
            raise CaughtError

    with bug(name):
        try:
            search()
        except CaughtError:
            return caught[0]
    return None


# Which judge is made for this kind of bug; others may find it as well.
JUDGES = {
    "cbw-copies-too-late": "point_in_time",
    "cbw-skips-last-cluster": "point_in_time",
    "cbw-copies-first-cluster-only": "point_in_time",
    "cbw-discards-at-once": "point_in_time",
    "cbw-zeroes-at-once": "point_in_time",
    "access-ignores-what-is-copied": "point_in_time",
    "access-does-not-freeze": "point_in_time",
    "overlay-copies-without-serialising": "point_in_time",
    "requests-do-not-wait": "point_in_time",
    "zeroes-leave-no-mark": "maps",
    "qcow2-writes-short": "guest_intact",
    "abort-leaves-the-job": "atomicity",
    "abort-forgets-the-clear": "atomicity",
    "abort-leaves-the-bitmap": "atomicity",
    "disks-have-times-of-their-own": "point_in_time",
    "cancel-leaves-the-filter": "nothing_left",
    "job-ends-twice": "job_lifecycle",
    "job-stays-concluded": "nothing_left",
    "progress-as-text": "schema_valid",
    "vanished-client-holds-its-export": "expectations",
}


def test_every_bug_has_a_judge() -> None:
    assert set(JUDGES) == set(CATALOGUE)
    assert {chosen.search for chosen in CATALOGUE.values()} == set(SEARCHES)
    assert {feature for chosen in CATALOGUE.values() for feature in chosen.features} <= set(FEATURES)


@pytest.mark.parametrize("name", CATALOGUE)
def test_it_is_caught(name: str) -> None:
    result = first_finding(name)
    assert result is not None, f"not found in {MOST_EXAMPLES} examples"
    # Nothing but what a judge says: a bug that makes the simulator itself fall over proves nothing of judges.
    assert result.outcome == "finding", result.reason
    assert JUDGES[name] in {finding.judge for finding in result.findings}


def test_the_simulator_is_as_it_was() -> None:
    before = {name: vars(chosen.owner).get(chosen.method) for name, chosen in CATALOGUE.items()}
    for name in CATALOGUE:
        with suppress(CaughtError), bug(name) as chosen:
            assert vars(chosen.owner).get(chosen.method) is not before[name]
            raise CaughtError
    assert {name: vars(chosen.owner).get(chosen.method) for name, chosen in CATALOGUE.items()} == before


def test_an_unknown_bug_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match="no bug 'cbw'; known: cbw-copies-too-late, "), bug("cbw"):
        pass


def test_7_2_loses_the_point_in_time_where_a_copied_range_ends_inside_a_request() -> None:
    """A fault of real QEMU 7.2 (util/hbitmap.c:334), which the simulator has too and Limits.within keeps out
    of the other properties: without that limit it is found."""
    method = "snapshot-access"
    limits = limits_for(method, within=0, always=frozenset(("zero", "discard")), never=frozenset(("race",)))

    def is_lost(scenario: Scenario) -> bool:
        result = run_one(Case(scenario, "sim:7.2", method, 0))
        return any(finding.judge == "point_in_time" for finding in result.findings)

    found = find(scenarios(method, limits), is_lost, settings=settings(budget(MOST_EXAMPLES)))
    assert len(found.steps) <= 8
