"""Commands that later versions have no more, done by what took their place (blockdev.c,
migration/migration.c, 5.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import board
from simulator.monitor.commands import media, nodes
from simulator.monitor.commands.board import query_cpus_fast
from simulator.monitor.commands.refusing import refuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_MOST_DOWNTIME_S = 2000
_RESET_ADDRESS = 0xFFFFFFF0


async def change(machine: Machine, arguments: Arguments) -> Any:
    if arguments["device"] == "vnc":
        raise QmpError("Changing the VNC server is not simulated")
    given = {"device": arguments["device"], "filename": arguments["target"]}
    if "arg" in arguments:
        given["format"] = arguments["arg"]
    return await media.change_medium(machine, given)


async def migrate_set_speed(machine: Machine, arguments: Arguments) -> Any:
    machine.migration.set_parameters({"max-bandwidth": arguments["value"]})
    return {}


async def migrate_set_downtime(machine: Machine, arguments: Arguments) -> Any:
    if not 0 <= arguments["value"] <= _MOST_DOWNTIME_S:
        wanted = f"an integer in the range of 0 to {_MOST_DOWNTIME_S} seconds"
        raise QmpError(f"Parameter 'downtime_limit' expects {wanted}")
    machine.migration.set_parameters({"downtime-limit": int(arguments["value"] * 1000)})
    return {}


async def migrate_set_cache_size(machine: Machine, arguments: Arguments) -> Any:
    machine.migration.set_parameters({"xbzrle-cache-size": arguments["value"]})
    return {}


async def query_migrate_cache_size(machine: Machine, arguments: Arguments) -> Any:
    return machine.migration.parameters["xbzrle-cache-size"]


async def reopen(machine: Machine, arguments: Arguments) -> Any:
    return await nodes.blockdev_reopen(machine, {"options": [arguments]})


async def query_cpus(machine: Machine, arguments: Arguments) -> Any:
    """Of processors that never ran."""
    if machine.slots.board == board.NONE:
        return []
    told = []
    for each in await query_cpus_fast(machine, {}):
        named = {"CPU": each["cpu-index"], "qom_path": each["qom-path"], "thread_id": each["thread-id"]}
        state = {"arch": "x86", "current": True, "halted": False, "pc": _RESET_ADDRESS}
        told.append({**named, **state, "props": each["props"]})
    return told


COMMANDS = {
    "block_passwd": refuses("Setting block passwords directly is no longer supported"),
    "change": change,
    "migrate-set-cache-size": migrate_set_cache_size,
    "migrate_set_downtime": migrate_set_downtime,
    "migrate_set_speed": migrate_set_speed,
    "query-cpus": query_cpus,
    "query-migrate-cache-size": query_migrate_cache_size,
    "x-blockdev-reopen": reopen,
}
