"""Who may do what to a node: permissions taken and shared along edges, refreshed over the graph.

Source: block.c:2200-2830, 7.2 (bdrv_a_allow_b, bdrv_node_refresh_perm, bdrv_default_perms).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from simulator.block.errors import QmpError

if TYPE_CHECKING:
    from simulator.block.node import Edge, Node

CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE = 1, 2, 4, 8
ALL = 15
NAMES = (
    (CONSISTENT_READ, "consistent read"),
    (WRITE, "write"),
    (WRITE_UNCHANGED, "write unchanged"),
    (RESIZE, "resize"),
)

# What a child is to its parent (BdrvChildRoleBits).
DATA, METADATA, FILTERED, COW, PRIMARY = 1, 2, 4, 8, 16
IMAGE = DATA | METADATA | PRIMARY


def names(permissions: int) -> str:
    """As an error message lists them: "write, resize"."""
    return ", ".join(name for bit, name in NAMES if permissions & bit)


def default_permissions(node: Node, role: int, perm: int, shared: int) -> tuple[int, int]:
    """What a node needs of, and shares on, a child of this role, given what its own parents need and
    share."""
    if role & FILTERED:
        return perm, shared
    if role & COW:
        return _for_cow(perm, shared)
    return _for_storage(node, role, perm, shared)


def _for_cow(perm: int, shared: int) -> tuple[int, int]:
    kept = WRITE | RESIZE if shared & WRITE else 0
    return perm & CONSISTENT_READ, kept | CONSISTENT_READ | WRITE_UNCHANGED


def _for_storage(node: Node, role: int, perm: int, shared: int) -> tuple[int, int]:
    if role & METADATA:
        # A format driver updates its metadata even when its user only reads, and nobody else may move it.
        if node.is_writable():
            perm |= WRITE | RESIZE
        perm |= CONSISTENT_READ
        shared &= ~(WRITE | RESIZE)
    if role & DATA:
        shared &= ~RESIZE
        if perm & WRITE_UNCHANGED:
            perm |= WRITE
        if perm & WRITE:
            perm |= RESIZE
    return perm, shared


def cumulative(node: Node) -> tuple[int, int]:
    """All that the parents of a node need of it, and what every one of them shares."""
    perm, shared = 0, ALL
    for edge in node.parents:
        perm |= edge.perm
        shared &= edge.shared
    return perm, shared


def topological(roots: Iterable[Node]) -> list[Node]:
    """All nodes below `roots` and themselves, every parent before its children."""
    order: list[Node] = []
    seen: set[Node] = set()  # only asked whether it holds a node, never walked

    def visit(node: Node) -> None:
        seen.add(node)
        for edge in node.children.values():
            if edge.node not in seen:
                visit(edge.node)
        order.append(node)

    for root in roots:
        if root not in seen:
            visit(root)
    order.reverse()
    return order


def refresh(roots: Iterable[Node]) -> None:
    """Recompute permissions below `roots`. Raises QmpError and leaves all permissions as they were on a conflict.

    Below the roots and their children, which may have come to new parents, nodes are looked at only where what is
    asked of them has changed: otherwise nothing can come of it.
    """
    roots = list(roots)
    before: list[tuple[Edge, int, int]] = []
    changed: list[Node] = []
    due = {edge.node for root in roots for edge in root.children.values()}
    due.update(roots)
    try:
        for node in topological(roots):
            if node in due:
                _refresh_node(node, before, changed, due)
    except QmpError:
        for edge, perm, shared in reversed(before):
            edge.perm, edge.shared = perm, shared
        for node in reversed(changed):
            node.driver.abort_permissions()
        raise
    for node in changed:
        node.driver.commit_permissions()
        perm, shared = cumulative(node)
        node.held = (perm, shared, node.read_only, node.auto_read_only)


def _refresh_node(
    node: Node, before: list[tuple[Edge, int, int]], changed: list[Node], due: set[Node]
) -> None:
    _check_parents(node)
    perm, shared = cumulative(node)
    if perm & (WRITE | WRITE_UNCHANGED) and not node.is_writable():
        raise QmpError("Block node is read-only")
    if node.held != (perm, shared, node.read_only, node.auto_read_only):
        # Only what is new is asked of the driver, which may have to go to the host for it.
        changed.append(node)
        node.driver.check_permissions(perm, shared)
    for edge in node.children.values():
        child_perm, child_shared = node.driver.child_permissions(edge.name, edge.role, perm, shared)
        if edge.node.force_share:
            child_shared = ALL
        if child_perm != edge.perm or child_shared != edge.shared:
            before.append((edge, edge.perm, edge.shared))
            edge.perm, edge.shared = child_perm, child_shared
            due.add(edge.node)
        elif edge.node.held is None:
            due.add(edge.node)


def _check_parents(node: Node) -> None:
    """Raise if one parent needs what another does not share, naming both. Newest parent first, as QEMU's
    list."""
    parents = node.parents
    if len(parents) < 2:
        return
    newest_first = parents[::-1]
    for a in newest_first:
        for b in newest_first:
            missing = b.perm & ~a.shared
            if a is b or not missing:
                continue
            name = node.node_name
            raise QmpError(
                f"Permission conflict on node '{name}': permissions '{names(missing)}' are both required by "
                f"{b.parent.user_description()} (uses node '{name}' as '{b.name}' child) and unshared by "
                f"{a.parent.user_description()} (uses node '{name}' as '{a.name}' child)."
            )
