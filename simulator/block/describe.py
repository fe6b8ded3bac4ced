"""What the queries tell of nodes and drives. Source: block/qapi.c and bdrv_get_xdbg_block_graph in block.c,
7.2."""

from __future__ import annotations

from simulator.block import filenames, permissions
from simulator.block.chain import cluster_bytes, skip_implicit_filters
from simulator.block.drivers.backing_filter import BackingFilter
from simulator.qapi.integers import signed64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.block.node import Edge, Node
    from simulator.block.rules import Members

_LIMITS = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")


def device_info(node: Node, flat: bool = False, skip_implicit: bool = False) -> dict[str, Any]:
    """BlockDeviceInfo. Unless `flat`, `image` holds the images below it too."""
    backing_file = {"backing_file": node.backing.filename} if node.backing is not None else {}
    info: dict[str, Any] = {
        "file": node.filename,
        "node-name": node.node_name,
        "ro": node.read_only,
        "drv": node.driver.format_name,
        **backing_file,
        "encrypted": False,
        "cache": dict(node.cache),
        "detect_zeroes": node.detect_zeroes,
        "write_threshold": signed64(node.write_threshold),
        "backing_file_depth": 0,
    }
    info.update(dict.fromkeys(_LIMITS, 0))
    info.update(_of_some_versions(node, node.graph.rules.members))
    if node.bitmaps:
        info["dirty-bitmaps"] = [
            bitmap.info(node.graph.rules.members.bitmap_status) for bitmap in node.bitmaps
        ]
    image = info["image"] = image_info(node)
    layer = node.below
    while layer is not None and not flat:
        if skip_implicit:
            layer = skip_implicit_filters(layer)
        info["backing_file_depth"] += 1
        below = image_info(layer)
        image["backing-image"] = below
        image, layer = below, layer.below
    return info


def _of_some_versions(node: Node, members: Members) -> dict[str, Any]:
    info: dict[str, Any] = {}
    if members.active:
        info["active"] = not node.inactive
    if members.missing_key:
        info["encryption_key_missing"] = False
    if members.children:
        edges = reversed(list(node.children.values()))
        info["children"] = [{"child": edge.name, "node-name": edge.node.node_name} for edge in edges]
    return info


def image_info(node: Node) -> dict[str, Any]:
    """ImageInfo of one node alone (bdrv_query_image_info)."""
    info: dict[str, Any] = {
        "filename": node.filename,
        "format": node.driver.format_name,
        "virtual-size": node.size_bytes,
    }
    actual = node.driver.actual_size_bytes()
    if actual is not None:
        info["actual-size"] = actual
    unit = cluster_bytes(node)
    if unit is not None:
        if unit:
            info["cluster-size"] = unit
        info["dirty-flag"] = False
        if node.filtered is not None:
            info["dirty-flag"] = image_info(node.filtered).get("dirty-flag", False)
    info.update(node.driver.image_info())
    members = node.graph.rules.members
    if members.limits:
        info["limits"] = _limits(node)
    if members.file_specific and node.driver.format_name == "file":
        info["format-specific"] = {"type": "file", "data": {}}
    backing = filenames.header_backing(node)
    if backing:
        info["backing-filename"] = backing
        info["full-backing-filename"] = filenames.full_backing(node)
        backing_format = getattr(node.driver, "backing_format", None)
        if backing_format:
            info["backing-filename-format"] = backing_format
    return info


def _limits(node: Node) -> dict[str, Any]:
    """BlockLimitsInfo (bdrv_refresh_limits, block/io.c): of a node without children what no driver says
    otherwise; buffers in memory suit all that is below. qcow2 zeroes and discards in clusters, and what is
    above it discards so, too."""
    discard_bytes = _discard_alignment(node)
    limits = {
        "request-alignment": node.driver.request_alignment,
        "max-iov": 1024,
        "min-mem-alignment": _memory_alignment(node),
        "opt-mem-alignment": 4096,
    }
    if discard_bytes:
        limits["discard-alignment"] = discard_bytes
    transfer_bytes = max_transfer_bytes(node)
    if transfer_bytes:
        limits["max-transfer"] = transfer_bytes
    return limits | node.driver.limits()


