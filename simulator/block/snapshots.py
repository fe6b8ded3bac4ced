"""Which node keeps the snapshots of a disk (bdrv_can_snapshot and bdrv_snapshot_fallback, block/snapshot.c,
7.2)."""

from __future__ import annotations

from simulator.block import permissions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Node

_HOLDS_DATA = permissions.DATA | permissions.METADATA | permissions.FILTERED


def holder(node: Node) -> Node | None:
    """The node itself, or the one below that all it has comes from; None if that keeps none."""
    if node.driver.holds_snapshots:
        return node
    edges = list(node.children.values())
    primary = [edge for edge in edges if edge.role & permissions.PRIMARY]
    if not primary or any(edge.role & _HOLDS_DATA for edge in edges if edge is not primary[0]):
        return None
    return holder(primary[0].node)


def can_snapshot(node: Node) -> bool:
    """Whether a new one can be made, which takes writing."""
    return node.is_writable() and holder(node) is not None
