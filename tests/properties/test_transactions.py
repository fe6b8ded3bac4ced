"""A transaction that fails at any place changes nothing that can be seen; one that succeeds has one point in
time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, given, settings

from scenarios.explore.generator import cuts
from scenarios.explore.search import Holds, budget, seeds
from scenarios.explore.transactions import QUERIES, failing, failures
from scenarios.language.steps import Scenario


def test_a_failed_transaction_changes_nothing(backend: str, share: float) -> None:
    """Judged by judges/atomicity.py among others: what every query says before and after is equal."""

    holds = Holds(backend, "")

    @budget(int(150 * share))
    @given(scenario=failing(), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        holds(scenario, seed)

    all_hold()


@pytest.mark.parametrize("method", ["overlay", "snapshot-access"])
def test_all_disks_have_one_point_in_time(backend: str, share: float, method: str) -> None:
    holds, judged = Holds(backend, method), []

    @budget(int(60 * share))
    @given(scenario=cuts(method), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        result = holds(scenario, seed)
        judged.append(not any(line.startswith("point_in_time") for line in result.unknown))

    all_hold()
    # With too many requests in flight at T the judge gives up, and says so; that must not be the rule.
    assert sum(judged) > 0.5 * len(judged)


def actions_of(scenario: Scenario) -> tuple[list[dict[str, Any]], str]:
    """The transaction's actions, and the words of its failure."""
    [step] = [step.qmp for step in scenario.steps if step.qmp and step.qmp.execute == "transaction"]
    assert step.error is not None
    return step.arguments["actions"], step.error.contains or ""


def test_every_failure_is_drawn_at_every_place() -> None:
    """First, last and in between, on the machine that has what each of them needs."""
    drawn: set[tuple[str, str]] = set()

    @settings(budget(1000), phases=[Phase.generate])
    @given(scenario=failing())
    def look(scenario: Scenario) -> None:
        actions, desc = actions_of(scenario)
        queries = [step.qmp.execute for step in scenario.steps if step.qmp and step.qmp.execute in QUERIES]
        assert queries == [*QUERIES, *QUERIES]
        for disk in scenario.disks:
            for number, failure in enumerate(failures(disk)):
                if failure.desc == desc and failure.action in actions:
                    at, last = actions.index(failure.action), len(actions) - 1
                    first = 0 if failure.after is None else 1
                    places = {"first": at == first, "between": first < at < last, "last": at == last}
                    drawn.update((f"{number} {desc}", place) for place, is_it in places.items() if is_it)

    look()
    wanted = {f"{number} {failure.desc}" for number, failure in enumerate(failures("vda"))}
    assert drawn == {(failure, place) for failure in wanted for place in ("first", "between", "last")}