def max_transfer_bytes(node: Node) -> int:
    """The most that a request may be long, the driver's own or the smallest of the children that hold data or
    show through; 0: there is no limit."""
    own = node.driver.limits().get("max-transfer", 0)
    if own or _was_put_on_top(node):
        return own
    return min(filter(None, map(max_transfer_bytes, _limiting_children(node))), default=0)


def _limiting_children(node: Node) -> list[Node]:
    """Those whose limits are this node's, too (bdrv_refresh_limits)."""
    looked_at = permissions.DATA | permissions.FILTERED | permissions.COW
    return [_as_it_was(edge.node) for edge in node.children.values() if edge.role & looked_at]


def _was_put_on_top(node: Node) -> bool:
    """Whether it is a filter that a job has made and only then put above its node: its limits are those that
    it had without (observed)."""
    return isinstance(node.driver, BackingFilter)


def _memory_alignment(node: Node) -> int:
    """In bytes, the largest of its children's (bdrv_merge_limits)."""
    if node.children and not _was_put_on_top(node):
        return max(_memory_alignment(_as_it_was(edge.node)) for edge in node.children.values())
    return getattr(node.driver, "memory_alignment", 512)


def _as_it_was(node: Node) -> Node:
    """What its users stood on before such filters came between: they have not looked again."""
    while _was_put_on_top(node) and node.filtered is not None:
        node = node.filtered
    return node


def _discard_alignment(node: Node) -> int:
    """Likewise of a child that holds data, or shows through."""
    if node.driver.format_name == "qcow2":
        return node.driver.cluster_bytes or 0
    own = node.driver.limits().get("discard-alignment", 0)
    if own or _was_put_on_top(node):
        return own
    return max(map(_discard_alignment, _limiting_children(node)), default=0)


def storage_child(node: Node) -> Edge | None:
    """Where the data of a node lies, if that is one place (bdrv_query_bds_stats)."""
    wanted = permissions.DATA | permissions.FILTERED
    edges = list(node.children.values())
    for edge in edges:
        if edge.role & permissions.PRIMARY and edge.role & wanted:
            return edge
    storing = [edge for edge in edges if edge.role & permissions.DATA]
    return storing[0] if len(storing) == 1 else None


# -- x-debug-query-block-graph
_PERMISSION_NAMES = (
    (permissions.GRAPH_MOD, "graph-mod"),
    (permissions.RESIZE, "resize"),
    (permissions.WRITE_UNCHANGED, "write-unchanged"),
    (permissions.WRITE, "write"),
    (permissions.CONSISTENT_READ, "consistent-read"),
)


class GraphPicture:
    """XDbgBlockGraph. Users and nodes are numbered in the order in which they are first mentioned."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._nodes: list[dict[str, Any]] = []
        self._edges: list[dict[str, Any]] = []

    def _number(self, item: object) -> int:
        return self._numbers.setdefault(item, len(self._numbers) + 1)

    def add(self, kind: str, item: object, name: str, edges: Iterable[Edge]) -> None:
        """`kind` block-backend, block-job or block-driver."""
        self._nodes.append({"id": self._number(item), "type": kind, "name": name})
        for edge in edges:
            self._edges.append(
                {
                    "parent": self._number(item),
                    "child": self._number(edge.node),
                    "name": edge.name,
                    "perm": _names(edge.perm),
                    "shared-perm": _shared_names(edge),
                }
            )

    def add_backend(self, backend: BlockBackend) -> None:
        edges = [backend.root] if backend.root is not None else []
        self.add("block-backend", backend, backend.name or backend.device_id, edges)

    def add_node(self, node: Node) -> None:
        self.add("block-driver", node, node.node_name, reversed(list(node.children.values())))

    def reply(self) -> dict[str, Any]:
        return {"nodes": self._nodes[::-1], "edges": self._edges[::-1]}


def _shared_names(edge: Edge) -> list[str]:
    shared = edge.shared
    return _names(shared if edge.node.graph.rules.members.graph_mod else shared & ~permissions.GRAPH_MOD)


def _names(perm: int) -> list[str]:
    return [name for bit, name in _PERMISSION_NAMES if perm & bit]
