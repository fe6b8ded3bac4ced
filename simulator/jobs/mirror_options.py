"""What a mirror job is told, and the checks that blockdev-mirror and drive-mirror share.

Source: blockdev_mirror_common, blockdev.c:2955, and mirror_start, block/mirror.c:1886, 7.2.
"""

from __future__ import annotations

from simulator.block import chain
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node

# What the target's backing file is when the job completes: what it was, that of the source, or what the
# target's own header names.
LEAVE_BACKING, SOURCE_BACKING, OPEN_BACKING = "leave", "source", "open"

_MOST_GRANULARITY = 64 << 20


class MirrorOptions:
    """`base`: what is there or below is not copied. `replaces`: the node whose users go to the target, if not
    the source. `granularity_bytes` 0 and `buffer_bytes` 0 are the defaults. `is_full`: all is copied,
    whatever the source has below it. `target_is_zero`: who asks for the job says so, or has made it;
    `zeroes_target`: it is to be made so, in versions that do not look."""

    __slots__ = (
        "auto_dismiss", "auto_finalize", "backing_mode", "base", "base_was_read_only", "buffer_bytes",
        "copy_mode", "filter_node_name", "granularity_bytes", "is_commit", "is_full", "is_none_mode",
        "job_id", "on_source_error", "on_target_error", "replaces", "source", "speed_bytes_per_s", "target",
        "target_is_zero", "unmap", "zeroes_target",
    )  # fmt: skip

    def __init__(self, source: Node, target: Node, arguments: dict[str, Any]) -> None:
        """The defaults where the command says nothing; nothing is checked."""
        self.source, self.target = source, target
        self.job_id: str | None = arguments.get("job-id")
        self.speed_bytes_per_s: int = arguments.get("speed", 0)
        self.on_source_error: str = arguments.get("on-source-error", "report")
        self.on_target_error: str = arguments.get("on-target-error", "report")
        self.auto_finalize: bool = arguments.get("auto-finalize", True)
        self.auto_dismiss: bool = arguments.get("auto-dismiss", True)
        self.filter_node_name: str | None = arguments.get("filter-node-name")
        self.granularity_bytes: int = arguments.get("granularity", 0)
        self.buffer_bytes: int = arguments.get("buf-size", 0)
        self.copy_mode: str = arguments.get("copy-mode", "background")
        self.replaces: str | None = arguments.get("replaces")
        self.unmap: bool = arguments.get("unmap", True)
        self.backing_mode = LEAVE_BACKING
        self.is_full = False
        self.target_is_zero: bool = arguments.get("target-is-zero", False)
        self.zeroes_target = False
        self.is_none_mode = False
        self.is_commit = False
        self.base: Node | None = None
        self.base_was_read_only = False


def check(graph: Graph, options: MirrorOptions, sync: str) -> None:
    """Also sets what follows from `sync`. Raises QmpError."""
    granularity = options.granularity_bytes
    if granularity and not 512 <= granularity <= _MOST_GRANULARITY:
        raise QmpError("Parameter 'granularity' expects a value in range [512B, 64MB]")
    if granularity & (granularity - 1):
        raise QmpError("Parameter 'granularity' expects a power of 2")
    graph.check_operation(options.source, "mirror-source")
    graph.check_operation(options.target, "mirror-target")
    if options.replaces is None:
        below = chain.skip_implicit_filters(options.source)
        if below is not options.source:
            options.replaces = below.node_name
    if options.replaces is not None:
        replaced = _replaceable(graph, options.source, options.replaces)
        if replaced.size_bytes != options.source.size_bytes:
            raise QmpError("cannot replace image with a mirror image of different size")
    if sync in ("incremental", "bitmap"):
        raise QmpError(f"Sync mode '{sync}' not supported")
    options.is_full = sync == "full"
    options.is_none_mode = sync == "none"
    options.base = chain.next_in_chain(options.source) if sync == "top" else None


def _replaceable(graph: Graph, source: Node, name: str) -> Node:
    """check_to_replace_node."""
    node = graph.nodes.get(name)
    if node is None:
        raise QmpError(graph.rules.replaced_is_missing.format(name=name))
    graph.check_operation(node, "replace")
    if not source.can_replace(node):
        raise QmpError(
            f"Cannot replace '{name}' by a node mirrored from '{source.node_name}', because it cannot be "
            "guaranteed that doing so would not lead to an abrupt change of visible data"
        )
    return node
