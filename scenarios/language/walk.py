"""All steps of a spec, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable

from scenarios.language.steps import Step


def walk(steps: Iterable[Step]) -> Iterable[Step]:
    """All steps, those inside `together` and `destination` after it."""
    for step in steps:
        yield step
        yield from walk(step.destination or ())
        for lane in step.together or ():
            yield from walk([lane] if isinstance(lane, Step) else lane)
