"""Users of nodes come, go and change what they need: by the version's own way of looking at permissions."""

from __future__ import annotations

from simulator.block import permissions, permissions_by_user
from simulator.block.errors import QmpError
from simulator.block.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Edge


def refresh(roots: list[Node]) -> None:
    """What `roots` need of their children may have changed. Raises QmpError."""
    if not roots or roots[0].graph.rules.permissions_at_once:
        permissions.refresh(roots)
    else:
        permissions_by_user.refresh(roots)


def come(edge: Edge) -> None:
    """The user has just been linked to its node. Raises QmpError."""
    if edge.node.graph.rules.permissions_at_once:
        if isinstance(edge.parent, Node):
            permissions.refresh([edge.parent])
        else:
            permissions.refresh_below_users(edge.node)
    elif isinstance(edge.parent, Node):
        permissions_by_user.refresh_child(edge)
    else:
        permissions_by_user.come(edge)


def go(node: Node) -> None:
    """A user has gone. Raises QmpError."""
    if node.graph.rules.permissions_at_once:
        permissions.refresh_below_users(node)
    else:
        permissions_by_user.go(node)


def change(edge: Edge, perm: int, shared: int) -> None:
    """A user needs something else from now on. Raises QmpError, and then it has what it had."""
    before = edge.perm, edge.shared
    edge.perm, edge.shared = perm, shared
    try:
        if edge.node.graph.rules.permissions_at_once:
            permissions.refresh_below_users(edge.node)
        else:
            permissions_by_user.come(edge)
    except QmpError:
        edge.perm, edge.shared = before
        refresh([edge.node])
        raise
