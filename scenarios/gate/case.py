"""What a gate runs and what comes of it: one case is one spec on one backend with one method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from scenarios.language.loader import find_specs, load_file
from scenarios.language.problems import Problem, SpecError
from scenarios.language.steps import Scenario

Outcome = Literal["holds", "finding", "known", "not-applicable", "broken"]

SPECS = Path(__file__).resolve().parents[1] / "specs"


class Case(msgspec.Struct, frozen=True):
    """`method` is "" for a spec that names none. `seed` is the spec's own, else the one of the command
    line."""

    scenario: Scenario
    backend: str
    method: str
    seed: int

    @property
    def label(self) -> str:
        """The spec's place below scenarios/specs, or its path, without the ending."""
        path = Path(self.scenario.path)
        with suppress(ValueError):
            path = path.resolve().relative_to(SPECS)
        return str(path.with_suffix("")) if self.scenario.path else self.scenario.name


class FindingText(msgspec.Struct, frozen=True):
    """What one judge found, in words; `evidence` is one line a record."""

    judge: str
    explanation: str
    evidence: list[str] = []


class Result(msgspec.Struct, frozen=True):
    """What came of one case, small enough to be sent between processes. This is also a line of --json.

    `reason` says why it is not applicable or broken, or what is known of a known finding. `fixed` names
    the known finding that did not show although it should have. `unknown` holds judges that could not
    tell, with reasons. `story` is the run record by record, of a replay or a finding. `company`: files of
    the specs that had run in the same machine before, oldest first, where the finding shows only in that one.
    """

    spec: str
    name: str
    backend: str
    method: str
    seed: int
    outcome: Outcome
    seconds: float
    reason: str = ""
    fixed: str = ""
    findings: list[FindingText] = []
    unknown: list[str] = []
    story: list[str] = []
    company: list[str] | None = None


def load_specs(paths: Iterable[str | Path]) -> list[Scenario]:
    """Every spec in these files and folders. Raises SpecError with the problems of all of them."""
    scenarios: list[Scenario] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found = find_specs(_short(path))
        except FileNotFoundError as error:
            problems.append(Problem(str(path), 1, "", str(error).partition(": ")[2]))
            continue
        for file in found:
            try:
                scenarios.append(load_file(file))
            except SpecError as error:
                problems += error.problems
    if problems:
        raise SpecError(problems)
    return scenarios


def _short(path: str | Path) -> Path:
    """Relative to the current folder where the path is inside it: this is what people read and type."""
    try:
        return Path(path).resolve().relative_to(Path.cwd())
    except ValueError:
        return Path(path)


def plan(
    scenarios: Sequence[Scenario], backends: Sequence[str], methods: Sequence[str], seed: int
) -> list[Case]:
    """All cases, those of one spec together. `methods` restricts specs that have methods; empty: all they
    name."""
    return [
        Case(scenario, backend, method, seed if scenario.seed is None else scenario.seed)
        for scenario in scenarios
        for method in methods_of(scenario, methods)
        for backend in backends
    ]


def methods_of(scenario: Scenario, wanted: Sequence[str]) -> list[str]:
    """The methods to run a spec with: [""] for one that names none, unless only certain methods are
    wanted."""
    if not scenario.methods:
        return [] if wanted else [""]
    return [method for method in scenario.methods if not wanted or method in wanted]
