"""Permissions as they were before 6.1: one user at a time is looked at beside the others, and then all below.

An update that changes what two users of one node need meets the old needs of the other on its way, and is
refused although both could have what they ask for in the end. Source: block.c:1979-2380, 5.2
(bdrv_check_perm, bdrv_check_update_perm, bdrv_set_perm, bdrv_child_try_set_perm).
"""

from __future__ import annotations

from contextlib import suppress

from simulator.block.errors import QmpError
from simulator.block.permissions import (
    ALL,
    WRITE,
    WRITE_UNCHANGED,
    asked_of,
    check_alignment,
    cumulative,
    names,
    was_writable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from simulator.block.node import Edge, Node


class Update:
    """What one update has changed so far, to be committed or undone."""

    __slots__ = ("_asked", "_before")

    def __init__(self) -> None:
        self._before: list[tuple[Edge, int, int]] = []
        self._asked: list[Node] = []

    def check_user(self, node: Node, perm: int, shared: int, ignored: tuple[Edge, ...]) -> None:
        """Whether a user may have these on `node`, beside all users that are not `ignored`, newest first.
        Raises QmpError."""
        all_perm, all_shared = perm, shared
        for edge in node.parents[::-1]:
            if edge in ignored:
                continue
            denied, used = perm & ~edge.shared, edge.perm & ~shared
            if denied or used:
                raise QmpError(
                    f"Conflicts with use by {edge.parent.short_description()} as '{edge.name}', which "
                    f"{'does not allow' if denied else 'uses'} '{names(denied or used)}' on {node.node_name}"
                )
            all_perm |= edge.perm
            all_shared &= edge.shared
        self.check_node(node, all_perm, all_shared, ignored)

    def check_node(self, node: Node, perm: int, shared: int, ignored: tuple[Edge, ...] = ()) -> None:
        """Whether the users of `node` may have these together. Raises QmpError."""
        if perm & (WRITE | WRITE_UNCHANGED) and not node.is_writable():
            raise QmpError(_why_read_only(node))
        check_alignment(node, perm)
        if node in self._asked:
            node.driver.abort_permissions()
        else:
            self._asked.append(node)
        node.driver.check_permissions(perm, shared)
        for edge in reversed(list(node.children.values())):
            child_perm, child_shared = child_permissions(node, edge, perm, shared)
            self.check_user(edge.node, child_perm, child_shared, (edge, *ignored))
            self._before.append((edge, edge.perm, edge.shared))
            edge.perm, edge.shared = child_perm, child_shared

    def undo(self) -> None:
        for edge, perm, shared in reversed(self._before):
            edge.perm, edge.shared = perm, shared
        for node in reversed(self._asked):
            node.driver.abort_permissions()

    def commit(self) -> None:
        """Once the users stand where they are to stand."""
        for node in self._asked:
            node.driver.commit_permissions()
            node.held = asked_of(node)
        if self._asked:
            _settle(self._asked[0])


def _why_read_only(node: Node) -> str:
    if not was_writable(node):
        return "Block node is read-only"
    has_writer = any(edge.perm & (WRITE | WRITE_UNCHANGED) for edge in node.parents)
    rest = ", there is a writer on it" if has_writer else " and create a writer on it"
    return f"Cannot make block node read-only{rest}"


def _settle(node: Node) -> None:
    """bdrv_set_perm: all below needs what its users need by now."""
    perm, shared = cumulative(node)
    for edge in reversed(list(node.children.values())):
        edge.perm, edge.shared = child_permissions(node, edge, perm, shared)
        _settle(edge.node)


def child_permissions(node: Node, edge: Edge, perm: int, shared: int) -> tuple[int, int]:
    needed, kept = node.driver.child_permissions(edge.name, edge.role, perm, shared)
    return needed, ALL if edge.node.force_share else kept


def _checked(check: Callable[[Update], None]) -> Update:
    update = Update()
    try:
        check(update)
    except QmpError:
        update.undo()
        raise
    return update


def come(edge: Edge) -> None:
    """A new user of its node, or what it is to have is new. Raises QmpError, with all below as it was."""
    _checked(lambda update: update.check_user(edge.node, edge.perm, edge.shared, (edge,))).commit()


def go(node: Node) -> None:
    """A user of `node` has gone. That only loosens what is held: where even that cannot be, it stays."""
    with suppress(QmpError):
        _look_at(node)


def refresh(roots: Collection[Node]) -> None:
    """What the nodes need of their children has changed. Raises QmpError."""
    for node in roots:
        _look_at(node)


def _look_at(node: Node) -> None:
    perm, shared = cumulative(node)
    _checked(lambda update: update.check_node(node, perm, shared)).commit()


def before_move(moved: Collection[Edge], node: Node) -> Update:
    """Users of another node are about to come to `node`, all at once. Raises QmpError; to be committed once
    they have."""
    perm, shared = 0, ALL
    for edge in moved:
        perm |= edge.perm
        shared &= edge.shared
    return _checked(lambda update: update.check_user(node, perm, shared, tuple(moved)))


def refresh_child(edge: Edge) -> None:
    """bdrv_child_refresh_perms: of one child of a node alone. Raises QmpError."""
    parent = edge.parent
    before = edge.perm, edge.shared
    edge.perm, edge.shared = child_permissions(parent, edge, *cumulative(parent))  # type: ignore[arg-type]
    try:
        come(edge)
    except QmpError:
        edge.perm, edge.shared = before
        raise
