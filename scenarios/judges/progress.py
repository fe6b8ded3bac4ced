"""Does what a job tells of its progress only grow?

By queries and by events, each for itself: an event can be older than a reply that came with it. A query
counts as later than another one if it was sent when that had been answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import History, MachineEnded, QmpEvent, QmpExchange, Record

_NAME = "progress"
# Which members of an answer or an event name the job and tell how far it is.
_QUERIES = {"query-jobs": ("id", "current-progress"), "query-block-jobs": ("device", "offset")}
_EVENTS = ("BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")


def judge(history: History) -> Verdict:
    findings: list[Finding] = []
    furthest: dict[tuple[str, str], list[tuple[int, Record]]] = {}
    for record in history.records:
        if type(record) is MachineEnded:
            furthest.clear()
        elif type(record) is QmpEvent and record.data.get("status") == "created":
            for source in (*_QUERIES, "events"):
                furthest.pop((source, str(record.data.get("id"))), None)
        for source, job, value in _told(record):
            earlier = furthest.setdefault((source, job), [])
            back = next((each for each in earlier if each[0] > value and _is_before(each[1], record)), None)
            if back is not None:
                words = f"job {job} was at {back[0]}, and goes back to {value}"
                findings.append(Finding(words, [back[1], record]))
            earlier.append((value, record))
    return Verdict(_NAME, "invalid" if findings else "valid", findings)


def _is_before(one: Record, other: Record) -> bool:
    return one.end is not None and one.end < other.begin


def _told(record: Record) -> Iterator[tuple[str, str, int]]:
    """(where it was told, job, how far it is)"""
    if type(record) is QmpExchange and record.command in _QUERIES and isinstance(record.returns, list):
        name, offset = _QUERIES[record.command]
        for each in record.returns:
            yield from _value(record.command, each, name, offset)
    elif type(record) is QmpEvent and record.name in _EVENTS:
        yield from _value("events", record.data, "device", "offset")


def _value(source: str, told: Any, name: str, offset: str) -> Iterator[tuple[str, str, int]]:
    if isinstance(told, dict) and isinstance(told.get(offset), int):
        yield source, str(told.get(name)), told[offset]
