"""Nodes that are inactive: their image may belong to another process, as at the two ends of a migration, and
nothing is written to it.

Source: bdrv_activate and bdrv_inactivate, block.c:6818-7056, and block/block-backend.c:191-282, 10.0.13.
"""

from __future__ import annotations

from contextlib import suppress
from errno import EPERM
from os import strerror

from simulator.block import granting, permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.block.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.block.parent import Parent

_ABORTED = -6  # SIGABRT
_WRITES = permissions.WRITE | permissions.WRITE_UNCHANGED


def check_user(parent: Parent | Node, name: str, node: Node, perm: int) -> None:
    """Somebody comes to a node that is inactive. Raises QmpError if it is of no use to them."""
    if isinstance(parent, Node):
        if not parent.inactive:
            words = f"can't be a {name} child of active '{parent.node_name}'"
            raise QmpError(f"Inactive '{node.node_name}' {words}")
    elif perm & ~permissions.CONSISTENT_READ:
        raise QmpError(f"Permission '{permissions.names(perm)}' unavailable on inactive node")


async def activate(node: Node) -> None:
    """With all below it. Raises QmpError."""
    for edge in reversed(list(node.children.values())):
        await activate(edge.node)
    if node.inactive:
        node.inactive = False
        try:
            granting.refresh([node])
            await node.driver.activate()
            for bitmap in node.bitmaps:
                bitmap.skip_store = False
        except QmpError:
            node.inactive = True
            raise
    for edge in list(node.parents):
        if isinstance(edge.parent, BlockBackend):
            try:
                edge.parent.activate()
            except QmpError:
                node.inactive = True
                raise


async def activate_all(nodes: Iterable[Node]) -> None:
    """Raises QmpError at the first that cannot be."""
    for node in list(nodes):
        await activate(node)


async def inactivate(node: Node) -> None:
    """With those below it that have no active parent left. Raises QmpError; what was inactive by then stays
    so."""
    if _has_parent_node(node, only_active=True):
        raise QmpError("Node has active parent node")
    try:
        await _inactivate(node, is_top=True)
    except OSError as error:
        raise QmpError(f"Failed to inactivate node: {strerror(error.errno or 0)}") from None


async def inactivate_all(nodes: Iterable[Node]) -> None:
    """Raises QmpError at the first that cannot be."""
    try:
        for node in list(nodes):
            if not _has_parent_node(node, only_active=False):
                await _inactivate(node, is_top=True)
    except OSError as error:
        raise QmpError(f"Failed to inactivate all nodes: {strerror(error.errno or 0)}") from None


def _has_parent_node(node: Node, only_active: bool) -> bool:
    parents = [edge.parent for edge in node.parents if isinstance(edge.parent, Node)]
    return any(not (only_active and parent.inactive) for parent in parents)


async def _inactivate(node: Node, is_top: bool = False) -> None:
    """bdrv_inactivate_recurse. Raises OSError."""
    if _has_parent_node(node, only_active=True):
        return
    if node.inactive:
        if not is_top:
            # Such as one that is twice a child of the same node.
            await node.graph.end_process(_ABORTED, "bdrv_inactivate_recurse: Assertion `top_level' failed.")
        return
    await node.driver.inactivate()
    for edge in list(node.parents):
        if isinstance(edge.parent, BlockBackend):
            edge.parent.inactivate()
    if permissions.cumulative(node)[0] & _WRITES:
        raise OSError(EPERM, strerror(EPERM))
    async with node.graph.drained(node):
        node.inactive = True
    # That only loosens what is held.
    with suppress(QmpError):
        granting.refresh([node])
    for edge in reversed(list(node.children.values())):
        await _inactivate(edge.node)
