"""Jobs that end together (JobTxn, job.c, 7.2): all succeed, or all are cancelled.

A job that belongs to no group has a JobTxn of its own, so that there is one way for a job to end.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.jobs.job import Job


class JobTxn:
    """`jobs` newest first, the order in which they are finalized."""

    __slots__ = ("aborting", "jobs")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.aborting = False

    def add(self, job: Job) -> None:
        self.jobs.insert(0, job)

    def remove(self, job: Job) -> None:
        self.jobs.remove(job)

    async def succeeded(self, job: Job) -> None:
        """`job` is through without an error (job_completed_txn_success): when all are, they become pending;
        when none of them is to be finalized by hand, they are finalized."""
        job.set_status("waiting")
        if not all(other.is_completed() for other in self.jobs):
            return
        for other in list(self.jobs):
            other.set_status("pending")
            if not other.auto_finalize:
                other.announce_pending()
        if all(other.auto_finalize for other in self.jobs):
            await self.finalize(job)

    async def finalize(self, job: Job) -> None:
        """job_do_finalize: all prepare; the first that fails takes all others with it."""
        for other in list(self.jobs):
            if not await other.prepare_to_end():
                await self.failed(job)
                return
        for other in list(self.jobs):
            await other.end()

    async def failed(self, job: Job) -> None:
        """`job` failed or was cancelled (job_completed_txn_abort): cancel the others and end all, newest
        first."""
        if self.aborting:
            # Another member failed first and sees to everything.
            return
        self.aborting = True
        for other in self.jobs:
            if other is not job:
                other.mark_cancelled(force=True)
        while self.jobs:
            other = self.jobs[0]
            if not other.is_completed() and (other.started or other.jobs.rules.group_rollback_hangs):
                await other.until_completed()
            await other.end()
