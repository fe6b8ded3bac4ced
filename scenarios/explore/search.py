"""A property of any scenario: it holds. What does not is told as a spec file and the command that repeats it.

Budgets: profile "ci" draws the same examples each time and keeps none; "explore" (HYPOTHESIS_PROFILE=explore)
draws others each time, ten times as many, and keeps what failed for the next time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NoReturn

from hypothesis import HealthCheck, Phase, reject, settings
from hypothesis import strategies as st

from scenarios.explore.generator import cuts, limits_for, meetings, scenarios
from scenarios.explore.transactions import failing
from scenarios.gate.case import Case, Result
from scenarios.gate.report import FINDINGS, repeat_command, write_reproducer
from scenarios.gate.work import run_one
from scenarios.language.steps import Scenario
from scenarios.language.writer import write

EXPLORE = "explore"
LONGEST_SHRINKING_S = 15.0
_TIMES_MORE = 10

# Not Phase.explain: it traces every line, and what explains a failure here is the judges' finding.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)

settings.register_profile(
    "ci",
    phases=_PHASES,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    EXPLORE,
    phases=_PHASES,
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


class Holds:
    """Called with a scenario and a seed: it must hold on a backend, with a method ("": none).

    Once something was found, a search for a smaller example gets `shrinking_s` seconds; after that every
    example but those known to fail is passed over. A machine in real time need not fail twice: what has
    failed once is told again without being run.
    """

    def __init__(
        self, backend: str, method: str, folder: Path = FINDINGS, shrinking_s: float = LONGEST_SHRINKING_S
    ) -> None:
        self.backend, self.method, self.folder = backend, method, folder
        self._shrinking_s = shrinking_s
        self._found: dict[tuple[str, int], Result] = {}
        self._until_s: float | None = None

    def __call__(self, scenario: Scenario, seed: int) -> Result:
        """Raises DoesNotHoldError, also for what is broken or does not apply here. A search raises for its
        smallest example last, so that this is what the file holds in the end."""
        case = Case(scenario, self.backend, self.method, seed)
        key = write(scenario), seed
        if key in self._found:
            self._tell(case, self._found[key])
        if self._until_s is not None and time.monotonic() > self._until_s:
            reject()
        result = run_one(case)
        if result.outcome != "holds":
            if self._until_s is None:
                self._until_s = time.monotonic() + self._shrinking_s
            self._found[key] = result
            self._tell(case, result)
        return result

    def _tell(self, case: Case, result: Result) -> NoReturn:
        path = write_reproducer(case, result, self.folder)
        raise DoesNotHoldError(result, path, repeat_command(case, path))
