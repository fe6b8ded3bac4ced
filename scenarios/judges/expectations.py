"""Did every step do what its spec says, in time, and did the machine live as long as it was meant to?"""

from __future__ import annotations

from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import History, MachineEnded, Missed, Record, Stacks, Unexpected

_NAME = "expectations"
_LAST_WORDS = 2000


def judge(history: History) -> Verdict:
    findings = []
    records = history.records
    for index, record in enumerate(records):
        words = _wrong(record)
        if words:
            stacks = [each for each in records[index + 1 : index + 2] if type(each) is Stacks]
            findings.append(Finding(words, [record, *stacks]))
    return Verdict(_NAME, "invalid" if findings else "valid", findings)


def _wrong(record: Record) -> str:
    """What is wrong with it; empty if nothing is."""
    if type(record) is Unexpected:
        line = f", line {record.line}" if record.line else ""
        where = f"step {record.step} ({record.verb}{line})" if record.step else record.verb
        return f"{where}: wanted {record.wanted}, got {record.got}"
    if type(record) is Missed:
        where = f"step {record.step}: " if record.step else ""
        return f"{where}waited {record.timeout_ns / 1e9:g} s for {record.waited_for}"
    if type(record) is MachineEnded and not record.expected:
        said = record.stderr.strip()[-_LAST_WORDS:] or "(nothing)"
        return f"the machine ended {_status(record.status)}; its standard error: {said}"
    return ""


def _status(status: int | None) -> str:
    if status is None:
        return "in an unknown way"
    return f"by signal {-status}" if status < 0 else f"with status {status}"
