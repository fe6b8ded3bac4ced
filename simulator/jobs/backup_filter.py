"""The filter of a backup job: how it comes to stand above the source, and how it goes.

Source: block/copy-before-write.c, 7.2 (bdrv_cbw_append, bdrv_cbw_drop); block/backup-top.c:188-300, 5.2.
"""

from __future__ import annotations

from simulator.block import granting, permissions_by_user
from simulator.block.drivers.backup_top import BackupTop
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node


async def append(source: Node, options: dict[str, Any]) -> Node:
    """The caller holds the filter. Raises QmpError, undoing all."""
    graph = source.graph
    if graph.rules.backup_filter != BackupTop.format_name:
        cbw = await graph.insert_above(source, options)
        cbw.references += 1
        return cbw
    top = await graph.open(options, probes=False)
    top.references += 1
    try:
        await graph.replace(source, top)
    except QmpError as error:
        top.references -= 1
        await graph.release(top)
        raise error.prefixed("Cannot append backup-top filter: ") from None
    _backup_top(top).active = True
    try:
        # What it needs of the target it takes when its first user has come to stand on it.
        permissions_by_user.refresh_child(top.children["backing"])
    except QmpError as error:
        await drop(top)
        raise error.prefixed("Cannot set permissions for backup-top filter: ") from None
    return top


async def drop(node: Node) -> None:
    """Its users, but for the job, stand on the source again; the caller holds it no more."""
    graph = node.graph
    if not isinstance(node.driver, BackupTop):
        node.references -= 1
        await graph.drop_filter(node)
        return
    async with graph.drained(node):
        node.driver.active = False
        edge = node.children["backing"]
        permissions_by_user.refresh_child(edge)
        below = edge.node
        await graph.replace(node, below)
        graph.unlink(edge)
        granting.go(below)
    node.references -= 1
    await graph.release(node)


def _backup_top(node: Node) -> BackupTop:
    driver = node.driver
    assert isinstance(driver, BackupTop)
    return driver
