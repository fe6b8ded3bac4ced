"""blockdev-create (block/create.c, 7.2)."""

from __future__ import annotations

from simulator.jobs.create import start_create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def blockdev_create(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    start_create(machine.jobs, arguments["job-id"], arguments["options"])
    return {}


COMMANDS = {"blockdev-create": blockdev_create}
