"""Is everything gone that fleecing made: jobs, nodes, exports, bitmaps, connections, files,
processes, the server?

The runner looks when all points in time have ended and again when the machine has; what it found
and the spec does not allow is a record each.
"""

from __future__ import annotations

from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import History, Residue

_NAME = "nothing_left"


def judge(history: History) -> Verdict:
    findings = [Finding(_tell(each), [each]) for each in history.of(Residue)]
    return Verdict(_NAME, "invalid" if findings else "valid", findings)


def _tell(residue: Residue) -> str:
    detail = f" ({residue.detail})" if residue.detail else ""
    return f"{residue.kind} {residue.name}{detail} is left"
