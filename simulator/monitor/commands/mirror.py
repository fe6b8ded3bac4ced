"""blockdev-mirror and drive-mirror (blockdev.c:3084-3310, 7.2)."""

from __future__ import annotations

from simulator.jobs import mirror_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def blockdev_mirror(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    await mirror_start.blockdev_mirror(machine.jobs, arguments)
    return {}


async def drive_mirror(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    await mirror_start.drive_mirror(machine.jobs, arguments)
    return {}


COMMANDS = {"blockdev-mirror": blockdev_mirror, "drive-mirror": drive_mirror}
