"""Whose image keeps the snapshots inside an image: a node's own, or that of what it shows as it is.

Source: bdrv_can_snapshot and bdrv_snapshot_fallback_child, block/snapshot.c:152-221, 10.0.13.
"""

from __future__ import annotations

from errno import ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node

_CONTENT = permissions.DATA | permissions.METADATA | permissions.FILTERED


def holder(node: Node) -> Node | None:
    """The node that keeps them; None if there is none, or if it would not have all of what `node` shows."""
    below: Node | None = node
    while below is not None and not below.driver.holds_snapshots:
        below = _only_content(below)
    return below


def holder_to_write(node: Node) -> Node | None:
    """None too if something on the way may not be written to."""
    below: Node | None = node
    while below is not None and below.is_writable():
        if below.driver.holds_snapshots:
            return below
        below = _only_content(below)
    return None


def listed_by_name(node: Node) -> list[dict[str, Any]]:
    """For who looks for one by its name or id (bdrv_snapshot_find_by_id_and_name). Raises QmpError."""
    try:
        return listed(node)
    except OSError as error:
        raise QmpError(f"Failed to get a snapshot list: {error.strerror}") from None


def listed(node: Node) -> list[dict[str, Any]]:
    """SnapshotInfo of each that it has (bdrv_snapshot_list). Raises OSError."""
    keeper = holder(node)
    if keeper is None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))
    return keeper.driver.snapshot_infos()


def _only_content(node: Node) -> Node | None:
    children = [edge for edge in node.children.values() if edge.role & _CONTENT]
    if len(children) == 1 and children[0].role & permissions.PRIMARY:
        return children[0].node
    return None
