"""The arguments of block-commit, checked in QEMU's order and words.

Source: qmp_block_commit, blockdev.c:2605, 7.2.
"""

from __future__ import annotations

from simulator.block import chain, permissions
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node
    from simulator.jobs.registry import Jobs


class CommitOptions:
    """`active`, the top of the chain; what `top` and the layers below it hold goes into `base`.

    `is_active`: `top` may be written to meanwhile, so a mirror does it, which the user must complete.
    """

    __slots__ = (
        "active", "auto_dismiss", "auto_finalize", "backing_file", "base", "filter_node_name", "is_active",
        "job_id", "on_error", "speed_bytes_per_s", "top",
    )  # fmt: skip

    def __init__(self, jobs: Jobs, arguments: dict[str, Any]) -> None:
        """Raises QmpError."""
        graph = jobs.graph
        self.job_id: str | None = arguments.get("job-id")
        self.speed_bytes_per_s: int = arguments.get("speed", 0)
        self.on_error: str = arguments.get("on-error", "report")
        self.auto_finalize: bool = arguments.get("auto-finalize", True)
        self.auto_dismiss: bool = arguments.get("auto-dismiss", True)
        self.filter_node_name: str | None = arguments.get("filter-node-name")
        self.backing_file: str | None = arguments.get("backing-file")
        self.active = _active(jobs, arguments["device"])
        graph.check_operation(self.active, "commit-source")
        self.top = _top(graph, self.active, arguments)
        self.base = _base(graph, self.top, arguments)
        for node in chain.layers(self.top, self.base.below):
            graph.check_operation(node, "commit-target")
        if self.top is self.base:
            raise QmpError("cannot commit an image into itself")
        self._choose_kind(graph)

    def _choose_kind(self, graph: Graph) -> None:
        needed, _ = permissions.cumulative(self.top)
        is_top = chain.skip_filters(self.top) is chain.skip_filters(self.active)
        self.is_active = is_top or bool(needed & permissions.WRITE)
        if self.is_active and self.backing_file is not None:
            why = "is the active layer" if is_top else "has a writer on it"
            raise QmpError(f"'backing-file' specified, but 'top' {why}")
        if self.is_active:
            if self.job_id is None:
                self.job_id = self.active.drive_name()
        else:
            overlay = chain.find_overlay(self.active, self.top)
            assert overlay is not None
            graph.check_operation(overlay, "commit-target")


def _active(jobs: Jobs, device: str) -> Node:
    """A client finds out by the error's class whether the command can be used at all."""
    try:
        return jobs.root_node(device)
    except QmpError:
        if jobs.graph.find(device) is None:
            raise QmpError(f"Device '{device}' not found", "DeviceNotFound") from None
        raise


def _top(graph: Graph, active: Node, arguments: dict[str, Any]) -> Node:
    if "top-node" in arguments and "top" in arguments:
        raise QmpError("'top-node' and 'top' are mutually exclusive")
    if "top-node" in arguments:
        return _in_chain(graph, active, arguments["top-node"])
    if "top" not in arguments or arguments["top"] == active.filename:
        return active
    top = chain.find_by_filename(active, arguments["top"])
    if top is None:
        raise QmpError(f"Top image file {arguments['top']} not found")
    return top


def _base(graph: Graph, top: Node, arguments: dict[str, Any]) -> Node:
    if "base-node" in arguments and "base" in arguments:
        raise QmpError("'base-node' and 'base' are mutually exclusive")
    if "base-node" in arguments:
        return _in_chain(graph, top, arguments["base-node"])
    if "base" not in arguments:
        return chain.last_layer(top)
    base = chain.find_by_filename(top, arguments["base"])
    if base is None:
        raise QmpError(f"Can't find '{arguments['base']}' in the backing chain")
    return base


def _in_chain(graph: Graph, top: Node, name: str) -> Node:
    node = graph.lookup("", name)
    if not chain.chain_contains(top, node):
        raise QmpError(f"'{name}' is not in this backing file chain")
    return node
