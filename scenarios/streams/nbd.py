"""The wire of an NBD server: a connection for each input, which ends with the client's side shut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from scenarios.backends.asyncio_transport import connected_socket
from scenarios.backends.interface import MachineGone, Session
from scenarios.backends.processes import deadline
from scenarios.backends.sim_session import SimSession
from scenarios.streams import drawn_nbd
from scenarios.streams.drawn import Input
from scenarios.streams.interface import REPLY_NS, Answer, Wire
from scenarios.streams.nbd_messages import MalformedError, messages_of
from simulator.block.nbd.server import NbdConnection

_READ_BYTES = 1 << 18
_TURN_NS = 1
# What a real server has not said by then it does not say. Waited for only where the simulator says more.
_SILENT_S = 0.2
# From the end of its last connection to that of a process that dumps no core.
_DYING_NS = 50_000_000


class NbdWire(Wire):
    """The exports are of a disk that reads as zeroes whatever is written to it, so no input changes another's
    answer."""

    name = "nbd"

    def draw(self, seed: int) -> Input:
        return drawn_nbd.draw(seed)

    async def prepare(self, session: Session) -> None:
        disk = {"driver": "null-co", "node-name": "d0", "size": drawn_nbd.SIZE, "read-zeroes": True}
        await session.qmp("blockdev-add", disk)
        bitmap = {"node": "d0", "name": "b0", "disabled": True, "granularity": 65536}
        await session.qmp("block-dirty-bitmap-add", bitmap)
        await session.ensure_nbd_server()
        export = {"type": "nbd", "node-name": "d0"}
        await session.qmp("block-export-add", {**export, "id": "n0", "name": "n0", "writable": True})
        more = {"description": "a disk", "bitmaps": ["b0"], "allocation-depth": True}
        await session.qmp("block-export-add", {**export, "id": "n1", "name": "n1", **more})

    async def simulated(self, session: SimSession, inputs: Sequence[Input], answers: list[Answer]) -> None:
        for each in inputs:
            answers.append(await _judged(session, each))

    async def real(
        self, session: Session, inputs: Sequence[Input], expected: Sequence[Answer], answers: list[Answer]
    ) -> None:
        for each, ours in zip(inputs, expected, strict=False):
            try:
                async with deadline("the NBD server to end a connection", REPLY_NS):
                    wire = await connected_socket(session.nbd_path)
                    try:
                        answers.append(await _asked(wire, each, ours))
                    finally:
                        wire.close()
            except ConnectionRefusedError:
                # Whether the machine is there shows with the next connection only.
                if answers:
                    answers.pop()
                raise MachineGone("the NBD server does not listen any more") from None
            if answers[-1].steps != ours.steps or ours.foretells_end:
                await _check_there(session, answers)

    def comparable(self, answer: bytes) -> bytes:
        """Replies sorted: QEMU works on several requests at once."""
        try:
            handshake, replies = messages_of(answer)
        except MalformedError:
            return answer
        return b"".join(handshake) + b"".join(sorted(replies))


async def _check_there(session: Session, answers: list[Answer]) -> None:
    """Raises MachineGone, and takes the last answer back."""
    await session.sleep(_DYING_NS)
    try:
        (await connected_socket(session.nbd_path)).close()
    except ConnectionRefusedError:
        answers.pop()
        raise MachineGone("the NBD server does not listen any more") from None


async def _asked(wire: socket.socket, each: Input, ours: Answer) -> Answer:
    """Each part is said once the answer to the one before it is there."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    steps = []

    async def read_up_to(wanted: int) -> bytes:
        while len(received) < wanted:
            piece = await loop.sock_recv(wire, _READ_BYTES)
            if not piece:
                break
            received.extend(piece)
        taken = bytes(received)
        received.clear()
        return taken

    try:
        for part, said in zip((b"", *each.parts), ours.steps, strict=False):
            await loop.sock_sendall(wire, part)
            try:
                steps.append(await asyncio.wait_for(read_up_to(len(said)), _SILENT_S))
            except TimeoutError:
                break
        wire.shutdown(socket.SHUT_WR)
        received.extend(await read_up_to(1 << 40))
    except (ConnectionResetError, BrokenPipeError):
        pass  # it closed with input unread
    return Answer((*steps, bytes(received)))


async def _judged(session: SimSession, each: Input) -> Answer:
    connection = session.machine.connect_nbd()
    assert isinstance(connection, NbdConnection)
    steps = [connection.output()]
    complaint = ""
    for pieces in each.pieces():
        for piece in pieces:
            connection.receive(piece)
            complaint = complaint or _unbounded(connection)
            if not connection.wants_input:
                await session.sleep(_TURN_NS)
        await session.sleep(_TURN_NS)
        steps.append(connection.output())
    connection.receive_eof()
    await session.sleep(_TURN_NS)
    steps.append(connection.output())
    if not connection.closed:
        complaint = complaint or "the connection is open after its client has shut it"
    server = session.machine.nbd_server
    if server is not None and connection in server.connections:
        complaint = complaint or "the server still counts the connection after its end"
    try:
        messages_of(b"".join(steps))
    except MalformedError as error:
        complaint = complaint or str(error)
    return Answer(tuple(steps), complaint, connection.aborts)


def _unbounded(connection: NbdConnection) -> str:
    """QEMU reads a message's head, then as much as it announces, up to a limit."""
    wire = connection.wire
    if wire is None or connection.closed:
        return ""
    most = max(wire.policy.max_option_bytes, wire.policy.max_payload_bytes)
    if wire.held_bytes >= wire.needed_bytes:
        return f"holds {wire.held_bytes} bytes where {wire.needed_bytes} are enough"
    return f"waits for {wire.needed_bytes} bytes, more than {most}" if wire.needed_bytes > most else ""
