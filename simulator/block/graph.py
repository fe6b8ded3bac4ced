"""The block graph: all nodes by name, how they are opened, joined, replaced, drained and let go.

Source: block.c and blockdev.c, 7.2. Commands run one at a time, so the graph itself needs no lock.
"""

from __future__ import annotations

from contextlib import suppress

from simulator.block import activity, granting, iothreads, permissions, permissions_by_user
from simulator.block.drained import Drained
from simulator.block.errors import ProcessEnd, QmpError
from simulator.block.ids import well_formed_id
from simulator.block.node import Edge, Node
from simulator.block.opening import ABORTED, open_tree
from simulator.block.rules import BlockRules
from simulator.engine.task import Future, WaitQueue
from simulator.qapi.glib_table import ChildTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.block.host import Host
    from simulator.block.parent import Parent
    from simulator.block.throttle_groups import ThrottleGroup
    from simulator.engine.chance import Chance
    from simulator.engine.scheduler import Scheduler

MAX_NODE_NAME = 31  # sizeof(BlockDriverState.node_name) - 1


class Graph:
    """`printed` (with its line ends) and `warnings` collect what QEMU would print on its standard output and
    error. `progress` is called when something came to rest: who waits in a drained section looks again."""

    def __init__(self, scheduler: Scheduler, host: Host, chance: Chance) -> None:
        self.scheduler = scheduler
        self.host = host
        self.nodes: dict[str, Node] = {}  # in the order they were made
        self.backends: dict[str, BlockBackend] = {}  # named drives
        self.orphans: list[BlockBackend] = []  # that nobody uses any more, and nobody has let go
        self.rules = BlockRules()
        self.throttle_groups: dict[str, ThrottleGroup] = {}
        self.objects = ChildTable()  # of object-add, by id
        self.on_process_end: Callable[[int, str], None] = _nobody_ends
        # (nanoseconds since 1970, nanoseconds that the guest has run)
        self.times: Callable[[], tuple[int, int]] = lambda: (scheduler.now_ns, 0)
        self.emit: Callable[[str, dict[str, Any]], None] = lambda name, data: None  # an event
        self.opens_inactive = False  # while the guest is still in another machine
        self.shares_until_guest_runs: list[BlockBackend] = []
        self.printed: list[str] = []
        self.warnings: list[str] = []
        self.report: Callable[[str], None] = self.warnings.append  # error_report, as the version does
        self._chance = chance
        self._serial = self._backends_made = 0
        self._progress = WaitQueue("requests to finish in a drained section")
        self.progress: Callable[[], None] = self._progress.wake_all

    # -- names
    def find(self, name: str) -> Node | None:
        """By drive id or node name; a drive without a medium is no node."""
        backend = self.backends.get(name)
        if backend is not None:
            return backend.node
        return self.nodes.get(name)

    def lookup(self, device: str, node_name: str) -> Node:
        """bdrv_lookup_bs, block.c:6106, 7.2. Raises QmpError."""
        if device:
            backend = self.backends.get(device)
            if backend is not None:
                if backend.node is None:
                    raise QmpError(f"Device '{device}' has no medium")
                return backend.node
        node = self.nodes.get(node_name)
        if node is None:
            raise QmpError(f"Cannot find device='{device}' nor node-name='{node_name}'")
        return node

    def guest_runs(self) -> None:
        """From here on its devices have for themselves what they do not share. Where others use that already
        QEMU says so, and leaves it (blk_vm_state_changed, block/block-backend.c, 7.2)."""
        late, self.shares_until_guest_runs = self.shares_until_guest_runs, []
        for backend in late:
            try:
                backend.guest_runs()
            except QmpError as error:
                self.report(error.desc)

    def claim_name(self, node_name: str | None) -> str:
        """A given name, checked, or a made-up one (bdrv_assign_node_name)."""
        if node_name is None:
            self._serial += 1
            return f"#block{self._serial - 1}{self._chance.below(100):02d}"
        if not well_formed_id(node_name):
            raise QmpError(f"Invalid node-name: '{node_name}'")
        if node_name in self.backends:
            raise QmpError(f"node-name={node_name} is conflicting with a device id")
        if node_name in self.nodes:
            raise QmpError(f"Duplicate nodes with node-name='{node_name}'")
        if len(node_name) > MAX_NODE_NAME:
            raise QmpError("Node name too long")
        return node_name

    def number_backend(self) -> int:
        """Of a new block backend: QEMU shows them in the order in which they were made."""
        self._backends_made += 1
        return self._backends_made

    # -- opening and closing
    async def open(self, options: dict[str, Any], read_only: bool = False, probes: bool = True) -> Node:
        """Open a node and all below it that its options describe. The caller is its first user: it must
        attach an edge, mark it monitor_owned, or call `release`. Raises QmpError; nothing is left of a
        failed attempt. `probes`: QEMU looks at the node's file first, as it does not for its own filters."""
        return await open_tree(self, options, read_only, probes)

    async def release(self, node: Node) -> None:
        """Close a node that nobody uses any more, and then those below it of which the same is true."""
        if node.monitor_owned or node.parents or node.references or node.node_name not in self.nodes:
            return
        node.references += 1
        node.drained_begin()
        await self.wait_drained([node])
        try:
            await node.driver.flush()
            await node.driver.close()
        except (OSError, QmpError) as error:
            why = error.desc if isinstance(error, QmpError) else error.strerror
            self.report(f"closing node '{node.node_name}': {why}")
        node.drained_end()
        del self.nodes[node.node_name]
        async with await self.while_changing():
            for edge in list(node.children.values()):
                await self.detach(edge, refresh=False)
        node.was_closed()

    async def end_process(self, status: int, words: str) -> Any:
        """The process ends at once, as `ProcessEnd` says; who calls this is never heard of again."""
        self.on_process_end(status, words)
        await Future("nothing: the process has ended")

    # -- edges
    def attach(
        self,
        parent: Parent | Node,
        name: str,
        role: int,
        node: Node,
        perm: int,
        shared: int,
        refresh: bool = True,
    ) -> Edge:
        """Make `parent` a user of `node`. Raises QmpError on a permission conflict or if the parent is below
        the node, and leaves no edge."""
        if isinstance(parent, Node) and (parent is node or parent.parents):
            check_no_cycle(parent, name, node)
        if not self.rules.members.graph_mod:
            perm, shared = perm & ~permissions.GRAPH_MOD, shared | permissions.GRAPH_MOD
        if node.inactive:
            activity.check_user(parent, name, node, perm)
        edge = Edge(parent, name, role, node, perm, shared)
        if isinstance(parent, Node):
            parent.children[name] = edge
        self.link(edge, node)
        try:
            if parent.iothread is not node.iothread:
                iothreads.meet(edge)
            if not refresh:
                return edge
            granting.come(edge)
        except QmpError:
            self._unlink(edge)
            if isinstance(parent, Node):
                del parent.children[name]
            granting.refresh([node])
            raise
        return edge

    async def detach(self, edge: Edge, refresh: bool = True) -> None:
        """Remove an edge, let the node's other users have what it took, and close the node if it was the
        last."""
        node = edge.node
        self._unlink(edge)
        if isinstance(edge.parent, Node) and edge.parent.children.get(edge.name) is edge:
            del edge.parent.children[edge.name]
        if not node.parents and not node.monitor_owned and not node.references:
            await self.release(node)
        else:
            granting.go(node)
            iothreads.leave(node)

    def link(self, edge: Edge, node: Node) -> None:
        """Point an edge at a node. A user that comes to a drained node is drained too."""
        edge.node = node
        node.parents.append(edge)
        for _ in range(node.quiesce_count):
            edge.parent.drained_begin()

    def _unlink(self, edge: Edge) -> None:
        node = edge.node
        node.parents.remove(edge)
        if edge.blocker is not None:
            node.op_blockers.remove(edge.blocker)
        for _ in range(node.quiesce_count):
            edge.parent.drained_end()

    def unlink(self, edge: Edge) -> None:
        """Take an edge off without closing anything; permissions are the caller's business, as in
        `relink`."""
        self._unlink(edge)
        if isinstance(edge.parent, Node):
            del edge.parent.children[edge.name]

    def relink(self, edge: Edge) -> None:
        """Undo `unlink`."""
        if isinstance(edge.parent, Node):
            edge.parent.children[edge.name] = edge
        if edge.blocker is not None:
            edge.node.op_blockers.insert(0, edge.blocker)
        self.link(edge, edge.node)

    def move(self, edge: Edge, node: Node) -> None:
        """Point an existing edge at another node; permissions are the caller's business."""
        old = edge.node
        quiesced = old.quiesce_count
        edge.node = node
        # The user stays drained throughout: begin for the new node comes before end for the old one.
        for _ in range(node.quiesce_count):
            edge.parent.drained_begin()
        old.parents.remove(edge)
        node.parents.append(edge)
        if isinstance(edge.parent, Node) and self.rules.moved_edge_is_newest:
            # It becomes the newest of its parent's children (bdrv_child_cb_attach).
            edge.parent.children[edge.name] = edge.parent.children.pop(edge.name)
        if edge.blocker is not None:
            old.op_blockers.remove(edge.blocker)
            node.op_blockers.insert(0, edge.blocker)
        for _ in range(quiesced):
            edge.parent.drained_end()

    def set_permissions(self, edge: Edge, perm: int, shared: int) -> None:
        """Raises QmpError and changes nothing on a conflict."""
        if not self.rules.members.graph_mod:
            perm, shared = perm & ~permissions.GRAPH_MOD, shared | permissions.GRAPH_MOD
        granting.change(edge, perm, shared)

    # -- replacing
    async def replace(self, old: Node, new: Node, skips: bool = True) -> None:
        """Move all users of `old` to `new`, except those below `new` itself and those that stay where they
        are (bdrv_replace_node); if not `skips`, there must be none of these. Raises QmpError and undoes all
        on a conflict."""
        async with self.drained(old):
            below = {edge for node in permissions.topological([new]) for edge in node.children.values()}
            moved = [edge for edge in old.parents[::-1] if edge not in below and not edge.parent.stay_at_node]
            for edge in old.parents[::-1]:
                if edge not in moved and not skips:
                    raise QmpError(f"Should not change '{edge.name}' link to '{old.node_name}'")
            for edge in moved:
                if edge.frozen:
                    raise QmpError(f"Cannot change '{edge.name}' link to '{old.node_name}'")
            if not self.rules.permissions_at_once:
                update = permissions_by_user.before_move(moved, new)
                for edge in moved[::-1]:
                    self.move(edge, new)
                update.commit()
                return
            for edge in moved:
                self.move(edge, new)
            try:
                granting.refresh([new, old])
            except QmpError:
                for edge in moved:
                    self.move(edge, old)
                # A link of `new` that was not looked at before may be what there is no way to have.
                with suppress(QmpError):
                    granting.refresh([new, old])
                raise

    async def replace_child(self, edge: Edge, node: Node) -> None:
        """Point one edge at another node (bdrv_replace_child_bs). Raises QmpError and undoes it on a
        conflict."""
        old = edge.node
        async with self.drained(old, node):
            self.move(edge, node)
            try:
                granting.refresh([node, old])
            except QmpError:
                self.move(edge, old)
                granting.refresh([old, node])
                raise
        await self.release(old)

    async def insert_above(self, node: Node, options: dict[str, Any]) -> Node:
        """Open a filter by `options` (which name `node` as a child) and let it take over all users of `node`
        (bdrv_insert_node). Raises QmpError."""
        thread = node.iothread
        try:
            new = await self.open(options, probes=False)
        except QmpError as error:
            raise error.prefixed("Could not create node: ") from None
        if node.iothread is not thread and self.rules.inserted_in_main_loop:
            words = "bdrv_insert_node: Assertion `bdrv_get_aio_context(bs) == ctx' failed."
            await self.end_process(ABORTED, words)
        new.references += 1
        try:
            async with self.drained(node):
                await self.changing()
                await self.replace(node, new)
        except QmpError as error:
            new.references -= 1
            await self.release(new)
            raise error.prefixed("Could not replace node: ") from None
        new.references -= 1
        return new

    async def drop_filter(self, node: Node) -> None:
        """Give a filter's users back to what it filters, and close it if nobody holds it
        (bdrv_drop_filter)."""
        below = node.below
        if below is None:
            raise AssertionError(f"{node!r} filters nothing")
        node.references += 1
        async with self.drained(node):
            await self.changing()
            edge = node.children.get("file") or node.children["backing"]
            for parent_edge in node.parents[::-1]:
                if not parent_edge.parent.stay_at_node:
                    self.move(parent_edge, below)
            if self.rules.dropped_filter_lets_go:
                self._unlink(edge)
                del node.children[edge.name]
            granting.refresh([below, node])
        node.references -= 1
        await self.release(node)

    # -- drains
    def drained(self, *nodes: Node) -> Drained:
        return Drained(self, nodes)

    def drained_all(self) -> Drained:
        """bdrv_drain_all_begin .. end."""
        return Drained(self, list(self.nodes.values()))

    async def wait_drained(self, nodes: Iterable[Node]) -> None:
        """Until nothing is under way on drained nodes."""
        for node in nodes:
            while node.drained_busy():
                await self._progress.wait()

    async def changing(self) -> None:
        """Before an edge comes or goes: some versions drain everything then, as jobs on any node see."""
        if self.rules.changes_drain_all:
            async with self.drained_all():
                pass

    async def while_changing(self) -> Drained:
        """``async with await graph.while_changing()``: around more than that, where some versions stay
        drained until all is done, as they close what nobody uses any more."""
        if self.rules.changes_made_drained:
            return self.drained_all()
        await self.changing()
        return self.drained()

    async def changing_context(self) -> None:
        """Before a node is given the context of another, which here it has already."""
        if self.rules.contexts_drain_all:
            async with self.drained_all():
                pass

    # -- operations that a job or a backing relation forbids
    def check_operation(self, node: Node, operation: str) -> None:
        """Raises QmpError if `operation` (BlockOpType in words, such as "drive-del") is blocked on `node`."""
        for reason, allowed in node.op_blockers:
            if operation not in allowed:
                raise QmpError(f"Node '{node.device_or_node_name}' is busy: {reason}")


def check_no_cycle(parent: Node, name: str, node: Node) -> None:
    """Raises QmpError if `node` cannot be a child of `parent` because it is above it (block.c:3061, 7.2)."""
    if parent in permissions.topological([node]):
        raise QmpError(
            f"Making '{node.node_name}' a {name} child of '{parent.node_name}' would create a cycle"
        )


def _nobody_ends(status: int, words: str) -> None:
    """What `on_process_end` is in a graph without a machine."""
    raise ProcessEnd(status, words)
