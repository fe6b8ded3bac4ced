"""Judges, one a file, found by their place: a module here with a function `judge(history) -> Verdict`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.judges.verdict import Judge, Verdict
    from scenarios.run.history import History


@cache
def judges() -> dict[str, Judge]:
    """All judges by the name of their file, sorted."""
    found: dict[str, Judge] = {}
    for each in sorted(pkgutil.iter_modules([str(Path(__file__).parent)]), key=lambda module: module.name):
        judge = getattr(import_module(f"{__name__}.{each.name}"), "judge", None)
        if judge is not None:
            found[each.name] = judge
    return found


def judge_all(history: History) -> list[Verdict]:
    """The verdict of every judge, over the machines of a run together."""
    if history.destination is None:
        return [judge(history) for judge in judges().values()]
    return [_join(judge(history), judge(history.destination)) for judge in judges().values()]


def _join(one: Verdict, other: Verdict) -> Verdict:
    """Of one judge over two machines: what is wrong with either counts, then what cannot be told."""
    from scenarios.judges.verdict import Verdict

    outcomes = {one.outcome, other.outcome}
    worst = next(each for each in ("invalid", "unknown", "valid") if each in outcomes)
    return Verdict(one.judge, worst, [*one.findings, *other.findings], one.reason or other.reason)
