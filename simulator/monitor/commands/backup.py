"""blockdev-backup and drive-backup: transactions of one action (blockdev.c:2910-2960, 7.2)."""

from __future__ import annotations

from simulator.jobs.transaction import run_transaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def blockdev_backup(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    await run_transaction(machine.jobs, [("blockdev-backup", arguments)], "individual")
    return {}


async def drive_backup(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    await run_transaction(machine.jobs, [("drive-backup", arguments)], "individual")
    return {}


COMMANDS = {"blockdev-backup": blockdev_backup, "drive-backup": drive_backup}
