"""HMP's commit: what a layer holds goes into its backing file, all at once and without a job (bdrv_commit,
block/commit.c:443, 7.2)."""

from __future__ import annotations

from contextlib import suppress
from errno import EACCES, EBUSY, EIO, ENOTSUP, EPERM
from os import strerror

from simulator.block import chain, permissions
from simulator.block.backend import BlockBackend
from simulator.block.drivers.commit_top import CommitTop
from simulator.block.errors import QmpError
from simulator.block.node import Node
from simulator.block.reopening import set_read_only
from simulator.jobs.backing import set_backing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.graph import Graph

_CHUNK_BYTES = 512 << 10


class _Backend(BlockBackend):
    """Of the commit itself, which goes on while others are drained for it."""

    __slots__ = ()

    queues_while_drained = False


async def commit_now(graph: Graph, node: Node) -> None:
    """Raises OSError; what else was wrong is printed."""
    async with graph.drained_all() if graph.rules.changes_made_drained else graph.drained():
        backing = node.backing
        if backing is None:
            raise OSError(ENOTSUP, strerror(ENOTSUP))
        if _is_blocked(graph, node, "commit-source") or _is_blocked(graph, backing, "commit-target"):
            raise OSError(EBUSY, strerror(EBUSY))
        was_read_only = backing.read_only
        if was_read_only:
            try:
                await set_read_only(graph, backing, False)
            except QmpError:
                raise OSError(EACCES, strerror(EACCES)) from None
        try:
            await _commit(graph, node, backing)
        except QmpError as error:
            graph.report(error.console_text)
            raise OSError(EPERM, strerror(EPERM)) from None
        finally:
            if was_read_only:
                with suppress(QmpError):
                    await set_read_only(graph, backing, True)


def _is_blocked(graph: Graph, node: Node, operation: str) -> bool:
    try:
        graph.check_operation(node, operation)
    except QmpError:
        return True
    return False


async def _commit(graph: Graph, node: Node, backing: Node) -> None:
    """Raises OSError, QmpError."""
    reads = permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED
    reader = _Backend(graph, "", reads, permissions.ALL)
    writer = _Backend(graph, "", permissions.WRITE | permissions.RESIZE, permissions.ALL)
    top = _commit_top(graph)
    backing.references += 1
    try:
        await graph.changing()
        reader.insert(node)
        await graph.changing()
        graph.attach(top, "backing", permissions.FILTERED | permissions.PRIMARY, backing, 0, permissions.ALL)
        top.size_bytes = backing.size_bytes
        await set_backing(graph, node, top)
        await graph.changing()
        writer.insert(backing)
        await _copy(node, backing, reader, writer)
    finally:
        await writer.remove()
        if node.backing is not backing:
            await set_backing(graph, node, backing)
        top.references -= 1
        await graph.release(top)
        await reader.remove()
        backing.references -= 1


def _commit_top(graph: Graph) -> Node:
    """A filter by which the layer still falls back to what is written to; the caller holds it."""
    node = Node(graph, graph.claim_name(None), CommitTop)
    graph.nodes[node.node_name] = node
    node.references += 1
    return node


async def _copy(node: Node, backing: Node, reader: _Backend, writer: _Backend) -> None:
    size_bytes = node.size_bytes
    if size_bytes > backing.size_bytes:
        try:
            await backing.truncate(size_bytes)
        except QmpError as error:
            node.graph.report(error.console_text)
            raise OSError(EIO, strerror(EIO)) from None
    offset = 0
    while offset < size_bytes:
        is_here, count = await chain.is_allocated(node, offset, min(_CHUNK_BYTES, size_bytes - offset))
        if is_here:
            await writer.write(offset, await reader.read(offset, count))
        offset += count
    await node.driver.make_empty()
    await reader.flush()
    await writer.flush()
