"""snapshot-save, snapshot-load, snapshot-delete: jobs that are dismissed by hand.

Source: migration/savevm.c, 7.2.
"""

from __future__ import annotations

from simulator.jobs.job import Job
from simulator.monitor import vm_snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn
    from simulator.machine import Machine

    Arguments = dict[str, Any]
    # The work, begun when it is called.
    Work = Callable[[], Coroutine[Any, Any, None]]


class SnapshotJob(Job):
    __slots__ = ("job_type", "work")

    def __init__(self, jobs: Jobs, job_id: str, txn: JobTxn, job_type: str, work: Work) -> None:
        super().__init__(jobs, job_id, txn, auto_dismiss=False)
        self.job_type, self.work = job_type, work

    async def run(self) -> None:
        # The main loop does it, in its next turn.
        await self.jobs.scheduler.loop_turn
        self.progress.set_remaining(1)
        try:
            await self.work()
        finally:
            self.progress.work_done(1)


def _start(machine: Machine, arguments: Arguments, job_type: str, work: Work) -> Arguments:
    def make(job_id: str, txn: JobTxn) -> SnapshotJob:
        return SnapshotJob(machine.jobs, job_id, txn, job_type, work)

    machine.jobs.add(arguments["job-id"], make).start()
    return {}


async def snapshot_save(machine: Machine, arguments: Arguments) -> Arguments:
    async def work() -> None:
        tag, devices = arguments["tag"], arguments["devices"]
        await vm_snapshots.save(machine, tag, devices, arguments["vmstate"], overwrite=False)

    return _start(machine, arguments, "snapshot-save", work)


async def snapshot_load(machine: Machine, arguments: Arguments) -> Arguments:
    async def work() -> None:
        await vm_snapshots.load(machine, arguments["tag"], arguments["devices"], arguments["vmstate"])

    return _start(machine, arguments, "snapshot-load", work)


async def snapshot_delete(machine: Machine, arguments: Arguments) -> Arguments:
    async def work() -> None:
        await vm_snapshots.delete(machine, arguments["tag"], arguments["devices"])

    return _start(machine, arguments, "snapshot-delete", work)


COMMANDS = {
    "snapshot-save": snapshot_save,
    "snapshot-load": snapshot_load,
    "snapshot-delete": snapshot_delete,
}
