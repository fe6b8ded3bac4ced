"""What the queries tell of nodes and drives. Source: block/qapi.c and bdrv_get_xdbg_block_graph in block.c,
7.2."""

from __future__ import annotations

from simulator.block import filenames, permissions
from simulator.block.chain import skip_implicit_filters

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
    info: dict[str, Any] = {
        "file": node.filename,
        "node-name": node.node_name,
        "ro": node.read_only,
        "drv": node.driver.format_name,
        "encrypted": False,
        "cache": dict(node.cache),
        "detect_zeroes": node.detect_zeroes,
        "write_threshold": 0,
        "backing_file_depth": 0,
    }
    info.update(dict.fromkeys(_LIMITS, 0))
    info.update(_of_some_versions(node, node.graph.rules.members))
    if node.backing is not None:
        info["backing_file"] = node.backing.filename
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
        info["active"] = True
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
    informed = node
    while informed.driver.cluster_bytes is None and informed.filtered is not None:
        informed = informed.filtered
    if informed.driver.cluster_bytes is not None:
        if informed.driver.cluster_bytes:
            info["cluster-size"] = informed.driver.cluster_bytes
        info["dirty-flag"] = informed.driver.image_info().get("dirty-flag", False)
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
    otherwise, of all others their storage's; buffers in memory suit all that is below. qcow2 zeroes and
    discards in clusters, and what is above it discards so, too."""
    lowest, discard_bytes = node, _discard_alignment(node)
    while (storage := _storage_child(lowest)) is not None:
        lowest = storage.node
        discard_bytes = max(discard_bytes, _discard_alignment(lowest))
    limits = {
        "request-alignment": 1,
        "max-iov": 1024,
        "min-mem-alignment": _memory_alignment(node),
        "opt-mem-alignment": 4096,
    }
    if discard_bytes:
        limits["discard-alignment"] = discard_bytes
    if node.driver.format_name == "qcow2":
        limits["write-zeroes-alignment"] = discard_bytes
    return limits


def _memory_alignment(node: Node) -> int:
    """In bytes, the largest of its children's (bdrv_merge_limits)."""
    if node.children:
        return max(_memory_alignment(edge.node) for edge in node.children.values())
    return 1 if node.driver.format_name == "file" else 512


def _discard_alignment(node: Node) -> int:
    return (node.driver.cluster_bytes or 0) if node.driver.format_name == "qcow2" else 0


# -- statistics. Requests are not counted: all numbers are zero, as on a machine that has just started.
_COUNTED = ("rd", "wr", "unmap")


def node_stats(
    node: Node | None, of_drive: bool, members: Members, is_device: bool = False
) -> dict[str, Any]:
    """BlockStats of a node; `of_drive`: as query-blockstats shows it for a drive, perhaps a device's."""
    stats: dict[str, Any] = {
        "wr_highest_offset": 0,
        "flush_operations": 0,
        "flush_total_time_ns": 0,
        "failed_flush_operations": 0,
        "invalid_flush_operations": 0,
        "account_invalid": of_drive and (members.device_accounts or not is_device),
        "account_failed": of_drive and (members.device_accounts or not is_device),
        "timed_stats": [],
    }
    for kind in (*_COUNTED, "zone_append") if members.zone_append else _COUNTED:
        for name in ("bytes", "operations", "merged", "total_time_ns"):
            stats[f"{kind}_{name}"] = 0
        stats[f"failed_{kind}_operations"] = 0
        stats[f"invalid_{kind}_operations"] = 0
    if node is None:
        return {"stats": stats}
    return {"stats": stats, **_stats_of_layers(node, of_drive)}


def _stats_of_layers(node: Node, of_drive: bool) -> dict[str, Any]:
    if of_drive:
        node = skip_implicit_filters(node)
    info: dict[str, Any] = {"node-name": node.node_name}
    if node.driver.format_name == "file":
        info["driver-specific"] = {
            "driver": "file",
            "discard-nb-ok": 0,
            "discard-nb-failed": 0,
            "discard-bytes-ok": 0,
        }
    storage = _storage_child(node)
    if storage is not None:
        info["parent"] = _inner_stats(storage.node, of_drive)
    if of_drive and node.below is not None:
        info["backing"] = _inner_stats(node.below, of_drive)
    return info


def _inner_stats(node: Node, of_drive: bool) -> dict[str, Any]:
    info = node_stats(node, of_drive, node.graph.rules.members)
    # Only a drive itself counts refused and failed requests.
    info["stats"]["account_invalid"] = info["stats"]["account_failed"] = False
    return info


def _storage_child(node: Node) -> Edge | None:
    wanted = permissions.DATA | permissions.FILTERED
    edges = list(node.children.values())
    for edge in edges:
        if edge.role & permissions.PRIMARY and edge.role & wanted:
            return edge
    storing = [edge for edge in edges if edge.role & permissions.DATA]
    return storing[0] if len(storing) == 1 else None


# -- x-debug-query-block-graph
_PERMISSION_NAMES = (
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
    names = _names(edge.shared)
    return ["graph-mod", *names] if edge.node.graph.rules.members.graph_mod else names


def _names(perm: int) -> list[str]:
    return [name for bit, name in _PERMISSION_NAMES if perm & bit]
