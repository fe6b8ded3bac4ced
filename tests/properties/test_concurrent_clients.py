"""Several points in time, clients side by side, a guest that goes on writing: every read equals its T."""

from __future__ import annotations

import pytest
from hypothesis import given

from scenarios.explore.generator import limits_for, meetings, scenarios
from scenarios.explore.search import Holds, budget, seeds
from scenarios.gate.case import Result
from scenarios.language.steps import Scenario

METHODS = ["overlay", "snapshot-access"]


def saw_a_point(result: Result) -> bool:
    """Whether the judge of points in time had anything to judge."""
    return not any(line.startswith("point_in_time") for line in result.unknown)


@pytest.mark.parametrize("method", METHODS)
def test_every_read_equals_its_point_in_time(backend: str, share: float, method: str) -> None:
    holds, seen = Holds(backend, method), []

    @budget(int(100 * share))
    @given(scenario=scenarios(method, limits_for(method, always=frozenset(("race",)))), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        seen.append(saw_a_point(holds(scenario, seed)))

    all_hold()
    assert sum(seen) > 0.8 * len(seen)


@pytest.mark.parametrize("method", METHODS)
def test_reads_where_the_guest_writes(backend: str, share: float, method: str) -> None:
    holds = Holds(backend, method)

    @budget(int(80 * share))
    @given(scenario=meetings(method), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        assert saw_a_point(holds(scenario, seed))

    all_hold()


@pytest.mark.parametrize("method", METHODS)
def test_points_in_time_begin_and_end_beside_each_other(backend: str, share: float, method: str) -> None:
    always = frozenset(("race", "race-points", "connections"))

    holds = Holds(backend, method)

    @budget(int(50 * share))
    @given(scenario=scenarios(method, limits_for(method, always=always)), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        holds(scenario, seed)

    all_hold()
