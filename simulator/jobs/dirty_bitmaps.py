"""Dirty bitmaps by name: what the commands and the transaction's actions do with them.

Source: block/monitor/bitmap-qmp-cmds.c, 7.2. All raise QmpError.
"""

from __future__ import annotations

from simulator.block.bitmap import DirtyBitmap, default_granularity, find_bitmap
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.extents import ExtentMap
    from simulator.block.graph import Graph


def lookup(graph: Graph, node_name: str, name: str) -> DirtyBitmap:
    """A bitmap of the node of that name, or of the node that the drive of that name stands on."""
    node = graph.find(node_name)
    if node is None:
        raise QmpError(f"Node '{node_name}' not found")
    bitmap = find_bitmap(node, name)
    if bitmap is None:
        raise QmpError(f"Dirty bitmap '{name}' not found")
    return bitmap


def lookup_usable(graph: Graph, arguments: dict[str, Any], readonly: bool = False) -> DirtyBitmap:
    """A bitmap by `node` and `name` that nobody is using; with `readonly`, of an image that cannot be
    written too."""
    bitmap = lookup(graph, arguments["node"], arguments["name"])
    bitmap.check(readonly=not readonly)
    return bitmap


def add(graph: Graph, arguments: dict[str, Any]) -> DirtyBitmap:
    """block-dirty-bitmap-add."""
    name: str = arguments["name"]
    if not name:
        raise QmpError("Bitmap name cannot be empty")
    node = graph.lookup(arguments["node"], arguments["node"])
    granularity_bytes: int | None = arguments.get("granularity")
    if granularity_bytes is None:
        granularity_bytes = default_granularity(node)
    elif granularity_bytes < 512 or granularity_bytes & (granularity_bytes - 1):
        raise QmpError("Granularity must be power of 2 and at least 512")
    persistent: bool = arguments.get("persistent", False)
    if persistent:
        if not node.is_writable() and graph.rules.stored_bitmaps_need_write:
            raise QmpError(f"Cannot add a persistent bitmap to read-only or inactive node '{node.node_name}'")
        if not node.driver.can_store_bitmaps:
            raise QmpError(
                f"Can't store persistent bitmaps to {node.device_or_node_name}: Operation not supported"
            )
        from simulator.block.drivers import qcow2, qcow2_bitmaps

        assert isinstance(node.driver, qcow2.Qcow2)
        qcow2_bitmaps.check_can_store(node.driver, name, granularity_bytes)
    bitmap = DirtyBitmap(node, name, granularity_bytes)
    bitmap.enabled = not arguments.get("disabled", False)
    bitmap.persistent = persistent
    return bitmap


async def remove_stored(graph: Graph, arguments: dict[str, Any]) -> DirtyBitmap:
    """The first half of block-dirty-bitmap-remove: it is gone from the image, and not yet from the node."""
    bitmap = lookup(graph, arguments["node"], arguments["name"])
    node = bitmap.node
    needs_write = bitmap.persistent and graph.rules.stored_bitmaps_need_write
    if needs_write and not node.is_writable() and not bitmap.busy:
        name = node.node_name
        raise QmpError(f"Cannot remove persistent bitmap '{bitmap.name}': no write access to node '{name}'")
    bitmap.check(inconsistent=False)
    if bitmap.persistent and bitmap.node.driver.can_store_bitmaps:
        from simulator.block.drivers import qcow2, qcow2_bitmaps

        assert isinstance(bitmap.node.driver, qcow2.Qcow2)
        await qcow2_bitmaps.remove(bitmap.node.driver, arguments["name"])
    return bitmap


def merge(graph: Graph, arguments: dict[str, Any]) -> tuple[DirtyBitmap, ExtentMap | None]:
    """block-dirty-bitmap-merge: (target, what it held before, if anything was merged). All or nothing."""
    target = lookup(graph, arguments["node"], arguments["target"])
    before: ExtentMap | None = None
    try:
        for given in arguments["bitmaps"]:
            before = _merge_one(graph, target, given, before)
    except QmpError:
        if before is not None:
            target.restore(before)
        raise
    return target, before


def _merge_one(
    graph: Graph, target: DirtyBitmap, given: str | dict[str, str], before: ExtentMap | None
) -> ExtentMap:
    if isinstance(given, str):
        source = find_bitmap(target.node, given)
        if source is None:
            raise QmpError(f"Dirty bitmap '{given}' not found")
    else:
        source = lookup(graph, given["node"], given["name"])
    target.check()
    source.check_mergeable(target.size_bytes)
    merged = target.merge(source)
    return merged if before is None else before


def digest(bitmap: DirtyBitmap) -> str:
    """x-debug-block-dirty-bitmap-sha256: over the bits in 64 bit words, at least one (hbitmap_sha256)."""
    from hashlib import sha256  # loads all of OpenSSL, which takes longer than to start

    return sha256(bitmap.serialise(0, bitmap.size_bytes).ljust(8, b"\0")).hexdigest()
