"""A property of any scenario: it holds. What does not is told as a spec file and the command that repeats it.

Budgets: profile "ci" draws the same examples each time and keeps none; "explore" (HYPOTHESIS_PROFILE=explore) draws
others each time, ten times as many, and keeps what failed for the next time.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

from scenarios.backends.interface import Backend
from scenarios.gate.case import Case, Result
from scenarios.gate.report import FINDINGS, repeat_command, write_reproducer
from scenarios.gate.work import result_of
from scenarios.language.steps import Scenario
from scenarios.run.runner import CaseResult, run_case

EXPLORE = "explore"
_MORE = 10

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
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def budget(examples: int) -> settings:
    """Settings of a property that draws so many examples in a run of all tests."""
    profile = EXPLORE if os.environ.get("HYPOTHESIS_PROFILE") == EXPLORE else "ci"
    more = _MORE if profile == EXPLORE else 1
    return settings(settings.get_profile(profile), max_examples=examples * more)


class DoesNotHoldError(AssertionError):
    """str() says what was found, where the scenario was written, and how to repeat it."""

    def __init__(self, result: Result, path: Path, repeat: str) -> None:
        lines = [f"{result.outcome} on {result.backend} with seed {result.seed}: {result.reason}"]
        for finding in result.findings:
            lines += [f"{finding.judge}: {finding.explanation}", *(f"  {line}" for line in finding.evidence)]
        lines += ["", path.read_text(encoding="utf-8"), f"scenario: {path}", repeat]
        super().__init__("\n".join(lines))
        self.result, self.path, self.repeat = result, path, repeat


def holds(
    scenario: Scenario, backend: Backend, method: str | None, seed: int, folder: Path = FINDINGS
) -> CaseResult:
    """Run and judge it. Raises DoesNotHoldError; the last one raised in a search is that of the smallest example,
    which the file then holds."""
    done = run_case(scenario, backend, method, seed)
    if done.outcome == "holds":
        return done
    case = Case(scenario, backend.name, method or "", seed)
    result = result_of(case, done)
    path = write_reproducer(case, result, folder)
    raise DoesNotHoldError(result, path, repeat_command(case, path))
