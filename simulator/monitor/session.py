"""One QMP monitor connection: negotiation, the queue of requests, replies and events in their order.

Source: monitor/qmp.c and monitor/monitor.c, 7.2. Bytes go in by `receive`, and come out by `output`.
"""

from __future__ import annotations

from collections import deque

from simulator.block.errors import QmpError
from simulator.monitor import dispatch
from simulator.qapi.errors import ArgumentError
from simulator.wire import qmp
from simulator.wire.json_stream import JsonStream, ParseError, encode_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.machine import Machine

_LONGEST_QUEUE = 8

_TURNS_BY_CHANCE = 64


class Session:
    """State of one client. `ready` is False until qmp_capabilities; only then it is sent events."""

    def __init__(self, machine: Machine, pretty: bool = False) -> None:
        self._machine = machine
        self._pretty = pretty
        self._six_places = machine.version.qmp.doubles_have_six_places
        self._stream = JsonStream(machine.version.qmp.json_pushed)
        self._output: list[bytes] = []
        self.ready = False
        self.oob = False
        self.closed = False
        self.queue: deque[Any] = deque()
        self.stalled = False  # the client does not read: what it asked for waits
        self.postponed = 0
        self.passed: list[int] = []  # descriptors that came with the last bytes that any came with
        self.named: dict[str, int] = {}  # those that getfd gave a name
        self.on_output: Callable[[], None] | None = None  # told when there is something to fetch
        self._send(encode_line(qmp.greeting(machine.version_info()), pretty))

    def receive(self, payload: bytes) -> None:
        """Bytes from the client. What they ask for runs when the machine runs."""
        for value in self._stream.receive_data(payload):
            # Only once the client has asked for it: until then QEMU reads no further than the command it
            # is at.
            if self.oob and not isinstance(value, ParseError) and qmp.looks_out_of_band(value):
                self._machine.scheduler.enter(self.answer(value), "out-of-band command")
            else:
                self.queue.append(value)
                self._machine.requests_waiting(self)

    @property
    def wants_input(self) -> bool:
        """False while enough requests wait (QMP_REQ_QUEUE_LEN_MAX, monitor/qmp.c:48, 7.2)."""
        return len(self.queue) < _LONGEST_QUEUE

    @property
    def held_bytes(self) -> int:
        """Of a message that has begun and not ended."""
        return self._stream.held_bytes

    def stall(self, is_stalled: bool) -> None:
        """The client does not take what it is sent, or does so again."""
        self.stalled = is_stalled
        while self.postponed and not is_stalled:
            self.postponed -= 1
            self._machine.requests_waiting(self)

    def output(self) -> bytes:
        """All bytes for the client since the last call, events up to now included."""
        self._machine.flush_events()
        return self.take()

    def take(self) -> bytes:
        """What has been sent so far, without looking for new events."""
        payload = b"".join(self._output)
        self._output.clear()
        return payload

    def send_event(self, name: str, members: dict[str, Any], now_ns: int) -> None:
        data = members or None
        if self._pretty:
            self._send(encode_line(qmp.event(name, now_ns, data), pretty=True))
        else:
            self._send(qmp.event_line(name, now_ns, data))

    def take_passed(self) -> int | None:
        """The descriptor that the client has passed; it is the caller's then."""
        return self.passed.pop(0) if self.passed else None

    def take_named(self, name: str) -> int | None:
        return self.named.pop(name, None)

    def take_all_descriptors(self) -> list[int]:
        taken = [*self.passed, *self.named.values()]
        self.passed.clear()
        self.named.clear()
        return taken

    def receive_eof(self) -> None:
        """The client is gone: what it had asked for and is not yet running is dropped."""
        self.closed = True
        self.queue.clear()

    def _send(self, line: bytes) -> None:
        self._output.append(line)
        if self.on_output is not None:
            self.on_output()

    async def answer(self, value: Any) -> None:
        """Run one request and send its reply, after the events that it raised."""
        reply = await self._reply_to(value)
        await self._go_round(self._machine.turns_before_reply)
        self._machine.flush_events()
        if not self.closed:
            self._send(reply)

    async def _go_round(self, turns: int) -> None:
        """The monitor goes once round QEMU's main loop before it replies: what a command has set going runs
        first, and a short job can be over by then. The round ends with the timers that are due
        (main_loop_wait, util/main-loop.c:617, 7.2), and the next one begins with what was put off to it."""
        if not turns or self._machine.gone:
            # A machine that has quit has nothing left to run.
            return
        scheduler = self._machine.scheduler
        if scheduler.chance is not None:
            # Then the host answers at any time, and others, who go on and on, are not to hold the monitor up.
            turns = min(turns, _TURNS_BY_CHANCE)
        await scheduler.turns(turns)
        if scheduler.loop_turn.waiters:
            scheduler.next_round()
            await scheduler.turns(turns)
        scheduler.fire_due()
        await scheduler.turns(turns)
        if self._machine.jobs.ending:
            # That is one step of the round, whatever it polls for.
            await self._machine.jobs.main_loop_free()

    async def _reply_to(self, value: Any) -> bytes:
        if isinstance(value, ParseError):
            return self._refusal("GenericError", value.desc)
        try:
            request = qmp.parse_request(value, self.oob)
        except qmp.BadRequest as error:
            return self._refusal("GenericError", error.desc, error.id)
        try:
            if self.ready and (request.oob or request.command != "qmp_capabilities"):
                result = await dispatch.run_command(self._machine, request)
            else:
                result = self._negotiate(request)
        except QmpError as error:
            return self._refusal(error.error_class, error.desc, request.id)
        if result is None:
            result = {}
        if result == {} and request.id is qmp.NO_ID and not self._pretty:
            return qmp.DONE_LINE
        return self._line(qmp.returned(result, request.id))

    def _refusal(self, error_class: str, desc: str, request_id: Any = qmp.NO_ID) -> bytes:
        words = self._machine.version.reword(desc)
        return self._line(qmp.error(error_class, words, request_id))

    def _line(self, reply: dict[str, Any]) -> bytes:
        return encode_line(reply, self._pretty, self._six_places)

    def _negotiate(self, request: qmp.Request) -> dict[str, Any]:
        """qmp_capabilities, and no other command, once (monitor/qmp-cmds-control.c:61, 7.2). Its arguments
        are looked at before its handler says that it comes too late."""
        if request.command != "qmp_capabilities":
            raise QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        try:
            arguments = self._machine.schema.check("qmp_capabilities", request.arguments)
        except ArgumentError as error:
            raise QmpError(error.desc, error.error_class) from None
        if self.ready:
            raise QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        self.oob = "oob" in arguments.get("enable", [])
        self.ready = True
        return {}
