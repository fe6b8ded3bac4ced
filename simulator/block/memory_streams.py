"""Connections between processes of a host in memory."""

from __future__ import annotations

from simulator.block.host import HostListener, HostStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.block.host import Receive
    from simulator.wire.nbd.messages import Payload

    # Lets something happen in a turn of its own, whichever process goes on living until then.
    Later = Callable[[Callable[[], None]], None]


class _End(HostStream):
    """What one of two processes has of their connection. Bytes arrive at the other in turns of their own, in
    their order, and the end of them last."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._arrived: list[bytes] = []
        self._is_due = False
        self.closed = False
        self.other: _End = self
        self.receive: Receive = _lose

    def send(self, buffers: Sequence[Payload]) -> None:
        payload = b"".join(buffers)
        if payload and not self.closed:
            self.other.arrive(payload)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.other.arrive(b"")

    def arrive(self, payload: bytes) -> None:
        self._arrived.append(payload)
        if not self._is_due:
            self._is_due = True
            self._later(self._deliver)

    def _deliver(self) -> None:
        self._is_due = False
        arrived, self._arrived = self._arrived, []
        for payload in arrived:
            if not self.closed:
                self.receive(payload)


def _lose(payload: bytes) -> None:
    """What takes bytes while nobody else does."""


def connect(later: Later, receive: Receive, accept: Callable[[HostStream], Receive]) -> HostStream:
    """A client's end of a new connection; see Host.listen for `accept`."""
    ours, theirs = _End(later), _End(later)
    ours.other, theirs.other = theirs, ours
    ours.receive = receive
    theirs.receive = accept(theirs)
    return ours


class Listener(HostListener):
    """`servers` as MemoryHost has them, by path; `left`: paths of sockets that nobody listens at."""

    def __init__(
        self, servers: dict[str, Callable[[Receive], HostStream]], left: dict[str, None], path: str
    ) -> None:
        self._servers, self._left, self._path = servers, left, path
        self.closed = False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._servers.pop(self._path, None)

    def abandon(self) -> None:
        if not self.closed:
            self.close()
            self._left[self._path] = None
