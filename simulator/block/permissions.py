"""Who may do what to a node: permissions taken and shared along edges, refreshed over the graph.

Source: block.c:2200-2830, 7.2 (bdrv_a_allow_b, bdrv_node_refresh_perm, bdrv_default_perms).
"""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.block.node import Edge, Node

    # What is asked of a node: (permissions, shared, not writable, auto_read_only, whether it has parents).
    # Node.held is that of the last time.
    Held = tuple[int, int, bool, bool, bool]

CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE = 1, 2, 4, 8
# To change a node's children (include/block/block.h:264, 5.2): versions from 6.1 on have no such permission,
# so there nobody needs it, and all share it.
GRAPH_MOD = 16
ALL = 31
NAMES = (
    (CONSISTENT_READ, "consistent read"),
    (WRITE, "write"),
    (WRITE_UNCHANGED, "write unchanged"),
    (RESIZE, "resize"),
    (GRAPH_MOD, "change children"),
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
    perm, shared = perm & ~GRAPH_MOD, shared | GRAPH_MOD
    if role & FILTERED:
        return perm, shared
    if role & COW:
        kept = WRITE | RESIZE if shared & WRITE or node.inactive else 0
        return perm & CONSISTENT_READ, kept | CONSISTENT_READ | WRITE_UNCHANGED | GRAPH_MOD
    if role & METADATA:
        # A format driver updates its metadata even when its user only reads, and nobody else may move it.
        perm |= CONSISTENT_READ | WRITE | RESIZE if node.is_writable() else CONSISTENT_READ
        shared &= ~(WRITE | RESIZE)
    if role & DATA:
        shared &= ~RESIZE
        if perm & WRITE_UNCHANGED:
            perm |= WRITE
        if perm & WRITE:
            perm |= RESIZE
    if node.inactive:
        # Its image may be another's, who writes to it (block.c:2878, 10.0.13).
        shared |= WRITE | RESIZE
    return perm, shared


def cumulative(node: Node) -> tuple[int, int]:
    """All that the parents of a node need of it, and what every one of them shares."""
    return asked_of(node)[:2]


def topological(roots: Iterable[Node]) -> list[Node]:
    """All nodes below `roots` and themselves, every parent before its children."""
    order: list[Node] = []
    seen: set[Node] = set()  # only asked whether it holds a node, never walked
    for root in roots:
        if root not in seen:
            _visit(root, seen, order)
    order.reverse()
    return order


def _visit(node: Node, seen: set[Node], order: list[Node]) -> None:
    """Add what is below `node`, and it itself, children first, of them the newest (bdrv_topological_dfs)."""
    seen.add(node)
    for edge in reversed(node.children.values()):
        if edge.node not in seen:
            _visit(edge.node, seen, order)
    order.append(node)


def refresh_below_users(node: Node) -> None:
    """`refresh` after a user of `node` has come, gone, or changed what it asks: nothing needs to be done if
    what all of them ask together is what it was."""
    if _is_asked_anew(node):
        walk = _Walk()
        try:
            walk.down([node])
        except QmpError:
            walk.undo()
            raise
        walk.commit()


def refresh(roots: list[Node]) -> None:
    """Recompute permissions below `roots`. Raises QmpError and leaves all permissions as they were on a
    conflict.

    Below the roots and their children, which may have come to new parents, nodes are looked at only where
    what is asked of them has changed: otherwise nothing can come of it.
    """
    walk = _Walk()
    try:
        if len(roots) == 1:
            walk.down(walk.look_at(roots[0], is_root=True))
        else:
            children = [edge.node for root in roots for edge in root.children.values()]
            walk.in_order([*roots, *children], roots)
    except QmpError:
        walk.undo()
        raise
    walk.commit()


def asked_of(node: Node) -> Held:
    perm, shared, parents = 0, ALL, node.parents
    for edge in parents:
        perm |= edge.perm
        shared &= edge.shared
    return perm, shared, not node.is_writable(), node.auto_read_only, bool(parents)


def was_writable(node: Node) -> bool:
    """Before what is being done to it now."""
    return node.held is not None and not node.held[2]


def _is_asked_anew(node: Node) -> bool:
    """A conflict always is: it must be told."""
    asked = asked_of(node)
    return node.held != asked or bool(asked[0] & ~asked[1])


class _Walk:
    """One recomputation: what it has changed so far, to be committed or undone."""

    __slots__ = ("_before", "_changed")

    def __init__(self) -> None:
        self._before: list[tuple[Edge, int, int]] = []
        self._changed: list[tuple[Node, Held]] = []

    def commit(self) -> None:
        for node, held in self._changed:
            node.driver.commit_permissions()
            node.held = held

    def undo(self) -> None:
        for edge, perm, shared in reversed(self._before):
            edge.perm, edge.shared = perm, shared
        for node, _ in reversed(self._changed):
            node.driver.abort_permissions()

    def down(self, due: list[Node]) -> None:
        """While one node alone is due, nothing else can change what is asked of it, and the graph need not be
        walked to find out which comes first."""
        while due:
            if len(due) > 1:
                due = [node for node in due if _is_asked_anew(node)]
            if len(due) > 1:
                self.in_order(due, [])
                return
            if due:
                due = self.look_at(due[0])

    def in_order(self, nodes: list[Node], roots: list[Node]) -> None:
        """Each of `nodes`, and what becomes due below them, after all that could change what is asked of
        it."""
        due = set(nodes)  # only asked whether it holds a node, never walked
        for node in topological(nodes):
            if node in due:
                due.update(self.look_at(node, node in roots))

    def look_at(self, node: Node, is_root: bool = False) -> list[Node]:
        """The children that are to be looked at next: of a root all, else those of which something new is
        asked."""
        asked = perm, shared, read_only, _, _ = asked_of(node)
        if perm & ~shared:
            _check_parents(node)
        if read_only and perm & (WRITE | WRITE_UNCHANGED):
            if was_writable(node):
                raise QmpError(f"Read-only block node '{node.node_name}' cannot support read-write users")
            raise QmpError("Block node is read-only")
        check_alignment(node, perm)
        driver = node.driver
        if node.held != asked:
            # Only what is new is asked of the driver, which may have to go to the host for it.
            self._changed.append((node, asked))
            driver.check_permissions(perm, shared)
        elif not is_root:
            return []
        due: list[Node] = []
        for edge in reversed(node.children.values()):
            child = edge.node
            child_perm, child_shared = driver.child_permissions(edge.name, edge.role, perm, shared)
            if child.force_share:
                child_shared = ALL
            if child_perm != edge.perm or child_shared != edge.shared:
                self._before.append((edge, edge.perm, edge.shared))
                edge.perm, edge.shared = child_perm, child_shared
                due.append(child)
            elif is_root or child.held is None:
                due.append(child)
        return due


def check_alignment(node: Node, perm: int) -> None:
    """A request is made as long as the driver's unit, and nobody could write what is beyond the end of a node
    that ends in the middle of one (bdrv_node_check_perm, block.c:2482, 7.2). Raises QmpError."""
    writes = perm & (WRITE | WRITE_UNCHANGED) and not perm & RESIZE
    if writes and node.size_bytes % node.driver.request_alignment:
        words = "Image size is not a multiple of request alignment"
        raise QmpError(f"Cannot get 'write' permission without 'resize': {words}")


def _check_parents(node: Node) -> None:
    """Raise if one parent needs what another does not share, naming both. Newest parent first, as QEMU's
    list."""
    newest_first = node.parents[::-1]
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
