"""The job that changes the options of an image's format (block/amend.c, 7.2). Encryption is all that could be
changed, and no image here is encrypted. It is always dismissed by hand, and has no BLOCK_JOB_* events."""

from __future__ import annotations

from errno import EOPNOTSUPP

from simulator.block.errors import QmpError
from simulator.jobs.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


class AmendJob(Job):
    """`options` as in BlockdevAmendOptions. `node` is held until the job is gone, in versions that do."""

    job_type = "amend"

    __slots__ = ("node", "options")

    def __init__(self, jobs: Jobs, job_id: str, txn: JobTxn, node: Node, options: dict[str, Any]) -> None:
        super().__init__(jobs, job_id, txn, auto_dismiss=False)
        self.node, self.options = node, options
        if jobs.rules.amend_holds_node:
            node.references += 1

    async def run(self) -> None:
        self.progress.set_remaining(1)
        self.progress.work_done(1)
        if self.options.get("encrypt") is not None:
            self.error = "image is not encrypted, can't amend"
            raise OSError(EOPNOTSUPP, self.error)

    async def free(self) -> None:
        if self.jobs.rules.amend_holds_node:
            self.node.references -= 1
            await self.jobs.graph.release(self.node)


def start_amend(jobs: Jobs, arguments: dict[str, Any]) -> None:
    """Raises QmpError if there is to be no job at all."""
    node = jobs.graph.lookup("", arguments["node-name"])
    options: dict[str, Any] = arguments["options"]
    if options["driver"] in jobs.graph.rules.formats_left_out:
        raise QmpError(f"Block driver '{options['driver']}' not found or not supported")
    if options["driver"] != node.driver.format_name:
        raise QmpError("x-blockdev-amend doesn't support changing the block driver")
    if options["driver"] != "qcow2":
        raise QmpError("Driver does not support x-blockdev-amend")

    def make(job_id: str, txn: JobTxn) -> AmendJob:
        return AmendJob(jobs, job_id, txn, node, options)

    jobs.add(arguments["job-id"], make).start()
