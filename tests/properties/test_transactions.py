"""A transaction that fails at any place changes nothing that can be seen; one that succeeds has one point in time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import find, given, settings

from scenarios.explore.generator import cuts
from scenarios.explore.search import budget, holds, seeds
from scenarios.explore.transactions import QUERIES, failing, failures
from scenarios.language.steps import Scenario


def test_a_failed_transaction_changes_nothing(backend: str, share: float) -> None:
    """Judged by judges/atomicity.py among others: what every query says before and after is equal."""

    @budget(int(200 * share))
    @given(scenario=failing(), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        holds(scenario, backend, "", seed)

    all_hold()


@pytest.mark.parametrize("method", ["overlay", "snapshot-access"])
def test_all_disks_have_one_point_in_time(backend: str, share: float, method: str) -> None:
    @budget(int(80 * share))
    @given(scenario=cuts(method), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        result = holds(scenario, backend, method, seed)
        assert not any(line.startswith("point_in_time") for line in result.unknown)

    all_hold()


def actions_of(scenario: Scenario) -> tuple[list[dict[str, Any]], str]:
    """The transaction's actions, and the words of its failure."""
    [step] = [step.qmp for step in scenario.steps if step.qmp and step.qmp.execute == "transaction"]
    assert step.error is not None
    return step.arguments["actions"], step.error.contains or ""


@pytest.mark.parametrize("number", range(len(failures("vda"))), ids=lambda number: failures("vda")[number].desc)
def test_every_failure_is_drawn_at_every_place(number: int) -> None:
    """First, last and in between."""
    failure = failures("vda")[number]
    first = 0 if failure.after is None else 1
    limits = settings(derandomize=True, database=None, max_examples=5000)
    for place in ("first", "middle", "last"):

        def is_there(scenario: Scenario, place: str = place) -> bool:
            actions, desc = actions_of(scenario)
            if desc != failure.desc or failure.action not in actions:
                return False
            at = actions.index(failure.action)
            if place == "middle":
                return first < at < len(actions) - 1
            return at == (first if place == "first" else len(actions) - 1)

        found = find(failing(), is_there, settings=limits)
        queries = [step.qmp.execute for step in found.steps if step.qmp and step.qmp.execute in QUERIES]
        assert queries == [*QUERIES, *QUERIES]
