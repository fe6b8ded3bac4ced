"""What uses a node: another node, a block backend (drive, device, export) or a job."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.block.iothreads import IoThread
    from simulator.block.node import Edge


class Parent:
    """Answers for a user of nodes. Nodes themselves answer the same calls (duck typing keeps them one
    class)."""

    __slots__ = ()

    # An edge that stays where it is when its node is replaced by a filter (BdrvChildClass.stay_at_node).
    stay_at_node = False

    # Where its requests come from, if that is one thread.
    iothread: IoThread | None = None

    def node_edges(self) -> Sequence[Edge]:
        """All its edges, of a user that takes its nodes from thread to thread together."""
        return ()

    def user_description(self) -> str:
        """As permission conflicts name it, such as "block device 'd0'"."""
        raise NotImplementedError

    def short_description(self) -> str:
        """As 5.2's permission conflicts name it, such as "d0"."""
        return self.user_description()

    def device_name(self) -> str:
        """Name of the drive this is, or ""."""
        return ""

    def drained_begin(self) -> None:
        """Send no new requests until drained_end; calls nest."""

    def drained_end(self) -> None: ...

    def drained_busy(self) -> bool:
        """Whether requests are still under way although drained_begin was called."""
        return False

    def child_resized(self, edge: Edge) -> None:
        """The node below `edge` has a new size."""
