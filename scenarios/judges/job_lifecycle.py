"""Does every job live the life that QEMU's own table allows, and die once?

From JOB_STATUS_CHANGE events, job by job: each change is a legal move; a block job that has started
says once, and not again, that it has completed or was cancelled, before it is concluded; at the end
it is null, unless the spec says that it may be left, or the machine ended under it.
"""

from __future__ import annotations

from typing import Any

from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import History, MachineEnded, QmpEvent, QmpExchange, Record

_NAME = "job_lifecycle"

# job.c, JobSTT, 7.2; the same in 5.2 and 10.0. A move from a status to itself is never announced.
NEXT: dict[str, tuple[str, ...]] = {
    "undefined": ("created",),
    "created": ("running", "aborting", "null"),
    "running": ("paused", "ready", "waiting", "aborting"),
    "paused": ("running",),
    "ready": ("standby", "waiting", "aborting"),
    "standby": ("ready",),
    "waiting": ("pending", "aborting"),
    "pending": ("aborting", "concluded"),
    "aborting": ("concluded",),
    "concluded": ("null",),
    "null": (),
}
_ENDINGS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")
# Commands whose jobs are no block jobs: these have no BLOCK_JOB_* events (block/create.c:47, 7.2).
_OTHER_JOBS = ("blockdev-create", "x-blockdev-amend", "snapshot-save", "snapshot-load", "snapshot-delete")


class _Job:
    """One life of one id. `endings` are its BLOCK_JOB_COMPLETED and BLOCK_JOB_CANCELLED events."""

    def __init__(self) -> None:
        self.status = "undefined"
        self.last: Record | None = None
        self.started = False
        self.endings: list[QmpEvent] = []


def judge(history: History) -> Verdict:
    judging = _Judging(history)
    for record in history.records:
        if type(record) is QmpEvent:
            judging.event(record)
        elif type(record) is QmpExchange:
            judging.exchange(record)
        elif type(record) is MachineEnded:
            judging.end(record)
    judging.end(None)
    return Verdict(_NAME, "invalid" if judging.findings else "valid", judging.findings)


class _Judging:
    def __init__(self, history: History) -> None:
        self.findings: list[Finding] = []
        self._leaves = history.leaves
        self._jobs: dict[str, _Job] = {}
        self._others: set[str] = set()
        self._told_to_quit = False

    def exchange(self, record: QmpExchange) -> None:
        if record.command in _OTHER_JOBS:
            self._others.add(str(record.arguments.get("job-id", "")))
        elif record.command == "quit" and record.error_class is None:
            # The runner's own quit comes when all should be over; that of a step ends whatever there is.
            if not record.step:
                self._all_null("when the machine was told to quit")
            self._told_to_quit = True

    def event(self, record: QmpEvent) -> None:
        if record.name == "JOB_STATUS_CHANGE":
            self._change(record, str(record.data.get("id")), str(record.data.get("status")))
        elif record.name in _ENDINGS:
            self._ending(record, record.data)

    def end(self, record: MachineEnded | None) -> None:
        """The machine's end, or the history's."""
        if record is None and not self._told_to_quit:
            self._all_null("at the end")
        self._told_to_quit = self._told_to_quit and record is None
        self._jobs.clear()

    def _change(self, record: QmpEvent, name: str, status: str) -> None:
        job = self._jobs.get(name)
        if job is None or (job.status == "null" and status == "created"):
            job = self._jobs[name] = _Job()
        if status not in NEXT.get(job.status, ()):
            self._found(f"job {name} goes from {job.status} to {status}, which no job may", job, record)
        if status == "running":
            job.started = True
        if status == "concluded" and job.started and name not in self._others and not job.endings:
            self._found(f"job {name} is concluded and has neither completed nor been cancelled", job, record)
        job.status, job.last = status, record

    def _ending(self, record: QmpEvent, data: dict[str, Any]) -> None:
        name = str(data.get("device"))
        job = self._jobs.get(name)
        if job is None:
            # A machine whose jobs have no status events (QEMU before 2.12, or a history that begins late).
            return
        if job.endings:
            self.findings.append(Finding(f"job {name} ends twice", [job.endings[0], record]))
        elif job.status in ("concluded", "null"):
            self._found(f"job {name} ends after it was {job.status}", job, record)
        elif not job.started:
            self._found(f"job {name} ends and has never started", job, record)
        job.endings.append(record)

    def _all_null(self, when: str) -> None:
        for name, job in self._jobs.items():
            if job.status != "null" and f"job:{name}" not in self._leaves:
                words = f"job {name} is still {job.status} {when}"
                self.findings.append(Finding(words, [job.last] if job.last else []))

    def _found(self, words: str, job: _Job, record: Record) -> None:
        self.findings.append(Finding(words, [job.last, record] if job.last else [record]))
