"""What a judge says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from scenarios.run.history import History, Record

Outcome = Literal["valid", "invalid", "unknown"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: a sentence a person can follow, and the fewest records that show it."""

    explanation: str
    evidence: list[Record]


class Verdict(msgspec.Struct, frozen=True):
    """invalid if there are findings; unknown if the history does not hold what the judge needs,
    with the reason."""

    judge: str
    outcome: Outcome
    findings: list[Finding] = []
    reason: str = ""


Judge = Callable[[History], Verdict]
