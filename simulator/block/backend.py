"""A block backend: how a drive, a guest device or an export stands on a node (block/block-backend.c, 7.2)."""

from __future__ import annotations

from errno import EIO, ENOMEDIUM, EPERM
from os import strerror

from simulator.block import permissions
from simulator.block.accounting import Accounting
from simulator.block.parent import Parent
from simulator.engine.task import WaitQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.block.graph import Graph
    from simulator.block.iothreads import IoThread
    from simulator.block.node import Edge, Node
    from simulator.block.throttle_groups import Member


class BlockBackend(Parent):
    """`name` is a drive's id or "" for an unnamed one; `device_id` the guest device that stands on it, or "".

    Requests are checked against the size and wait while the node below is drained. Failures are OSError.
    `number` counts all that were made.
    """

    __slots__ = (
        "_accounting",
        "_queue",
        "allows_inactivity",
        "allows_iothread_change",
        "device_id",
        "graph",
        "in_flight",
        "inactive",
        "iothread",
        "keeps_io_status",
        "limits",
        "name",
        "number",
        "on_eject",
        "on_resize",
        "opens_read_only",
        "perm",
        "quiesce_count",
        "root",
        "shared",
        "write_cache",
    )

    # Whether a request waits for a drained section to end; if not, its sender sees to that (an export).
    queues_while_drained = True

    def __init__(self, graph: Graph, name: str, perm: int, shared: int) -> None:
        self.graph = graph
        self.number = graph.number_backend()
        self.name = name
        self.device_id = ""
        self.perm, self.shared = perm, shared
        self.root: Edge | None = None
        self.in_flight = 0
        self.keeps_io_status = True
        self.write_cache = True  # what it says of it: every write is in memory here (blk_enable_write_cache)
        self.opens_read_only = True  # how a medium is opened that does not say so
        self.quiesce_count = 0
        self.on_resize: Callable[[], None] | None = None
        self.on_eject: list[Callable[[], None]] = []  # told before it lets go of its node
        self._queue = WaitQueue("a drained section to end")
        self._accounting: Accounting | None = None
        self.limits: Member | None = None  # of a throttle group
        self.iothread: IoThread | None = None
        self.allows_iothread_change = False
        self.allows_inactivity = False
        self.inactive = False  # it asks nothing of its node (disable_perm)

    @property
    def accounting(self) -> Accounting:
        """What its device counts."""
        if self._accounting is None:
            self._accounting = Accounting(self.graph.scheduler, self.graph.rules.members.device_accounts)
        return self._accounting

    # -- as a parent
    def user_description(self) -> str:
        label = self.name or self.device_id
        return f"block device '{label}'" if label else "an unnamed block device"

    def short_description(self) -> str:
        return self.name or self.device_id or "a block device"

    def device_name(self) -> str:
        return self.name

    def drained_begin(self) -> None:
        self.quiesce_count += 1
        if self.limits is not None:
            self.limits.group.drained_begin(self.limits)

    def drained_end(self) -> None:
        self.quiesce_count -= 1
        if self.limits is not None:
            self.limits.group.drained_end(self.limits)
        if not self.quiesce_count:
            self._queue.wake_all()

    def drained_busy(self) -> bool:
        return self.in_flight > 0

    def child_resized(self, edge: Edge) -> None:
        if self.on_resize is not None:
            self.on_resize()

    def may_change_iothread(self) -> bool:
        """A drive may while no device stands on it; others if their user can follow."""
        return self.allows_iothread_change or bool(self.name and not self.device_id)

    # -- what it stands on
    @property
    def node(self) -> Node | None:
        return self.root.node if self.root is not None else None

    def insert(self, node: Node) -> None:
        """Stand on `node`. Raises QmpError on a permission conflict and stays empty."""
        self.inactive = node.inactive and self._may_be_inactive()
        perm, shared = (0, permissions.ALL) if self.inactive else (self.perm, self.shared)
        role = permissions.FILTERED | permissions.PRIMARY
        self.root = self.graph.attach(self, "root", role, node, perm, shared)

    # -- an image that belongs to somebody else for a while, see activity.py
    def _may_be_inactive(self) -> bool:
        """A drive or device, whoever only reads, and who says so (blk_can_inactivate)."""
        only_reads = not self.perm & ~permissions.CONSISTENT_READ
        return bool(self.device_id or self.name) or only_reads or self.allows_inactivity

    def inactivate(self) -> None:
        """Raises OSError."""
        if self.inactive or self.root is None:
            return
        if not self._may_be_inactive():
            raise OSError(EPERM, strerror(EPERM))
        self.inactive = True
        self.graph.set_permissions(self.root, 0, permissions.ALL)

    def activate(self) -> None:
        """What it does not share is for later where the guest is still elsewhere: until then others write,
        too, as a mirror does that comes over NBD (blk_root_activate). Raises QmpError."""
        if not self.inactive or self.root is None:
            return
        self.graph.set_permissions(self.root, self.perm, permissions.ALL)
        self.inactive = False
        if self.graph.opens_inactive:
            self.graph.shares_until_guest_runs.append(self)
        else:
            self.graph.set_permissions(self.root, self.perm, self.shared)

    def guest_runs(self) -> None:
        """Raises QmpError where others use what it does not share, and goes on sharing that."""
        if self.root is not None and not self.inactive:
            self.graph.set_permissions(self.root, self.perm, self.shared)

    async def remove(self) -> None:
        """Let go of the node; it goes away if nobody else uses it."""
        if self.root is not None:
            for ejected in list(self.on_eject):
                ejected()
            # blk_drain, block-backend.c:892, and once more on the way: jobs on the node show two pauses
            # (observed).
            for _ in range(2):
                async with self.graph.drained(self.root.node):
                    pass
            edge, self.root = self.root, None
            async with await self.graph.while_changing():
                await self.graph.detach(edge)
                await self.was_removed()

    async def was_removed(self) -> None:
        """The graph is still being changed."""

    def set_permissions(self, perm: int, shared: int) -> None:
        """Raises QmpError and changes nothing on a conflict."""
        if self.root is not None and not self.inactive:
            self.graph.set_permissions(self.root, perm, shared)
        self.perm, self.shared = perm, shared

    # -- requests
    async def read(self, offset: int, length: int) -> bytes:
        node = await self._enter(offset, length)
        try:
            if self.limits is not None:
                await self.limits.group.pass_through(self.limits, length, False)
            return await node.read(offset, length)
        finally:
            self._leave()

    async def write(self, offset: int, payload: bytes, flags: int = 0) -> None:
        node = await self._enter(offset, len(payload))
        try:
            if self.limits is not None:
                await self.limits.group.pass_through(self.limits, len(payload), True)
            await node.write(offset, payload, flags)
        finally:
            self._leave()

    async def write_zeroes(self, offset: int, length: int, flags: int = 0) -> None:
        node = await self._enter(offset, length)
        try:
            if self.limits is not None:
                await self.limits.group.pass_through(self.limits, length, True)
            await node.write_zeroes(offset, length, flags)
        finally:
            self._leave()

    async def discard(self, offset: int, length: int) -> None:
        node = await self._enter(offset, length)
        try:
            await node.discard(offset, length)
        finally:
            self._leave()

    async def flush(self) -> None:
        node = await self._enter(0, 0)
        try:
            await node.flush()
        finally:
            self._leave()

    async def _enter(self, offset: int, length: int) -> Node:
        self.in_flight += 1
        while self.quiesce_count and self.queues_while_drained:
            self._leave()
            await self._queue.wait()
            self.in_flight += 1
        node = self.node
        if node is None:
            self._leave()
            raise OSError(ENOMEDIUM, "no medium")
        if offset < 0 or length < 0 or offset > node.size_bytes or node.size_bytes - offset < length:
            self._leave()
            raise OSError(EIO, "beyond the end of the device")
        return node

    async def while_drained(self) -> None:
        """Until the drained section ends in which a request would wait (blk_wait_while_drained)."""
        while self.quiesce_count:
            await self._queue.wait()

    def _leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.graph.progress()
