"""Commands about a migration, of a machine that never has one (migration/migration.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def migrate_cancel(machine: Machine, arguments: Arguments) -> Any:
    return {}


async def migrate_continue(machine: Machine, arguments: Arguments) -> Any:
    raise QmpError("Migration not in expected state: none")


async def migrate_incoming(machine: Machine, arguments: Arguments) -> Any:
    raise QmpError("'-incoming' was not specified on the command line")


async def migrate_pause(machine: Machine, arguments: Arguments) -> Any:
    raise QmpError("migrate-pause is currently only supported during postcopy-active state")


async def migrate_recover(machine: Machine, arguments: Arguments) -> Any:
    raise QmpError("Migrate recover can only be run when postcopy is paused.")


async def migrate_start_postcopy(machine: Machine, arguments: Arguments) -> Any:
    raise QmpError("Enable postcopy with migrate_set_capability before the start of migration")


COMMANDS = {
    "migrate-continue": migrate_continue,
    "migrate-incoming": migrate_incoming,
    "migrate-pause": migrate_pause,
    "migrate-recover": migrate_recover,
    "migrate-start-postcopy": migrate_start_postcopy,
    "migrate_cancel": migrate_cancel,
}
