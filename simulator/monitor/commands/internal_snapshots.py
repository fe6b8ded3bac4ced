"""Snapshots inside an image (blockdev.c: qmp_blockdev_snapshot_delete_internal_sync, 7.2). Making one is an
action of transactions."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.internal_snapshots import holder, listed_by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def delete(machine: Machine, arguments: dict[str, Any]) -> Any:
    if machine.graph.rules.changes_made_drained:
        # There all is drained from the beginning (observed on 11.1.3).
        async with machine.graph.drained_all():
            return await _delete(machine, arguments)
    return await _delete(machine, arguments)


async def _delete(machine: Machine, arguments: dict[str, Any]) -> Any:
    device, identifier, name = arguments["device"], arguments.get("id"), arguments.get("name")
    node = machine.jobs.root_node(device)
    if identifier is None and name is None:
        raise QmpError("Name or id must be provided")
    async with machine.graph.drained(node):
        machine.graph.check_operation(node, "internal-snapshot-delete")
        infos = listed_by_name(node)
        info = next(
            (each for each in infos if identifier in (None, each["id"]) and name in (None, each["name"])),
            None,
        )
        if info is None:
            raise QmpError(
                f"Snapshot with id '{_shown(identifier)}' and name '{_shown(name)}' does not exist "
                f"on device '{device}'"
            )
        kept_by = holder(node)
        assert kept_by is not None
        await kept_by.driver.delete_snapshot(info["id"])
    return info


def _shown(text: str | None) -> str:
    return "null" if text is None else text


COMMANDS = {"blockdev-snapshot-delete-internal-sync": delete}
