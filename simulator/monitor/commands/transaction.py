"""transaction, and the commands that are transactions of one action (blockdev.c, 7.2). Backups are in
backup.py."""

from __future__ import annotations

from simulator.jobs.transaction import run_transaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def transaction(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    actions = [(action["type"], action.get("data", {})) for action in arguments["actions"]]
    mode = arguments.get("properties", {}).get("completion-mode", "individual")
    await run_transaction(machine.jobs, actions, mode)
    return {}


async def blockdev_snapshot(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    await run_transaction(machine.jobs, [("blockdev-snapshot", arguments)], "individual")
    return {}


async def blockdev_snapshot_sync(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    await run_transaction(machine.jobs, [("blockdev-snapshot-sync", arguments)], "individual")
    return {}


async def blockdev_snapshot_internal_sync(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    await run_transaction(machine.jobs, [("blockdev-snapshot-internal-sync", arguments)], "individual")
    return {}


COMMANDS = {
    "blockdev-snapshot": blockdev_snapshot,
    "blockdev-snapshot-internal-sync": blockdev_snapshot_internal_sync,
    "blockdev-snapshot-sync": blockdev_snapshot_sync,
    "transaction": transaction,
}
