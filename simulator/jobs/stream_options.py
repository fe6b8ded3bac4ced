"""The arguments of block-stream, checked in QEMU's order and words.

Source: qmp_block_stream, blockdev.c:2470, 7.2.
"""

from __future__ import annotations

from simulator.block import chain
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node

_EXCLUSIVE = (("base", "base-node"), ("base", "bottom"), ("bottom", "base-node"))


class StreamOptions:
    """`top` takes over what is above `base`, or down to `bottom` included, or all. `backing_file` is what its
    image's header then names."""

    __slots__ = (
        "auto_dismiss", "auto_finalize", "backing_file", "base", "bottom", "filter_node_name", "job_id",
        "on_error", "speed_bytes_per_s", "top",
    )  # fmt: skip

    def __init__(self, graph: Graph, arguments: dict[str, Any]) -> None:
        """Raises QmpError."""
        for first, second in _EXCLUSIVE:
            if first in arguments and second in arguments:
                raise QmpError(f"'{first}' and '{second}' cannot be specified at the same time")
        device: str = arguments["device"]
        self.job_id: str | None = arguments.get("job-id")
        self.speed_bytes_per_s: int = arguments.get("speed", 0)
        self.on_error: str = arguments.get("on-error", "report")
        self.auto_finalize: bool = arguments.get("auto-finalize", True)
        self.auto_dismiss: bool = arguments.get("auto-dismiss", True)
        self.filter_node_name: str | None = arguments.get("filter-node-name")
        self.backing_file: str | None = arguments.get("backing-file")
        self.top = top = graph.lookup(device, device)
        self.base: Node | None = None
        self.bottom: Node | None = None
        if "base" in arguments:
            self.base = chain.find_by_filename(top, arguments["base"])
            if self.base is None:
                raise QmpError(f"Can't find '{arguments['base']}' in the backing chain")
        if "base-node" in arguments:
            self.base = _base_node(graph, top, arguments)
        if "bottom" in arguments:
            self.bottom = _bottom_node(graph, top, arguments)
        end = self.base if self.bottom is None else self.bottom.below
        for node in chain.layers(top, end):
            graph.check_operation(node, "stream")
        if self.base is None and self.backing_file is not None:
            raise QmpError("backing file specified, but streaming the entire chain")


def _base_node(graph: Graph, top: Node, arguments: dict[str, Any]) -> Node:
    base = graph.lookup("", arguments["base-node"])
    if top is base or not chain.chain_contains(top, base):
        raise QmpError(f"Node '{arguments['base-node']}' is not a backing image of '{arguments['device']}'")
    return base


def _bottom_node(graph: Graph, top: Node, arguments: dict[str, Any]) -> Node:
    name = arguments["bottom"]
    bottom = graph.lookup("", name)
    if bottom.driver.is_filter:
        raise QmpError(f"Node '{name}' is a filter, use a non-filter node as 'bottom'")
    if not chain.chain_contains(top, bottom):
        raise QmpError(f"Node '{name}' is not in a chain starting from '{arguments['device']}'")
    return bottom
