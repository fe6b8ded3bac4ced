"""Does a transaction that fails change nothing that can be asked for?

What queries returned before it and after it must be equal, but for what moves by itself. Queries count only
if nothing that changes anything ran meanwhile: a scenario that wants to know asks right before and right
after.
"""

from __future__ import annotations

from typing import Any

from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import GuestOp, History, HmpExchange, MachineEnded, QmpExchange, Record

_NAME = "atomicity"
# Blocks that the file takes on the host, and whether a job's coroutine happens to run.
_MOVING = {"actual-size": "*", "busy": ("query-block-jobs", "query-jobs")}


def judge(history: History) -> Verdict:
    """valid as well where no transaction fails."""
    failed = [
        record
        for record in history.records
        if type(record) is QmpExchange and record.command == "transaction" and record.error_class is not None
    ]
    findings = [finding for record in failed for finding in _changes(history, record)]
    return Verdict(_NAME, "invalid" if findings else "valid", findings)


def _changes(history: History, failed: QmpExchange) -> list[Finding]:
    """One finding a query whose answer is another one afterwards."""
    before: dict[str, QmpExchange] = {}
    after: dict[str, QmpExchange] = {}
    low, high = -1, 1 << 62
    for record in history.records:
        if record is failed:
            continue
        if _may_change(record):
            # The time around the failure in which nothing else happened.
            end = high if record.end is None else record.end
            if record.begin > (failed.end or 0):
                high = min(high, record.begin)
            else:
                low = max(low, end)
        elif type(record) is QmpExchange and record.end is not None and record.error_class is None:
            key = f"{record.command} {sorted(record.arguments.items())}"
            if record.end < failed.begin:
                before[key] = record
            elif record.begin > (failed.end or 0):
                after.setdefault(key, record)
    findings = []
    for key, was in before.items():
        now = after.get(key)
        if now is None or was.begin < low or (now.end or high) > high:
            continue
        place = _difference(was.returns, now.returns, was.command, "$")
        if place:
            words = f"a transaction failed ({failed.error_desc}), yet {was.command} is another: {place}"
            findings.append(Finding(words, [was, failed, now]))
    return findings


def _may_change(record: Record) -> bool:
    if type(record) is QmpExchange:
        return not record.command.startswith("query-")
    if type(record) is GuestOp:
        return record.kind != "read"
    return type(record) in (HmpExchange, MachineEnded)


def _difference(was: Any, now: Any, command: str, place: str) -> str:
    """The first place where they differ, with both values; empty if they are equal."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            moving = _MOVING.get(key, ())
            if moving == "*" or command in moving:
                continue
            if key not in was or key not in now:
                return f"{place}.{key} has {'come' if key in now else 'gone'}"
            found = _difference(was[key], now[key], command, f"{place}.{key}")
            if found:
                return found
        return ""
    if isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            return f"{place} had {len(was)} items, now {len(now)}"
        pairs = enumerate(zip(was, now, strict=True))
        found_all = (_difference(one, other, command, f"{place}[{index}]") for index, (one, other) in pairs)
        return next(filter(None, found_all), "")
    return "" if was == now else f"{place} was {was!r}, now {now!r}"
