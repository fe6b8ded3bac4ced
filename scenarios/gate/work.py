"""Runs one case and puts what came of it into words."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from scenarios.backends.interface import Backend, SetupError
from scenarios.gate.case import Case, FindingText, Result
from scenarios.gate.evidence import LONGEST_LINE, describe_all
from scenarios.gate.known import entry_for

MOST_EVIDENCE = 12
MOST_STORY = 2000
LONGEST_TRANSCRIPT_LINE = 10_000

_opened: dict[str, Backend] = {}


def open_once(name: str) -> Backend:
    """The backend of that name, opened and probed once for each process (and inherited by forks).

    Raises SetupError, also for a name that no backend has.
    """
    if name not in _opened:
        from scenarios.backends.registry import open_backend

        backend = open_backend(name)
        backend.probe()
        _opened[name] = backend
    return _opened[name]


def run_shared(case: Case) -> Result:
    """Run a case in a machine that others have used, where it can be. A finding is run again in a machine of
    its own: if that shows it too, it is as any other; if not, `company` names those that had run before."""
    result = run_one(case, fresh=False)
    company = open_once(case.backend).company if result.outcome == "finding" else None
    if company is None:
        return result
    alone = run_one(case)
    if alone.outcome == "finding":
        return alone
    return msgspec.structs.replace(result, company=list(company))


def end_shared() -> list[str]:
    """End the machines that `run_shared` has left for others: what was wrong with that, in words."""
    return [f"{name}: {words}" for name, backend in _opened.items() for words in backend.end_shared()]


def run_one(case: Case, keep_story: bool = False, fresh: bool = True) -> Result:
    """Run a case. Whatever goes wrong with the backend, or with goldenfleece itself, is outcome "broken"."""
    from scenarios.run.runner import run_case

    begin = time.monotonic()
    try:
        done: Any = run_case(case.scenario, open_once(case.backend), case.method, case.seed, fresh)
    except SetupError as error:
        return _result(case, "broken", time.monotonic() - begin, str(error))
    except Exception as error:
        return _result(case, "broken", time.monotonic() - begin, _own_fault(error))
    findings = [
        FindingText(verdict.judge, finding.explanation, describe_all(finding.evidence, MOST_EVIDENCE))
        for verdict in done.verdicts
        for finding in verdict.findings
    ]
    unknown = [
        f"{verdict.judge}: {verdict.reason}" for verdict in done.verdicts if verdict.outcome == "unknown"
    ]
    story: list[str] = []
    if done.history and (keep_story or done.outcome == "finding"):
        # A person looks at a replay; the transcript of a finding is a file.
        longest = LONGEST_LINE if keep_story else LONGEST_TRANSCRIPT_LINE
        story = describe_all(done.history.of_both(), MOST_STORY, longest)
    result = _result(case, done.outcome, done.seconds, done.reason, findings, unknown, story)
    return _as_known(case, result)


def _as_known(case: Case, result: Result) -> Result:
    """A finding that the list of known ones explains in full becomes "known"; one that should show and
    does not is named as fixed."""
    known = entry_for(case.label, case.method, case.backend, open_once(case.backend).version)
    if known is None:
        return result
    if result.outcome == "finding" and {finding.judge for finding in result.findings} == set(known.judges):
        return msgspec.structs.replace(result, outcome="known", reason=f"{known.id}: {known.reason.strip()}")
    if result.outcome == "holds" and not known.sometimes:
        return msgspec.structs.replace(result, fixed=known.id)
    return result


def broken(case: Case, reason: str, seconds: float = 0.0) -> Result:
    """The result of a case that never came back."""
    return _result(case, "broken", seconds, reason)


def _result(
    case: Case,
    outcome: Any,
    seconds: float,
    reason: str = "",
    findings: list[FindingText] | None = None,
    unknown: list[str] | None = None,
    story: list[str] | None = None,
) -> Result:
    return Result(
        spec=case.scenario.path,
        name=case.scenario.name,
        backend=case.backend,
        method=case.method,
        seed=case.seed,
        outcome=outcome,
        seconds=round(seconds, 6),
        reason=reason,
        findings=findings or [],
        unknown=unknown or [],
        story=story or [],
    )


def _own_fault(error: Exception) -> str:
    """An error of goldenfleece itself: the last frames tell where."""
    import traceback

    frames = traceback.format_exception(error)
    return f"goldenfleece itself failed: {error!r}\n" + "".join(frames[-4:])
