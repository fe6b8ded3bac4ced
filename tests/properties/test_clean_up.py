"""From any state that is reached, the ending leaves nothing: no job, node, export, bitmap, file, process."""

from __future__ import annotations

import pytest
from hypothesis import given

from scenarios.explore.generator import limits_for, scenarios
from scenarios.explore.search import Holds, budget, seeds
from scenarios.language.steps import Scenario


@pytest.mark.parametrize("method", ["overlay", "snapshot-access"])
@pytest.mark.parametrize(
    "features",
    [
        ("leave", "stop-server", "bitmap"),
        ("crash", "quit", "refused", "leave"),
        ("race", "race-points", "target"),
    ],
    ids=["endings", "deaths", "races"],
)
def test_nothing_is_left(backend: str, share: float, method: str, features: tuple[str, ...]) -> None:
    holds = Holds(backend, method)

    @budget(max(4, int(40 * share)))
    @given(scenario=scenarios(method, limits_for(method, always=frozenset(features))), seed=seeds)
    def all_hold(scenario: Scenario, seed: int) -> None:
        result = holds(scenario, seed)
        assert not any(line.startswith("nothing_left") for line in result.unknown)

    all_hold()
