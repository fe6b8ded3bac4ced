"""All jobs of a machine."""

from __future__ import annotations

from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.block.ids import well_formed_id
from simulator.engine.task import WaitQueue
from simulator.jobs.txn import JobTxn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node
    from simulator.engine.outbox import Outbox
    from simulator.engine.scheduler import Scheduler
    from simulator.jobs.block_job import BlockJob
    from simulator.jobs.job import Job
    from simulator.jobs.rules import JobRules


class Jobs:
    """`by_age` newest first, as query-jobs lists them. `changed` is woken whenever a job changes or goes
    idle. `ending` counts the jobs that are being brought to their end."""

    __slots__ = ("_exits", "by_age", "changed", "emit", "ending", "graph", "outbox", "rules", "scheduler")

    def __init__(self, graph: Graph, outbox: Outbox, rules: JobRules) -> None:
        self.graph = graph
        self.outbox = outbox
        self.emit: Callable[[str, dict[str, Any]], None] = outbox.emit
        self.scheduler: Scheduler = graph.scheduler
        self.rules = rules
        self.by_age: list[Job] = []
        self.changed = WaitQueue("a job to get on")
        self.ending = 0

    def add(self, job_id: str | None, make: Callable[[str, JobTxn], Job], txn: JobTxn | None = None) -> Job:
        """Make a job by `make(id, txn)` and list it as created (job_create). Raises QmpError on a bad or
        used id."""
        if job_id is None:
            raise QmpError("An explicit job ID is required")
        if not well_formed_id(job_id):
            raise QmpError(f"Invalid job ID '{job_id}'")
        if self.find(job_id) is not None:
            raise QmpError(f"Job ID '{job_id}' already in use")
        if txn is None:
            txn = JobTxn()
        job = make(job_id, txn)
        job.set_status("created")
        self.by_age.insert(0, job)
        txn.add(job)
        return job

    def forget(self, job: Job) -> None:
        self.by_age.remove(job)

    def schedule_exit(self, job: Job) -> None:
        """Let the main loop see to a job whose coroutine has ended. Of jobs that end in one turn of it the
        last comes first: QEMU keeps what is to be done (BHs, util/async.c) in a stack."""
        self.scheduler.enter(self._end(job), f"end of job '{job.id}'")

    async def _end(self, job: Job) -> None:
        await self.scheduler.loop_turn
        self.ending += 1
        try:
            await job.exit()
        finally:
            self.ending -= 1
            self.changed.wake_all()

    async def main_loop_free(self) -> None:
        """Until no job is being brought to its end. QEMU does that within one turn of its main loop,
        polling for what it needs, so no command ever meets a job half finalized: wait for this before
        running one."""
        while self.ending:
            await self.changed.wait()

    def find(self, job_id: str) -> Job | None:
        for job in self.by_age:
            if job.id == job_id:
                return job
        return None

    def get(self, job_id: str) -> Job:
        """For the job-* commands. Raises QmpError."""
        job = self.find(job_id)
        if job is None:
            raise QmpError("Job not found")
        return job

    def block_jobs(self) -> list[BlockJob]:
        """Newest first."""
        return [job for job in self.by_age if job.is_block_job]  # type: ignore[misc]

    def get_block_job(self, job_id: str) -> BlockJob:
        """For the block-job-* commands. Raises QmpError."""
        for job in self.block_jobs():
            if job.id == job_id:
                return job
        raise QmpError(f"Block job '{job_id}' not found", "DeviceNotActive")

    def root_node(self, device: str) -> Node:
        """What a job may be started on: a node that nothing but drives, devices and exports stands on
        (qmp_get_root_bs). Raises QmpError."""
        node = self.graph.lookup(device, device)
        if any(not isinstance(edge.parent, BlockBackend) for edge in node.parents):
            raise QmpError("Need a root block node")
        return node

    async def cancel_all(self) -> None:
        """job_cancel_sync_all: at the end of the process, newest first."""
        while self.by_age:
            await self.main_loop_free()
            if not self.by_age:
                break
            job = self.by_age[0]
            await job.cancel_and_wait()
            while job.status not in ("concluded", "null"):
                await self.changed.wait()
