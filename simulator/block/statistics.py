"""What query-blockstats tells. Source: bdrv_query_bds_stats, bdrv_query_blk_stats in block/qapi.c, 7.2."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.accounting import Accounting
from simulator.block.describe import skip_implicit_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.block.node import Edge, Node
    from simulator.engine.scheduler import Scheduler

_NOBODY_COUNTS = {"account_invalid": False, "account_failed": False}


def backend_stats(backend: BlockBackend) -> dict[str, Any]:
    """BlockStats of a drive or of a device's own backend, without its name."""
    info = _stats(backend.graph.scheduler, backend.node, of_drive=True)
    info["stats"].update(backend.accounting.describe())
    return info


def node_stats(node: Node) -> dict[str, Any]:
    """BlockStats of a node: nobody counts its requests."""
    return _stats(node.graph.scheduler, node, of_drive=False)


def _stats(scheduler: Scheduler, node: Node | None, of_drive: bool) -> dict[str, Any]:
    """`of_drive`: filters that the user knows nothing of are left out, and what is below is told too."""
    if node is not None and of_drive:
        node = skip_implicit_filters(node)
    stats: dict[str, Any] = {"wr_highest_offset": 0, **Accounting(scheduler).describe(), **_NOBODY_COUNTS}
    if node is None:
        return {"stats": stats}
    stats["wr_highest_offset"] = node.wr_highest_offset
    info: dict[str, Any] = {"stats": stats, "node-name": node.node_name}
    specific = node.driver.specific_stats()
    if specific is not None:
        info["driver-specific"] = {"driver": node.driver.format_name, **specific}
    storage = _storage_child(node)
    if storage is not None:
        info["parent"] = _stats(scheduler, storage.node, of_drive)
    if of_drive and node.below is not None:
        info["backing"] = _stats(scheduler, node.below, of_drive)
    return info


def _storage_child(node: Node) -> Edge | None:
    wanted = permissions.DATA | permissions.FILTERED
    edges = list(node.children.values())
    for edge in edges:
        if edge.role & permissions.PRIMARY and edge.role & wanted:
            return edge
    storing = [edge for edge in edges if edge.role & permissions.DATA]
    return storing[0] if len(storing) == 1 else None
