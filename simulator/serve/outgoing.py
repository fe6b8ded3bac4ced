"""Connections that the machine makes itself, to storage: the event loop sees in them an endpoint like any
other, the block layer a stream of the host."""

from __future__ import annotations

from simulator.block.host import HostStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from subprocess import Popen

    from simulator.block.host import Receive
    from simulator.wire.nbd.messages import Payload


class Outgoing(HostStream):
    """`closed` once the machine is done with it; what it sent before still goes."""

    wants_input = True

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._unsent: list[Payload] = []
        self._ended = False
        self.closed = False
        self.on_output: Callable[[], None] | None = None

    # -- as the block layer sees it
    def send(self, buffers: Sequence[Payload]) -> None:
        if not self._ended:
            self._unsent += buffers

    def close(self) -> None:
        self.closed = True

    # -- as the event loop sees it
    def output_buffers(self) -> list[Payload]:
        unsent, self._unsent = self._unsent, []
        return unsent

    def receive(self, payload: bytes) -> None:
        if not self.closed:
            self._receive(payload)

    def receive_eof(self) -> None:
        self._ended = True
        if not self.closed:
            self._receive(b"")

    def stall(self, is_stalled: bool) -> None:
        """How much waits here is bounded by the requests that may be under way."""


class OfCommand(Outgoing):
    """To and from a command that runs. It ends with what it is sent, or with us."""

    def __init__(self, receive: Receive, process: Popen[bytes]) -> None:
        super().__init__(receive)
        self._process = process

    @property
    def is_over(self) -> bool:
        return self.closed and self._process.poll() is not None
