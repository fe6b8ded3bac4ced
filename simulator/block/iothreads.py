"""Threads that nodes work in. Nothing runs in parallel here; what shows is which moves QEMU refuses.

Source: iothread.c, bdrv_try_change_aio_context in block.c, blk_root_change_aio_ctx in block/block-backend.c,
7.2.
"""

from __future__ import annotations

from contextlib import suppress

from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.block.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Edge
    from simulator.block.parent import Parent

_NOT_SHOWN = {"thread-pool-min": 0, "thread-pool-max": 64}  # and what they are unless told
_MOST = (1 << 63) - 1
_MOST_THREADS = (1 << 31) - 1


class IoThread:
    """object-add qom-type=iothread. A node's `iothread` is one of these, or None: the main loop. It stays
    with its nodes when it is deleted. `thread_id` is made up."""

    __slots__ = ("_shown", "identifier", "properties", "thread_id")

    type_name = "iothread"

    def __init__(
        self, identifier: str, given: dict[str, Any], thread_id: int, settings: dict[str, int]
    ) -> None:
        """`settings`: what the version shows, and its defaults. Raises QmpError."""
        self.identifier, self.thread_id = identifier, thread_id
        for name, value in given.items():
            if value < 0:
                raise QmpError(f"{name} value must be in range [0, {_MOST}]")
        self.properties: dict[str, int] = {**settings, **_NOT_SHOWN, **given}
        self._shown = tuple(settings)
        least, most = (self.properties[name] for name in _NOT_SHOWN)
        if not least <= most <= _MOST_THREADS or not most:
            raise QmpError("bad thread-pool-min/thread-pool-max values")

    def set(self, name: str, value: Any) -> None:
        """qom-set while it runs. Raises QmpError and changes nothing."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise QmpError(f"Invalid parameter type for '{name}', expected: integer")
        IoThread(self.identifier, {**self.properties, name: value}, self.thread_id, {})
        self.properties[name] = value

    def describe(self) -> dict[str, Any]:
        """IOThreadInfo."""
        shown = {name: self.properties[name] for name in self._shown}
        return {"id": self.identifier, "thread-id": self.thread_id, **shown}


def move(node: Node, iothread: IoThread | None, mover: Parent | None = None) -> None:
    """Take the node there, with all that is connected to it: children, parents, and the other nodes of jobs.
    Raises QmpError if a user that cannot move is among them, other than `mover`, and moves nothing then."""
    nodes: list[Node] = []
    backends: list[BlockBackend] = []
    _gather(node, iothread, mover, nodes, backends)
    for each in nodes:
        each.iothread = iothread
    for backend in backends:
        backend.iothread = iothread


def _gather(
    node: Node,
    iothread: IoThread | None,
    mover: Parent | None,
    nodes: list[Node],
    backends: list[BlockBackend],
) -> None:
    if node in nodes or node.iothread is iothread:
        return
    nodes.append(node)
    for edge in node.parents:
        parent = edge.parent
        if isinstance(parent, Node):
            _gather(parent, iothread, mover, nodes, backends)
        elif isinstance(parent, BlockBackend):
            if not parent.may_change_iothread() and parent is not mover:
                raise QmpError("Cannot change iothread of active block backend")
            backends.append(parent)
        else:
            for other in parent.node_edges():
                _gather(other.node, iothread, mover, nodes, backends)
    for edge in node.children.values():
        _gather(edge.node, iothread, mover, nodes, backends)


def leave(node: Node) -> None:
    """A user of the node has gone: it goes back to the main loop, unless others keep it where it is
    (bdrv_root_unref_child)."""
    with suppress(QmpError):
        move(node, None)


def meet(edge: Edge) -> None:
    """A user has come to a node of another thread: the node goes to its user's, or else the user to the
    node's. Raises QmpError (bdrv_attach_child_common)."""
    parent, node = edge.parent, edge.node
    if not isinstance(parent, Node | BlockBackend):
        return
    try:
        move(node, parent.iothread, parent if isinstance(parent, BlockBackend) else None)
    except QmpError:
        if isinstance(parent, Node):
            move(parent, node.iothread)
        elif parent.may_change_iothread():
            parent.iothread = node.iothread
        else:
            raise
