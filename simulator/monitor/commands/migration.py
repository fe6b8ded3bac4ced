"""Commands about a migration, of a machine that never has one (migration/migration.c, 7.2)."""

from __future__ import annotations

from simulator.monitor.commands.refusing import refuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def migrate_cancel(machine: Machine, arguments: Arguments) -> Any:
    return {}


COMMANDS = {
    "migrate-continue": refuses("Migration not in expected state: none"),
    "migrate-incoming": refuses("'-incoming' was not specified on the command line"),
    "migrate-pause": refuses("migrate-pause is currently only supported during postcopy-active state"),
    "migrate-recover": refuses("Migrate recover can only be run when postcopy is paused."),
    "migrate-start-postcopy": refuses(
        "Enable postcopy with migrate_set_capability before the start of migration"
    ),
    "migrate_cancel": migrate_cancel,
}
