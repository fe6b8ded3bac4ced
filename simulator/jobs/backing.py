"""Putting a node below or above another as its backing file while both are in use (block.c:3318, 5245,
7.2)."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.errors import QmpError
from simulator.block.opening import block_as_backing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.graph import Graph
    from simulator.block.node import Node


async def set_backing(graph: Graph, overlay: Node, backing: Node | None) -> None:
    """Let `overlay` fall back to `backing`, or to nothing (bdrv_set_backing_hd). Raises QmpError."""
    edge = overlay.children.get("backing")
    if edge is not None and edge.frozen:
        raise QmpError(
            f"Cannot change frozen 'backing' link from '{overlay.node_name}' to '{edge.node.node_name}'"
        )
    if not overlay.driver.supports_backing:
        raise QmpError(
            f"Driver '{overlay.driver.format_name}' of node '{overlay.node_name}' does not support backing "
            "files"
        )
    async with graph.drained(overlay):
        if edge is not None:
            await graph.detach(edge)
        if backing is not None:
            graph.attach(overlay, "backing", permissions.COW, backing, 0, permissions.ALL)
            block_as_backing(overlay)


async def append(graph: Graph, overlay: Node, below: Node) -> None:
    """Put `overlay` above `below` and give it all users of that (bdrv_append). Raises QmpError and undoes
    all."""
    await set_backing(graph, overlay, below)
    try:
        await graph.replace(below, overlay)
    except QmpError:
        await set_backing(graph, overlay, None)
        raise


async def take_off(graph: Graph, overlay: Node, below: Node) -> None:
    """Undo `append`. `overlay` may be gone afterwards, unless somebody holds it."""
    below.references += 1
    await set_backing(graph, overlay, None)
    await graph.replace(overlay, below)
    below.references -= 1
