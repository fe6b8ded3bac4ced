"""Snapshots inside an image, of a node or of what it passes all through to (block/snapshot.c, 7.2)."""

from __future__ import annotations

from errno import ENOTSUP
from os import strerror

from simulator.block.drivers import qcow2_snapshots
from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2_snapshots import Snapshot
    from simulator.block.node import Node
    from simulator.jobs.registry import Jobs


def holder(node: Node) -> Qcow2 | None:
    """The driver that would hold a snapshot of the node: its own, or that of its one child with content."""
    while not isinstance(node.driver, Qcow2):
        if list(node.children) not in (["file"], ["backing"]):
            return None
        node = next(iter(node.children.values())).node
    return node.driver


def can_snapshot(node: Node) -> bool:
    return holder(node) is not None and not node.read_only


def find(node: Node, snapshot_id: str | None, name: str | None) -> Snapshot | None:
    """By all that is given. Raises QmpError where there is no list to look in."""
    driver = holder(node)
    if driver is None:
        raise QmpError(f"Failed to get a snapshot list: {strerror(ENOTSUP)}")
    for each in driver.snapshots:
        if snapshot_id in (None, each.id) and name in (None, each.name):
            return each
    return None


async def delete_snapshot(jobs: Jobs, arguments: dict[str, Any]) -> dict[str, Any]:
    """blockdev-snapshot-delete-internal-sync: SnapshotInfo of what is gone. Raises QmpError."""
    device: str = arguments["device"]
    snapshot_id, name = arguments.get("id"), arguments.get("name")
    node = jobs.root_node(device)
    if snapshot_id is None and name is None:
        raise QmpError("Name or id must be provided")
    jobs.graph.check_operation(node, "internal-snapshot-delete")
    found = find(node, snapshot_id, name)
    if found is None:
        told = (value if value is not None else "null" for value in (snapshot_id, name))
        raise QmpError(
            "Snapshot with id '{}' and name '{}' does not exist on ".format(*told) + f"device '{device}'"
        )
    driver = holder(node)
    assert driver is not None
    async with jobs.graph.drained(node):
        await qcow2_snapshots.delete(driver, found)
    return found.describe()
