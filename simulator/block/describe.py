"""What the queries tell of nodes and drives. Source: block/qapi.c and bdrv_get_xdbg_block_graph in block.c,
7.2."""

from __future__ import annotations

from simulator.block import filenames, permissions
from simulator.qapi.integers import signed64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.block.node import Edge, Node

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
        "write_threshold": signed64(node.write_threshold),
        "backing_file_depth": 0,
    }
    info.update(dict.fromkeys(_LIMITS, 0))
    if node.backing is not None:
        info["backing_file"] = node.backing.filename
    if node.bitmaps:
        info["dirty-bitmaps"] = [bitmap.info() for bitmap in node.bitmaps]
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
    backing = filenames.header_backing(node)
    if backing:
        info["backing-filename"] = backing
        info["full-backing-filename"] = filenames.full_backing(node)
        backing_format = getattr(node.driver, "backing_format", None)
        if backing_format:
            info["backing-filename-format"] = backing_format
    return info


def skip_implicit_filters(node: Node) -> Node:
    while node.implicit and node.filtered is not None:
        node = node.filtered
    return node


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
                    "shared-perm": _names(edge.shared),
                }
            )

    def add_backend(self, backend: BlockBackend) -> None:
        edges = [backend.root] if backend.root is not None else []
        self.add("block-backend", backend, backend.name or backend.device_id, edges)

    def add_node(self, node: Node) -> None:
        self.add("block-driver", node, node.node_name, reversed(list(node.children.values())))

    def reply(self) -> dict[str, Any]:
        return {"nodes": self._nodes[::-1], "edges": self._edges[::-1]}


def _names(perm: int) -> list[str]:
    return [name for bit, name in _PERMISSION_NAMES if perm & bit]
