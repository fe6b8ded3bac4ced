"""Walking down a chain of filters and backing files, and holding it together (block.c, 7.2)."""

from __future__ import annotations

from posixpath import dirname, isabs, join, normpath

from simulator.block.driver import STATUS_ALLOCATED
from simulator.block.errors import QmpError
from simulator.block.filenames import backing_overridden, full_backing, header_backing
from simulator.block.status import status_above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.block.node import Edge, Node


def skip_filters(node: Node) -> Node:
    """The topmost node with content of its own (bdrv_skip_filters)."""
    while (filtered := node.filtered) is not None:
        node = filtered
    return node


def skip_implicit_filters(node: Node) -> Node:
    """The node itself, or below filters that QEMU put in by itself (bdrv_skip_implicit_filters)."""
    while node.implicit and (filtered := node.filtered) is not None:
        node = filtered
    return node


def next_in_chain(node: Node) -> Node | None:
    """The next layer with content of its own (bdrv_backing_chain_next)."""
    below = skip_filters(node).backing
    return skip_filters(below) if below is not None else None


def chain_contains(top: Node, wanted: Node) -> bool:
    """Whether `wanted` is `top` or below it, through filters and backing files."""
    return any(node is wanted for node in layers(top))


def layers(top: Node | None, end: Node | None = None) -> Iterator[Node]:
    """`top` and what is below it, through filters and backing files, down to `end`, without that."""
    node = top
    while node is not None and node is not end:
        yield node
        node = node.below


def find_overlay(active: Node, node: Node | None) -> Node | None:
    """The layer of `active` whose content falls back to `node`, filters aside; without a node the last
    layer of all (bdrv_find_overlay)."""
    wanted = skip_filters(node) if node is not None else None
    layer: Node | None = skip_filters(active)
    while layer is not None:
        below = next_in_chain(layer)
        if below is wanted:
            return layer
        layer = below
    return None


def last_layer(node: Node) -> Node:
    """bdrv_find_base."""
    found = find_overlay(node, None)
    assert found is not None, "a chain without an end"
    return found


def find_by_filename(top: Node, filename: str) -> Node | None:
    """A layer below `top` by its file's name, absolute or from the directory of the image above it
    (bdrv_find_backing_image). Links of the host are not followed."""
    layer = skip_filters(top)
    while layer.backing is not None:
        below = next_in_chain(layer)
        assert below is not None
        if _leads_to(layer, below, filename):
            return below
        layer = below
    return None


def _leads_to(layer: Node, below: Node, filename: str) -> bool:
    if backing_overridden(layer):
        return filename == below.filename
    named = header_backing(layer)
    if _has_protocol(filename) or _has_protocol(named):
        return filename in (named, full_backing(layer))
    wanted = filename if isabs(filename) else join(dirname(layer.filename), filename)
    host = layer.graph.host
    there = normpath(full_backing(layer))
    return normpath(wanted) == there and host.exists(there)


def _has_protocol(name: str) -> bool:
    return ":" in name.partition("/")[0]


# -- clusters, and what is allocated
def cluster_bytes(node: Node) -> int | None:
    """Of the node, or of what it filters (bdrv_get_info); None if that has no such information."""
    layer: Node | None = node
    while layer is not None and layer.driver.cluster_bytes is None:
        layer = layer.filtered
    return layer.driver.cluster_bytes if layer is not None else None


def round_to_clusters(node: Node, offset: int, length: int) -> tuple[int, int]:
    """(offset, length) of all clusters that the range touches (bdrv_round_to_clusters)."""
    unit = cluster_bytes(node) or 1
    start, end = offset - offset % unit, offset + length
    return start, end + -end % unit - start


async def is_allocated(node: Node, offset: int, length: int) -> tuple[bool, int]:
    """(whether the node itself holds the start of the range, bytes of which that is true)
    (bdrv_is_allocated). Raises OSError."""
    return await is_allocated_above(node, node, offset, length)


async def is_allocated_above(top: Node, bottom: Node | None, offset: int, length: int) -> tuple[bool, int]:
    """The same of all layers from `top` down to `bottom`, that included; 0 bytes only at the end of the
    image (bdrv_is_allocated_above). Raises OSError."""
    flags, count, _ = await status_above(top, bottom, offset, length, want_zero=False, include_base=True)
    return bool(flags & STATUS_ALLOCATED), count


# -- links that must stay while a job relies on them
def _links(top: Node, bottom: Node) -> list[tuple[Node, Edge]]:
    """(node, its edge downwards) from `top` to `bottom`."""
    found = ((node, node.link_below) for node in layers(top, bottom))
    return [(node, edge) for node, edge in found if edge is not None]


def freeze(top: Node, bottom: Node) -> None:
    """Forbid changes of the links from `top` to `bottom`. Raises QmpError if one is frozen already."""
    links = _links(top, bottom)
    for node, edge in links:
        if edge.frozen:
            raise QmpError(
                f"Cannot change '{edge.name}' link from '{node.node_name}' to '{edge.node.node_name}'"
            )
    for _, edge in links:
        if edge.node.never_freeze:
            raise QmpError(f"Cannot freeze '{edge.name}' link to '{edge.node.node_name}'")
    for _, edge in links:
        edge.frozen = True


def unfreeze(top: Node, bottom: Node) -> None:
    for _, edge in _links(top, bottom):
        assert edge.frozen, f"the link to {edge.node!r} was not frozen"
        edge.frozen = False


def supports_compressed_writes(node: Node) -> bool:
    """bdrv_supports_compressed_writes: a filter that hands them on does if what it shows does."""
    filtered = node.filtered
    return node.driver.supports_compressed_writes and (
        filtered is None or supports_compressed_writes(filtered)
    )
