"""All or nothing: the actions of a transaction are prepared in order, then all committed or all undone.

Source: qmp_transaction and BlkActionOps, blockdev.c:1190-2390, 7.2. A single blockdev-backup, drive-backup or
blockdev-snapshot is a transaction of one action.
"""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.jobs.actions import ACTIONS
from simulator.jobs.txn import JobTxn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.jobs.actions.action import Action
    from simulator.jobs.registry import Jobs


# Where the kinds are checked before anything begins (blockdev.c:2185, 10.0.13).
_GROUPED = ("blockdev-backup", "drive-backup")


async def run_transaction(
    jobs: Jobs, actions: list[tuple[str, dict[str, Any]]], completion_mode: str
) -> None:
    """`actions` are (TransactionActionKind, arguments). Raises QmpError, and then nothing has changed."""
    txn = JobTxn() if completion_mode != "individual" else None
    if jobs.rules.checks_groups_first and completion_mode != "individual":
        for kind, _ in actions:
            if kind not in _GROUPED:
                raise _no_groups(kind, completion_mode)
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
        raise _no_groups(action.kind, completion_mode)


def _no_groups(kind: str, completion_mode: str) -> QmpError:
    return QmpError(
        f"Action '{kind}' does not support Transaction property completion-mode = {completion_mode}"
    )
