"""Walking down a chain of filters and backing files (block.c, 7.2)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Node


def next_in_chain(node: Node) -> Node | None:
    """The next layer with content of its own (bdrv_backing_chain_next)."""
    while (filtered := node.filtered) is not None:
        node = filtered
    below = node.backing
    while below is not None and (filtered := below.filtered) is not None:
        below = filtered
    return below


def chain_contains(top: Node, wanted: Node) -> bool:
    """Whether `wanted` is `top` or below it, through filters and backing files."""
    node: Node | None = top
    while node is not None and node is not wanted:
        node = node.below
    return node is not None
