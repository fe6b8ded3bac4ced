"""The wire of a QMP monitor: one connection for all inputs, brought to its senses after each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from scenarios.backends.interface import DeadlinePassed, MachineGone, Session
from scenarios.backends.sim_session import SimSession
from scenarios.streams import drawn_qmp
from scenarios.streams.drawn import Input
from scenarios.streams.interface import REPLY_NS, Answer, Wire
from simulator.monitor.session import Session as Monitor
from simulator.wire import json_lexer
from simulator.wire.json_stream import JsonStream, ParseError

# FF gets the parser out of whatever it is in; nothing that is drawn has this id.
END = b'\xff\n{"execute":"query-name","id":"END"}\n'
_MARK = b'"id": "END"'
_UP_TO_MARK = re.compile(rb'(?:.*\n)*?.*"id": "END".*\n')
# They wait in sockets, where there is room for more than so many.
_ASKED_AT_ONCE = 16
_NEGOTIATE = b'{"execute":"qmp_capabilities"}'
_TIME = re.compile(rb'"timestamp": \{"seconds": -?[0-9]+, "microseconds": -?[0-9]+\}')
# A number that it cannot hold is written as C does, which is no JSON (qobject/json-writer.c).
_INFINITE = re.compile(rb"(?<=[ \[])-?inf(?=[],}])")
_TURN_NS = 1
_MEMBERS = (
    {"return"},
    {"return", "id"},
    {"error"},
    {"error", "id"},
    {"event", "timestamp"},
    {"event", "timestamp", "data"},
)


class QmpWire(Wire):
    """`negotiates`: the client says qmp_capabilities before the first input."""

    name = "qmp"

    def __init__(self, negotiates: bool = True) -> None:
        self.negotiates = negotiates

    def draw(self, seed: int) -> Input:
        return drawn_qmp.draw(seed)

    async def prepare(self, session: Session) -> None:
        await session.qmp("blockdev-add", {"driver": "null-co", "node-name": "n0", "size": 65536})

    async def simulated(self, session: SimSession, inputs: Sequence[Input], answers: list[Answer]) -> None:
        monitor = session.machine.connect_monitor()
        monitor.take()
        if self.negotiates:
            monitor.receive(_NEGOTIATE)
            await session.sleep(_TURN_NS)
            monitor.take()
        for each in inputs:
            answers.append(await _judged(session, monitor, each))

    async def real(
        self, session: Session, inputs: Sequence[Input], expected: Sequence[Answer], answers: list[Answer]
    ) -> None:
        monitor = await session.watched_monitor()
        received = bytearray()

        async def until(mark: bytes, times: int = 1) -> None:
            while received.count(mark) < times or not received.endswith(b"\n"):
                if not await monitor.more(REPLY_NS):
                    raise DeadlinePassed(f"{mark.decode()} on the monitor", REPLY_NS)
                received.extend(monitor.take())
                if monitor.closed:
                    raise MachineGone("the monitor was closed")

        await until(b'"QMP"')
        if self.negotiates:
            monitor.send(_NEGOTIATE)
            await until(b'"return"')
        received.clear()
        for start in range(0, len(inputs), _ASKED_AT_ONCE):
            some = inputs[start : start + _ASKED_AT_ONCE]
            monitor.send(b"".join(each.payload + END for each in some))
            try:
                await until(_MARK, len(some))
            finally:
                answers += [Answer((answer,)) for answer in _UP_TO_MARK.findall(bytes(received))]
                received.clear()

    def comparable(self, answer: bytes) -> bytes:
        return _TIME.sub(b'"timestamp": 0', answer)


async def _judged(session: SimSession, monitor: Monitor, each: Input) -> Answer:
    received = bytearray()
    complaint = ""
    given = 0
    for piece in [piece for pieces in each.pieces() for piece in pieces] + [END]:
        monitor.receive(piece)
        given += len(piece)
        complaint = complaint or _unbounded(monitor, given)
        if not monitor.wants_input:
            await session.sleep(_TURN_NS)
    until_ns = session.now_ns() + REPLY_NS
    turn_ns = _TURN_NS
    while _MARK not in received:
        await session.sleep(turn_ns)
        received += monitor.output()
        if session.now_ns() > until_ns:
            return Answer((bytes(received),), "no reply to what comes after the input")
        turn_ns *= 2
    return Answer((bytes(received),), complaint or malformed(bytes(received)) or _left(monitor))


def _unbounded(monitor: Monitor, given: int) -> str:
    """QEMU holds a message's tokens and no more; the message began no earlier than the input."""
    held, most = monitor.held_bytes, min(given, json_lexer.MAX_MESSAGE_BYTES + 1)
    return f"holds {held} bytes where it may hold {most}" if held > most else ""


def _left(monitor: Monitor) -> str:
    return f"still holds {monitor.held_bytes} bytes after a whole message" if monitor.held_bytes else ""


def malformed(answer: bytes) -> str:
    """What is not as a monitor says it: lines that end in CR LF, each a reply or an event as JSON."""
    lines = answer.split(b"\r\n")
    if lines.pop():
        return "does not end in CR LF"
    for line in lines:
        try:
            message = json.loads(_INFINITE.sub(b"0", line))
        except RecursionError:
            # What a client nests deeper than Python reads comes back in the id.
            (message,) = JsonStream(False).receive_data(line)
        except ValueError as error:
            return f"is no JSON: {error}"
        if isinstance(message, ParseError) or not isinstance(message, dict) or set(message) not in _MEMBERS:
            return f"is neither reply nor event: {line[:80]!r}"
        refusal = message.get("error", {"class": "", "desc": ""})
        if not isinstance(refusal, dict) or set(refusal) != {"class", "desc"}:
            return f"has an error that is none: {line[:80]!r}"
    return ""
