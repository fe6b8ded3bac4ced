"""The second machine of a scenario, which its guest may go to, as a scenario of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from scenarios.language.steps import Scenario, Step


def scenario_of(scenario: Scenario) -> Scenario:
    """What the destination's session is made for: the same disks, and the steps that are done on it."""
    assert scenario.destination is not None
    return replace(
        scenario,
        incoming=True,
        destination=None,
        leaves=scenario.destination.leaves,
        steps=list(_steps_on_it(scenario.steps)),
    )


def _steps_on_it(steps: Sequence[Step]) -> Iterator[Step]:
    for step in steps:
        yield from step.destination or ()
        for lane in step.together or ():
            yield from _steps_on_it([lane] if isinstance(lane, Step) else lane)
