"""block_resize: who may change the size of a node, and how (qmp_block_resize, blockdev.c:2424, 7.2)."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.graph import Graph
    from simulator.block.node import Node

_SECTOR_BYTES = 512


class _ResizingBackend(BlockBackend):
    """The truncation itself runs inside the drained section that keeps all others out."""

    __slots__ = ()

    queues_while_drained = False


async def resize(graph: Graph, node: Node, size_bytes: int) -> None:
    """Raises QmpError and changes nothing if somebody relies on the size, or the driver cannot."""
    backend = _ResizingBackend(graph, "", permissions.RESIZE, permissions.ALL)
    await graph.changing()
    backend.insert(node)
    try:
        async with graph.drained(node):
            if node.read_only:
                raise QmpError("Image is read-only")
            await node.truncate(size_bytes)
    finally:
        await backend.remove()
