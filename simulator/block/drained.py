"""A section in which nothing is under way on some nodes."""

from __future__ import annotations

from simulator.engine.task import NO_TURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from simulator.block.graph import Graph
    from simulator.block.node import Node


class Drained:
    """``async with graph.drained(node)``: no request is under way on the nodes, and none starts."""

    __slots__ = ("_graph", "_nodes")

    def __init__(self, graph: Graph, nodes: Collection[Node]) -> None:
        self._graph, self._nodes = graph, nodes

    def __aenter__(self) -> Awaitable[None]:
        for node in self._nodes:
            node.drained_begin()
        return self._graph.wait_drained(self._nodes)

    def __aexit__(self, *_: object) -> Awaitable[None]:
        for node in self._nodes:
            node.drained_end()
        return NO_TURN
