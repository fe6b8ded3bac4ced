"""blockdev-create and x-blockdev-amend (block/create.c, block/amend.c, 7.2)."""

from __future__ import annotations

from simulator.jobs.amend import start_amend
from simulator.jobs.create import start_create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def blockdev_create(machine: Machine, arguments: Arguments) -> Arguments:
    start_create(machine.jobs, arguments["job-id"], arguments["options"])
    return {}


async def x_blockdev_amend(machine: Machine, arguments: Arguments) -> Arguments:
    start_amend(machine.jobs, arguments)
    return {}


COMMANDS = {"blockdev-create": blockdev_create, "x-blockdev-amend": x_blockdev_amend}
