"""A property of any scenario: it holds. What does not is told as a spec file and the command that repeats it.

Budgets: profile "ci" draws the same examples each time and keeps none; "explore" (HYPOTHESIS_PROFILE=explore) draws
others each time, ten times as many, and keeps what failed for the next time.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from scenarios.explore.generator import cuts, limits_for, meetings, scenarios
from scenarios.explore.transactions import failing
from scenarios.gate.case import Case, Result
from scenarios.gate.report import FINDINGS, repeat_command, write_reproducer
from scenarios.gate.work import run_one
from scenarios.language.steps import Scenario

EXPLORE = "explore"
_TIMES_MORE = 10

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    EXPLORE,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# What decides who runs next on the simulator; 0 is first come, first served.
seeds = st.integers(0, (1 << 32) - 1)


def budget(examples: int) -> settings:
    """Settings of a property that draws so many examples in a run of all tests."""
    exploring = os.environ.get("HYPOTHESIS_PROFILE") == EXPLORE
    profile = settings.get_profile(EXPLORE if exploring else "ci")
    return settings(profile, max_examples=examples * (_TIMES_MORE if exploring else 1))


def scenarios_to_find(search: str, features: tuple[str, ...] = ()) -> tuple[st.SearchStrategy[Scenario], str]:
    """The strategy of one of bugs.SEARCHES, and the method its scenarios run with ("": none)."""
    if search == "transaction":
        return failing(), ""
    if search == "cut":
        return cuts("overlay"), "overlay"
    method = search.removeprefix("meeting-")
    if method != search:
        return meetings(method), method
    return scenarios(method, limits_for(method, always=frozenset(features))), method


class DoesNotHoldError(AssertionError):
    """str() says what was found, the scenario, where it was written, and how to repeat it."""

    def __init__(self, result: Result, path: Path, repeat: str) -> None:
        lines = [f"{result.outcome} on {result.backend} with seed {result.seed}: {result.reason}"]
        for finding in result.findings:
            lines += [f"{finding.judge}: {finding.explanation}", *(f"  {line}" for line in finding.evidence)]
        lines += ["", path.read_text(encoding="utf-8"), f"scenario: {path}", f"repeat: {repeat}"]
        super().__init__("\n".join(lines))
        self.result, self.path, self.repeat = result, path, repeat


def holds(scenario: Scenario, backend: str, method: str, seed: int, folder: Path = FINDINGS) -> Result:
    """Run and judge it. Raises DoesNotHoldError, also for what is broken or does not apply here. A search raises for
    its smallest example last, so that this is what the file holds in the end."""
    case = Case(scenario, backend, method, seed)
    result = run_one(case)
    if result.outcome == "holds":
        return result
    path = write_reproducer(case, result, folder)
    raise DoesNotHoldError(result, path, repeat_command(case, path))
