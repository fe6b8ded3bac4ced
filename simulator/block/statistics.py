"""What query-blockstats tells. Source: bdrv_query_bds_stats, bdrv_query_blk_stats in block/qapi.c, 7.2."""

from __future__ import annotations

from simulator.block.accounting import Accounting
from simulator.block.chain import skip_implicit_filters
from simulator.block.describe import storage_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.block.graph import Graph
    from simulator.block.node import Node


def backend_stats(backend: BlockBackend) -> dict[str, Any]:
    """BlockStats of a drive or of a device's own backend, without its name."""
    info = _stats(backend.graph, backend.node, of_drive=True)
    info["stats"].update(_counted(backend.graph, backend.accounting))
    return info


def node_stats(node: Node) -> dict[str, Any]:
    """BlockStats of a node: nobody counts its requests."""
    return _stats(node.graph, node, of_drive=False)


def _stats(graph: Graph, node: Node | None, of_drive: bool) -> dict[str, Any]:
    """`of_drive`: filters that the user knows nothing of are left out, and what is below is told too."""
    if node is not None and of_drive:
        node = skip_implicit_filters(node)
    nobody = Accounting(graph.scheduler, False)
    stats: dict[str, Any] = {"wr_highest_offset": 0, **_counted(graph, nobody)}
    if node is None:
        return {"stats": stats}
    stats["wr_highest_offset"] = node.wr_highest_offset
    info: dict[str, Any] = {"stats": stats, "node-name": node.node_name}
    specific = node.driver.specific_stats()
    if specific is not None:
        info["driver-specific"] = {"driver": node.driver.format_name, **specific}
    storage = storage_child(node)
    if storage is not None:
        info["parent"] = _stats(graph, storage.node, of_drive)
    if of_drive and node.below is not None:
        info["backing"] = _stats(graph, node.below, of_drive)
    return info


def _counted(graph: Graph, accounting: Accounting) -> dict[str, Any]:
    return accounting.describe(graph.rules.members.zone_append)
