"""Dirty bitmaps by name: what the commands, the transaction's actions and the backup job do with them.

Source: block/monitor/bitmap-qmp-cmds.c and bdrv_dirty_bitmap_check, block/dirty-bitmap.c:172, 7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.block.bitmap import DirtyBitmap
from simulator.block.errors import QmpError

if TYPE_CHECKING:
    from simulator.block.graph import Graph
    from simulator.block.node import Node

_MAX_NAME = 1023


def find_bitmap(node: Node, name: str) -> DirtyBitmap | None:
    for bitmap in node.bitmaps:
        if bitmap.name == name:
            return bitmap
    return None


def lookup(graph: Graph, node_name: str, name: str) -> tuple[Node, DirtyBitmap]:
    """The node of that name or drive, and its bitmap. Raises QmpError."""
    node = graph.find(node_name)
    if node is None:
        raise QmpError(f"Node '{node_name}' not found")
    bitmap = find_bitmap(node, name)
    if bitmap is None:
        raise QmpError(f"Dirty bitmap '{name}' not found")
    return node, bitmap


def check_usable(bitmap: DirtyBitmap, allow_read_only: bool = False, allow_inconsistent: bool = False) -> None:
    """Raises QmpError if the bitmap is in use, or is of a kind that is not allowed."""
    if bitmap.busy:
        raise QmpError(f"Bitmap '{bitmap.name}' is currently in use by another operation and cannot be used")
    if bitmap.read_only and not allow_read_only:
        raise QmpError(f"Bitmap '{bitmap.name}' is readonly and cannot be modified")
    if bitmap.inconsistent and not allow_inconsistent:
        raise QmpError(f"Bitmap '{bitmap.name}' is inconsistent and cannot be used")


def lookup_usable(graph: Graph, node_name: str, name: str, allow_read_only: bool = False) -> DirtyBitmap:
    _, bitmap = lookup(graph, node_name, name)
    check_usable(bitmap, allow_read_only)
    return bitmap


def default_granularity_bytes(node: Node) -> int:
    """The cluster size, from 4 KiB to 64 KiB (bdrv_get_default_bitmap_granularity)."""
    cluster_bytes = node.driver.cluster_bytes
    if not cluster_bytes:
        return 1 << 16
    return min(max(cluster_bytes, 1 << 12), 1 << 16)


async def add(graph: Graph, arguments: dict[str, Any]) -> tuple[Node, DirtyBitmap]:
    """block-dirty-bitmap-add with its QMP arguments. Raises QmpError."""
    name = arguments["name"]
    if not name:
        raise QmpError("Bitmap name cannot be empty")
    node = graph.lookup(arguments["node"], arguments["node"])
    granularity_bytes = arguments.get("granularity")
    if granularity_bytes is None:
        granularity_bytes = default_granularity_bytes(node)
    elif granularity_bytes < 512 or granularity_bytes & (granularity_bytes - 1):
        raise QmpError("Granularity must be power of 2 and at least 512")
    persistent = arguments.get("persistent", False)
    if persistent:
        _check_storable(node, name, granularity_bytes)
    if find_bitmap(node, name) is not None:
        raise QmpError(f"Bitmap already exists: {name}")
    if len(name.encode()) > _MAX_NAME:
        raise QmpError(f"Bitmap name too long: {name}")
    bitmap = DirtyBitmap(node, name, granularity_bytes)
    bitmap.enabled = not arguments.get("disabled", False)
    bitmap.persistent = persistent
    node.bitmaps.insert(0, bitmap)
    return node, bitmap


def _check_storable(node: Node, name: str, granularity_bytes: int) -> None:
    """bdrv_can_store_new_dirty_bitmap: a format without storage says so itself."""
    if not node.driver.can_store_bitmaps:
        raise QmpError(f"Can't store persistent bitmaps to {node.device_or_node_name}: Operation not supported")
