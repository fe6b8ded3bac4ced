"""What both ends of an NBD connection share: bytes in any chunks, one table of states, bytes out. No sockets.

The owner passes what it received to `receive_data` and gets events, and sends what `take_output`
returns, after every call. An end says for each state how many bytes the next step needs; a step is
taken when they are there.
"""

from __future__ import annotations

from simulator.wire.nbd.messages import ConnectionEnded, StartTls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from simulator.wire.nbd.messages import Payload

CLOSED = "closed"
TLS_HANDSHAKE = "TLS handshake"


class Connection:
    """Base of ServerConnection and ClientConnection. `state` is a key of `MOVES`."""

    __slots__ = ("_events", "_held", "_need", "_output", "state")

    # state -> (method that takes one step, states that may follow)
    MOVES: ClassVar[dict[str, tuple[str, frozenset[str]]]]
    _STEPS: ClassVar[dict[str, Callable[[Any, Payload, int, int], int]]]

    def __init__(self, state: str, need: int) -> None:
        self.state = state
        self._need = need
        self._held = bytearray()
        self._output: list[Payload] = []
        self._events: list[Any] = []

    def __init_subclass__(cls) -> None:
        cls._STEPS = {state: getattr(cls, step) for state, (step, _) in cls.MOVES.items() if step}

    def receive_data(self, data: bytes) -> list[Any]:
        """Events that `data` completes, in order."""
        if self.state == CLOSED:
            return []
        received: Payload = data
        held = self._held
        if held:
            held += data
            received = held
        end = len(received)
        if end < self._need:
            if received is not held:
                held += data
            return []
        steps = self._STEPS
        position = 0
        while end - position >= self._need:
            # A step returns the position behind what it took; payloads it hands out are views of `received`.
            position = steps[self.state](self, received, position, end)
            if self.state == CLOSED:
                position = end
                break
        if position < end or received is held:
            self._held = bytearray(memoryview(received)[position:])
        events = self._events
        if events:
            self._events = []
        return events

    @property
    def held_bytes(self) -> int:
        """Of a message that is not complete: less than `needed_bytes`."""
        return len(self._held)

    @property
    def needed_bytes(self) -> int:
        """How many the next step takes."""
        return self._need

    def receive_eof(self) -> list[Any]:
        """The peer sends no more: ConnectionEnded, with a reason if it stopped in the middle of something."""
        if self.state == CLOSED:
            return []
        self._end(self._end_of_file_reason())
        events, self._events = self._events, []
        return events

    def take_output(self) -> list[Payload]:
        """Buffers to send, in order; they are the owner's from now on."""
        output = self._output
        if output:
            self._output = []
        return output

    def _start_tls(self, received: bytes) -> None:
        self._enter(TLS_HANDSHAKE, 1)
        self._events.append(StartTls(received))

    def _take_in_handshake(self, _data: Payload, _position: int, _end: int) -> int:
        raise AssertionError("bytes of a TLS handshake are the owner's to take, until it says tls_started()")

    def _end_of_file_reason(self) -> str:
        return "Unexpected end-of-file before all bytes were read" if self._held else ""

    def _enter(self, state: str, need: int) -> None:
        if state not in self.MOVES[self.state][1]:
            raise AssertionError(f"NBD {type(self).__name__}: {self.state!r} may not become {state!r}")
        self.state = state
        self._need = need

    def _end(self, reason: str, aborts: bool = False) -> None:
        self._enter(CLOSED, 1)
        self._held = bytearray()
        self._events.append(ConnectionEnded(reason, aborts))
