"""Putting a node below or above another as its backing file while both are in use (block.c:3318, 5245,
7.2)."""

from __future__ import annotations

from contextlib import suppress
from errno import EINVAL, EIO, ENOTSUP, EPERM
from os import strerror

from simulator.block import granting, permissions
from simulator.block.backend import BlockBackend
from simulator.block.chain import skip_implicit_filters
from simulator.block.drivers.backing_filter import BackingFilter
from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.errors import QmpError
from simulator.block.node import Node
from simulator.block.opening import ABORTED, block_as_backing
from simulator.block.reopening import set_read_only
from simulator.engine.task import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.graph import Graph

_MAX_NAME_BYTES = 1023


async def set_backing(graph: Graph, overlay: Node, backing: Node | None, refresh: bool = True) -> None:
    """Let `overlay` fall back to `backing`, or to nothing (bdrv_set_backing_hd); permissions are the caller's
    business without `refresh`. Raises QmpError."""
    edge = overlay.children.get("backing")
    if edge is not None and edge.frozen:
        raise QmpError(
            f"Cannot change frozen 'backing' link from '{overlay.node_name}' to '{edge.node.node_name}'"
        )
    if graph.rules.set_backing_minds_driver and not overlay.driver.supports_backing:
        raise QmpError(
            f"Driver '{overlay.driver.format_name}' of node '{overlay.node_name}' does not support backing "
            "files"
        )
    inherits = backing is not None and inherits_from(backing, overlay)
    await graph.changing()
    async with graph.drained(overlay):
        if edge is not None:
            # What it needed itself of nodes below it, it goes on needing until it is looked at again.
            _forget_parent(overlay, edge.node)
            graph.unlink(edge)
        if backing is not None:
            graph.attach(overlay, "backing", permissions.COW, backing, 0, permissions.ALL, refresh)
            block_as_backing(overlay)
            if inherits:
                backing.inherits_from = overlay
        else:
            granting.refresh([overlay])
    if edge is not None:
        await graph.release(edge.node)


def inherits_from(node: Node, ancestor: Node) -> bool:
    """Whether the options of `ancestor` described the node, perhaps within those of others
    (bdrv_inherits_from_recursive)."""
    parent: Node | None = node
    while parent is not None and parent is not ancestor:
        parent = parent.inherits_from
    return parent is not None


def _forget_parent(parent: Node, node: Node) -> None:
    """What `parent` described below a node that it loses is its own now (bdrv_unset_inherits_from)."""
    for below in permissions.topological([node]):
        if below.inherits_from is parent:
            below.inherits_from = None


async def change_backing_file(node: Node, filename: str | None, image_format: str | None) -> None:
    """What the image's header names as its backing file, None for nothing (bdrv_change_backing_file). Raises
    OSError."""
    if not isinstance(node.driver, Qcow2):
        raise OSError(ENOTSUP, strerror(ENOTSUP))
    if len((filename or "").encode()) > _MAX_NAME_BYTES:
        raise OSError(EINVAL, strerror(EINVAL))
    # Also if the image cannot be told: from now on the node goes by this name.
    node.auto_backing_file = filename or ""
    await node.driver.change_backing_file(filename or "", image_format or "")


async def append(graph: Graph, overlay: Node, below: Node) -> None:
    """Put `overlay` above `below` and give it all users of that (bdrv_append). Raises QmpError and undoes
    all."""
    if not graph.rules.permissions_at_once:
        if overlay is below:
            # Nobody looks for a cycle before its edges are made (block.c, 5.2; observed).
            await graph.end_process(ABORTED, f"node '{overlay.node_name}' above itself")
        await set_backing(graph, overlay, below)
        try:
            await graph.replace(below, overlay)
        except QmpError:
            await set_backing(graph, overlay, None)
            raise
        return
    async with graph.drained(below, overlay):
        try:
            await set_backing(graph, overlay, below, refresh=False)
            try:
                await graph.replace(below, overlay)
            except QmpError:
                # All of it was one change, which is undone with it.
                graph.unlink(overlay.children["backing"])
                granting.refresh([overlay, below])
                raise
        finally:
            await _refresh_limits(graph, below)


