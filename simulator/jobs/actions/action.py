"""What one action of a transaction is (BlkActionOps, blockdev.c:1190, 7.2)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


class Action:
    """One action. Only `prepare` may fail, by QmpError; then `abort` is called for it too, and for all
    before it, newest first. `clean` is called for every action that was begun, whatever became of it."""

    # Whether jobs that this action starts can end as a group.
    supports_grouped = False

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        """`arguments` are the action's own, checked against the schema; `txn` the group its jobs belong
        to."""
        self.kind = kind
        self.arguments = arguments
        self.jobs = jobs
        self.graph: Graph = jobs.graph
        self.txn = txn

    async def prepare(self) -> None:
        raise NotImplementedError

    async def commit(self) -> None: ...

    async def abort(self) -> None: ...

    async def clean(self) -> None: ...
