"""All or nothing: the actions of a transaction are prepared in order, then all committed or all undone.

Source: qmp_transaction and BlkActionOps, blockdev.c:1190-2390, 7.2. A single blockdev-backup, drive-backup or
blockdev-snapshot is a transaction of one action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.block.errors import QmpError
from simulator.jobs.txn import JobTxn

if TYPE_CHECKING:
    from simulator.block.graph import Graph
    from simulator.jobs.registry import Jobs


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


async def run_transaction(
    jobs: Jobs, actions: list[tuple[str, dict[str, Any]]], completion_mode: str
) -> None:
    """`actions` are (TransactionActionKind, arguments). Raises QmpError, and then nothing has changed."""
    from simulator.jobs.actions import ACTIONS

    txn = JobTxn() if completion_mode != "individual" else None
    made = [ACTIONS[kind](kind, arguments, jobs, txn) for kind, arguments in actions]
    async with jobs.graph.drained_all():
        pass
    begun: list[Action] = []
    in_order = reversed if jobs.rules.commit_newest_first else iter
    try:
        for action in made:
            begun.append(action)
            _check_completion_mode(jobs, action, completion_mode)
            await action.prepare()
    except QmpError:
        for action in reversed(begun):
            await action.abort()
        raise
    else:
        for action in in_order(begun):
            await action.commit()
    finally:
        for action in in_order(begun):
            await action.clean()


def _check_completion_mode(jobs: Jobs, action: Action, completion_mode: str) -> None:
    if completion_mode != "individual" and not action.supports_grouped:
        raise QmpError(jobs.rules.completion_mode_text.format(action=action.kind, mode=completion_mode))