async def _refresh_limits(graph: Graph, node: Node) -> None:
    """Of a node that something was put above, while the graph is locked for that, whatever came of it. A
    driver that asks its child then does so in a coroutine, which waits for the lock to be let go, as who has
    it waits for the coroutine: for ever, and so does every request from then on (bdrv_append, block.c:5583,
    and compress_refresh_limits, block/filter-compress.c:103, 10.0.13)."""
    if not (node.driver.limits_ask_child and graph.rules.changes_drain_all):
        return
    for each in graph.nodes.values():
        for edge in each.parents:
            if isinstance(edge.parent, BlockBackend):
                edge.parent.drained_begin()
    await Future(f"the limits of '{node.node_name}', which QEMU never gets")


async def take_off(graph: Graph, overlay: Node, below: Node) -> None:
    """Undo `append`. `overlay` may be gone afterwards, unless somebody holds it."""
    below.references += 1
    await set_backing(graph, overlay, None)
    await graph.replace(overlay, below)
    below.references -= 1


async def append_filter(
    graph: Graph,
    driver_class: type[BackingFilter],
    node_name: str | None,
    below: Node,
    read_only: bool,
    is_commit: bool = False,
) -> Node:
    """Put a job's own filter above a node; the caller holds it. `is_commit`: see BackingFilter. Raises
    QmpError and undoes all."""
    name = graph.claim_name(node_name)
    node = Node(graph, name, driver_class)
    assert isinstance(node.driver, BackingFilter)
    node.driver.is_commit = is_commit
    node.read_only = read_only
    node.implicit = node_name is None
    node.never_freeze = True
    node.size_bytes = below.size_bytes
    graph.nodes[name] = node
    node.references += 1
    try:
        await graph.changing()
        role = permissions.FILTERED | permissions.PRIMARY
        try:
            graph.attach(node, "backing", role, below, 0, permissions.ALL)
            await graph.replace(below, node)
        finally:
            await _refresh_limits(graph, below)
    except QmpError:
        node.references -= 1
        await graph.release(node)
        raise
    return node


async def drop_intermediate(graph: Graph, top: Node, base: Node, backing_file: str | None) -> None:
    """Let the users of `top` stand on `base` and their images name that, by `backing_file` if it is given
    (bdrv_drop_intermediate). Raises OSError; what was wrong is printed."""
    explicit_top = skip_implicit_filters(top)
    inherits = inherits_from(base, explicit_top)
    filename = base.filename if backing_file is None else backing_file
    users = list(top.parents)
    top.references += 1
    try:
        async with graph.drained(*permissions.topological([top])):
            await graph.changing()
            try:
                await graph.replace(top, base, skips=False)
            except QmpError as error:
                graph.report(error.console_text)
                raise OSError(EIO, strerror(EIO)) from None
            for edge in users:
                if isinstance(edge.parent, Node) and edge.role & permissions.COW:
                    await _name_backing(graph, edge.parent, base, filename)
            if inherits:
                base.inherits_from = explicit_top.inherits_from
    finally:
        top.references -= 1
        await graph.release(top)


async def _name_backing(graph: Graph, node: Node, base: Node, filename: str) -> None:
    """bdrv_backing_update_filename. Raises OSError."""
    was_read_only = node.read_only
    if was_read_only:
        try:
            await set_read_only(graph, node, False)
        except QmpError as error:
            graph.report(error.console_text)
            raise OSError(EPERM, strerror(EPERM)) from None
    try:
        await change_backing_file(node, filename, base.driver.format_name)
    except OSError as error:
        graph.report(f"Could not update backing file link: {error.strerror}")
        raise
    finally:
        if was_read_only:
            with suppress(QmpError):
                await set_read_only(graph, node, True)
