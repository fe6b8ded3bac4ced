"""Runs one scenario on one backend and has what happened judged. Knows no event loop: it awaits
what a session gives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import msgspec

from scenarios.backends.interface import (
    Backend,
    DeadlinePassed,
    MachineGone,
    NbdFailed,
    QmpRefused,
    Session,
    SetupError,
)
from scenarios.judges import judge_all
from scenarios.judges.verdict import Verdict
from scenarios.language import destination
from scenarios.language.steps import Scenario, Step
from scenarios.run.clean_up import clean_up
from scenarios.run.execution import Execution, NotAsExpectedError, Where, note_missed, words_of
from scenarios.run.features import SESSION_FEATURES, Features, needs
from scenarios.run.history import History, Unexpected
from scenarios.run.steps import all_verbs
from scenarios.run.substitute import UnknownNameError

Outcome = Literal["holds", "finding", "not-applicable", "broken"]

_VERBS = all_verbs()
# Features of the backend that was asked last: making them takes longer than many a scenario.
_features: dict[str, tuple[frozenset[str], int, Features]] = {}


class CaseResult(msgspec.Struct, kw_only=True):
    """What came of a run. `method` is "" for none; `reason` is empty if it holds. `seconds` are the
    host's. `company`: the scenarios that had run in the same machine before; None: it had its own."""

    scenario: str
    path: str
    backend: str
    method: str
    seed: int
    outcome: Outcome
    seconds: float
    reason: str = ""
    verdicts: list[Verdict] = []
    history: History | None = None
    company: Sequence[str] | None = None


def run_case(
    scenario: Scenario, backend: Backend, method: str | None, seed: int, fresh: bool = True
) -> CaseResult:
    """Probe, run, judge. A backend that does not work is "broken"; nothing is raised for what a
    machine does. Not `fresh`: as Backend.run; after a finding nobody else uses the machine."""
    began = time.perf_counter()
    result = CaseResult(
        scenario=scenario.name,
        path=scenario.path,
        backend=backend.name,
        method=method or "",
        seed=seed,
        outcome="holds",
        seconds=0.0,
    )
    try:
        features = features_of(backend)
        missing = features.missing(needs(scenario, method or None))
        if missing:
            result.outcome, result.reason = "not-applicable", _tell_missing(missing)
        else:
            result.history = record(scenario, backend, method or None, seed, features, fresh)
            result.company = backend.company
            result.verdicts = judge_all(result.history)
            _conclude(result)
            if result.outcome == "finding":
                backend.retire_shared()
    except SetupError as error:
        result.outcome, result.reason = "broken", str(error)
    result.seconds = time.perf_counter() - began
    return result


def features_of(backend: Backend) -> Features:
    """Raises SetupError."""
    session_features, introspection = backend.probe()
    cached = _features.get(backend.name)
    if cached is None or cached[:2] != (session_features, len(introspection)):
        cached = (session_features, len(introspection), Features(session_features, introspection))
        _features[backend.name] = cached
    return cached[2]


def record(
    scenario: Scenario,
    backend: Backend,
    method: str | None,
    seed: int,
    features: Features,
    fresh: bool = True,
) -> History:
    """Run it and return what happened, unjudged. Raises SetupError."""
    history = History(
        scenario=scenario.name,
        backend=backend.name,
        method=method or "",
        seed=seed,
        leaves=list(scenario.leaves),
    )

    async def body(session: Session) -> None:
        history.introspection = session.introspection
        history.directory = str(session.directory)
        x = Execution(scenario, session, history, method, features)
        await begin(x)
        if scenario.destination is not None and session.second is not None:
            x.begin_second(destination.scenario_of(scenario), session.second, scenario.destination.images)
            assert x.second is not None
            await begin(x.second)
            x.stopped |= x.second.stopped
        await run_steps(x, scenario.steps, "")
        await clean_up(x)

    try:
        backend.run(scenario, seed, body, fresh)
    except DeadlinePassed as error:
        note_missed(history, error)
    except (QmpRefused, MachineGone) as error:
        now = history.tick()
        wanted = "a machine that others have used to take the scenario's disks"
        history.records.append(
            Unexpected(begin=now, end=now, verb="disks", line=0, wanted=wanted, got=words_of(error))
        )
    _mark_destination(history)
    return history


def _mark_destination(history: History) -> None:
    """Its records say so themselves, for whoever reads them among others."""
    if history.destination is not None:
        of_first = {id(record) for record in history.records}
        for record in history.destination.records:
            if id(record) not in of_first:
                record.machine = "destination"


async def begin(x: Execution) -> None:
    """What comes before the first step."""
    await guarded(x, Where(), x.session.ready())
    if not x.stopped:
        await guarded(x, Where(), x.note_nodes())


async def run_steps(x: Execution, steps: Sequence[Step], prefix: str, racing: bool = False) -> None:
    """Steps in their order, until one goes wrong anywhere. Paths count from 1, as people do."""
    for index, step in enumerate(steps, 1):
        await run_step(x, step, f"{prefix}.{index}" if prefix else str(index), racing)


async def run_step(x: Execution, step: Step, path: str, racing: bool = False) -> None:
    """One step, unless something has gone wrong before."""
    if not x.stopped:
        verb = step.verb
        where = Where(path, step.line, verb, racing)
        await guarded(x, where, _VERBS[verb](x, getattr(step, verb), where))


async def guarded(x: Execution, where: Where, act: object) -> None:
    """Await a step; what goes wrong becomes a record, unless the scenario itself ended the machine
    meanwhile."""
    ends = x.ends
    try:
        await act  # type: ignore[misc]
    except MachineGone:
        if x.ends == ends or not where.racing:
            await x.gone(where)
    except DeadlinePassed as error:
        await x.missed(where, error)
    except NotAsExpectedError as error:
        if x.ends == ends or not where.racing or where.verb in ("crash", "ends", "quit"):
            x.unexpected(where, error.wanted, error.got)
    except UnknownNameError as error:
        x.unexpected(where, "names that are known", str(error))
    except (QmpRefused, NbdFailed) as error:
        if x.ends == ends or not where.racing:
            x.unexpected(where, "success", words_of(error))


def _conclude(result: CaseResult) -> None:
    bad = [verdict for verdict in result.verdicts if verdict.outcome == "invalid"]
    if bad:
        result.outcome = "finding"
        result.reason = "; ".join(f"{verdict.judge}: {len(verdict.findings)}" for verdict in bad)


def _tell_missing(missing: Sequence[str]) -> str:
    words = [f"{each} ({SESSION_FEATURES[each]})" if each in SESSION_FEATURES else each for each in missing]
    return f"needs {', '.join(words)}"
