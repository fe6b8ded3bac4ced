"""The job that makes an image (block/create.c, 7.2). It is always dismissed by hand, and has no BLOCK_JOB_*
events."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.jobs.creators import CREATABLE, create
from simulator.jobs.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


class CreateJob(Job):
    """`options` as in BlockdevCreateOptions."""

    job_type = "create"

    __slots__ = ("options",)

    def __init__(self, jobs: Jobs, job_id: str, txn: JobTxn, options: dict[str, Any]) -> None:
        super().__init__(jobs, job_id, txn, auto_dismiss=False)
        self.options = options

    async def run(self) -> None:
        self.progress.set_remaining(1)
        try:
            await create(self.jobs.graph, self.options["driver"], self.options)
        finally:
            self.progress.work_done(1)


def start_create(jobs: Jobs, job_id: str, options: dict[str, Any]) -> None:
    """Raises QmpError if there is to be no job at all."""
    if options["driver"] not in CREATABLE:
        raise QmpError("Driver does not support blockdev-create")

    def make(checked_id: str, txn: JobTxn) -> CreateJob:
        return CreateJob(jobs, checked_id, txn, options)

    jobs.add(job_id, make).start()
