"""The machine's NBD server: its connections and their requests, without a socket (blockdev-nbd.c,
nbd/server.c, 7.2).

Whoever has the sockets, or a client in the same process, calls `NbdServer.connect`, passes bytes to
`receive`, sends what
`output` returns, and lets the scheduler run.
"""

from __future__ import annotations

from collections import deque

from simulator.block.describe import max_transfer_bytes
from simulator.block.nbd import requests
from simulator.block.nbd.tls import TlsError
from simulator.engine.task import WaitQueue
from simulator.wire.nbd.messages import (
    MAX_BLOCK_BYTES,
    ConnectionEnded,
    ExportOpened,
    Request,
    ServerPolicy,
    StartTls,
)
from simulator.wire.nbd.server import ServerConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from simulator.block.export import Exports, NbdExport
    from simulator.block.nbd.tls import TlsSession
    from simulator.engine.scheduler import Scheduler, Timer
    from simulator.wire.nbd.messages import ExportInfo, Payload

DEFAULT_MAX_CONNECTIONS = 100  # include/block/nbd.h:41
# A request comes to what it has to wait for within so many turns, through all the nodes below its export.
_TURNS_TO_BEGIN = 16


class NbdServer:
    """`address` is a SocketAddress as QMP has it; `max_connections` 0 is no limit. Further clients wait,
    ungreeted.

    `on_closed` is called when the server stops listening. `new_tls` makes a client's TLS session, None for a
    server without TLS.
    """

    def __init__(
        self,
        exports: Exports,
        scheduler: Scheduler,
        address: dict[str, Any],
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        policy: ServerPolicy | None = None,
        on_closed: Callable[[], None] | None = None,
        new_tls: Callable[[], TlsSession] | None = None,
    ) -> None:
        self.exports = exports
        self.scheduler = scheduler
        self.address = address
        self.max_connections = max_connections
        self.policy = policy or ServerPolicy()
        self.on_closed = on_closed
        self.new_tls = new_tls
        self.connections: list[NbdConnection] = []  # accepted, oldest first
        self.backlog: deque[NbdConnection] = deque()
        self.listening = True
        self._lets_in = True
        self._gone = WaitQueue("NBD connections to end")

    def connect(self) -> NbdConnection:
        """A client has connected. Raises ConnectionRefusedError once the server was stopped."""
        if not self.listening:
            raise ConnectionRefusedError("the NBD server was stopped")
        connection = NbdConnection(self)
        self.backlog.append(connection)
        self._accept()
        return connection

    @property
    def has_room(self) -> bool:
        """Otherwise clients wait in the queue of whoever listens."""
        return self._lets_in and (not self.max_connections or len(self.connections) < self.max_connections)

    def _accept(self) -> None:
        while self.backlog and self.has_room:
            connection = self.backlog.popleft()
            if not connection.closed:
                self.connections.append(connection)
                connection.accepted()

    def find_export(self, name: str) -> ExportInfo | None:
        export = self.exports.find_served(name)
        if export is None:
            return None
        export.info.min_block = export.node.driver.request_alignment
        export.info.max_block = min(max_transfer_bytes(export.node) or MAX_BLOCK_BYTES, MAX_BLOCK_BYTES)
        return export.info

    def list_exports(self) -> Iterable[ExportInfo]:
        return [export.info for export in self.exports.served]

    def forget(self, connection: NbdConnection) -> None:
        """A connection that has ended, with nothing under way."""
        if connection in self.connections:
            self.connections.remove(connection)
        self._gone.wake_all()
        if self.listening:
            self._accept()

    async def close(self) -> None:
        """nbd-server-stop: remove all exports, then stop listening and close what is still connected. Nobody
        is let in meanwhile: QEMU waits in the event loop of the block layer, which has no listener."""
        self._lets_in = False
        await self.exports.close_all()
        self.listening = False
        if self.on_closed is not None:
            self.on_closed()
        for connection in [*self.connections, *self.backlog]:
            connection.close()
        self.backlog.clear()
        while self.connections:
            await self._gone.wait()

    def drop_all(self) -> None:
        """The machine was killed: every connection is closed, and nothing more is done for any."""
        self.listening = False
        for connection in [*self.connections, *self.backlog]:
            connection.die()
        self.connections.clear()
        self.backlog.clear()


class NbdConnection:
    """One client. `closed` once the server's side is shut: no more comes out, and what goes in is ignored.

    `on_output` is called when there is something to send or the connection was closed. `in_flight` counts
    requests being worked on; those that came in excess, or during a drained section, wait.
    """

    __slots__ = (
        "_ended",
        "_limit",
        "_plain",
        "_server",
        "_stalled",
        "_timer",
        "_tls",
        "_unread",
        "_waiting",
        "aborts",
        "closed",
        "export",
        "in_flight",
        "on_output",
        "reason",
        "wire",
    )

    def __init__(self, server: NbdServer) -> None:
        self._server = server
        self._limit = server.policy.max_requests_in_flight
        self._unread: list[bytes] | None = []  # until the server accepts
        self._waiting: deque[Request | ConnectionEnded] = deque()
        self._timer: Timer | None = None
        self._ended = False
        self._stalled = False
        self._tls: TlsSession | None = None
        self._plain: list[Payload] = []  # what has to leave before the first byte of TLS
        self.wire: ServerConnection | None = None
        self.export: NbdExport | None = None
        self.in_flight = 0
        self.closed = False
        self.reason = ""  # what QEMU would write to its log
        self.aborts = False  # this is where QEMU's whole process dies
        self.on_output: Callable[[], None] | None = None

    # -- bytes
    def accepted(self) -> None:
        server = self._server
        self.wire = ServerConnection(
            server.find_export, server.list_exports, server.policy, server.new_tls is not None
        )
        limit_ns = server.policy.handshake_limit_ns
        if limit_ns:
            scheduler = server.scheduler
            self._timer = scheduler.call_at(scheduler.now_ns + limit_ns, self._handshake_too_slow)
        unread, self._unread = self._unread or [], None
        self._notify()
        for payload in unread:
            self.receive(payload)

    def _handshake_too_slow(self) -> None:
        self._timer = None
        self.close()

    @property
    def wants_input(self) -> bool:
        """False while QEMU would read no further: enough requests are under way or waiting."""
        return not self.closed and self.in_flight + len(self._waiting) < self._limit

    def stall(self, is_stalled: bool) -> None:
        """The client does not take what it is sent, or does so again: QEMU's requests stay under way until
        their reply is sent, so no new ones begin meanwhile."""
        self._stalled = is_stalled
        if not is_stalled and self._waiting:
            self.resume()

    def receive(self, payload: bytes) -> None:
        """Bytes from the client. Requests in them run when the scheduler does."""
        if self.closed or self._ended:
            return
        if self.wire is None:
            assert self._unread is not None
            self._unread.append(payload)
            return
        if self._tls is None:
            self._take(self.wire.receive_data(payload))
        else:
            self._receive_by_tls(self.wire, self._tls, payload)
        self._notify()

    def _receive_by_tls(self, wire: ServerConnection, tls: TlsSession, ciphertext: bytes) -> None:
        """A client that is not let in, or does not speak TLS, is left without a word."""
        was_established = tls.established
        try:
            plaintext = tls.receive(ciphertext)
        except TlsError as error:
            self.reason = str(error)
            self.close()
            return
        if tls.established and not was_established:
            wire.tls_started()
        if plaintext:
            self._take(wire.receive_data(plaintext))
        if tls.ended:
            self.receive_eof()

    def _start_tls(self, received: bytes) -> None:
        wire, make = self.wire, self._server.new_tls
        assert wire is not None
        assert make is not None
        self._plain = wire.take_output()
        try:
            self._tls = make()
        except TlsError as error:
            self.reason = str(error)
            self.close()
            return
        if received:
            self._receive_by_tls(wire, self._tls, received)

    def receive_eof(self) -> None:
        """The client is gone. What it asked for before is still done; nobody is told."""
        if self._ended:
            return
        if self.wire is None:
            self.close()
            return
        self._take(self.wire.receive_eof())

    def output(self) -> bytes:
        """All bytes for the client since the last call."""
        buffers = self.output_buffers()
        return b"".join(buffers) if buffers else b""

    def output_buffers(self) -> list[Payload]:
        """The same without joining them: large payloads are not copied."""
        if self.wire is None:
            return []
        if self._tls is None:
            return self.wire.take_output()
        plain, self._plain = self._plain, []
        said = self.wire.take_output()
        if said:
            self._tls.send(said)
        return plain + self._tls.take_output()

    def _notify(self) -> None:
        if self.on_output is not None:
            self.on_output()

    # -- events
    def _take(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Request):
                self._waiting.append(event)
            elif isinstance(event, StartTls):
                self._start_tls(event.received)
            elif isinstance(event, ExportOpened):
                self._opened(event.export.export)
            elif isinstance(event, ConnectionEnded) and (self._waiting or self.in_flight):
                self._waiting.append(event)
            elif isinstance(event, ConnectionEnded):
                self._reach_end(event)
        self.resume()

    def _opened(self, export: NbdExport) -> None:
        self.export = export
        export.connections.append(self)
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Begin what may be begun: not in a drained section, and not too many at once."""
        export = self.export
        while self._waiting and self.in_flight < self._limit:
            assert export is not None
            if export.backend.quiesce_count or self._stalled:
                return
            request = self._waiting.popleft()
            if isinstance(request, ConnectionEnded):
                self._server.scheduler.spawn(self._end_behind_requests(request), "end of an NBD client")
            else:
                self.in_flight += 1
                self._server.scheduler.spawn(self._serve(export, request), "NBD request")
        if self._ended:
            self._rest()

    async def _end_behind_requests(self, ended: ConnectionEnded) -> None:
        """QEMU reads one request after the other: each has begun, and is answered unless it has to wait for
        something, before the next is looked at; what it waits for comes no earlier than the end."""
        scheduler = self._server.scheduler
        await scheduler.turns(_TURNS_TO_BEGIN)
        await scheduler.loop_turn
        if not self._ended:
            self._reach_end(ended)
            self._rest()
            self._notify()

    async def _serve(self, export: NbdExport, request: Request) -> None:
        wire = self.wire
        assert wire is not None
        try:
            await requests.handle(wire, export, request)
        except requests.ConnectionLostError as failure:
            self.reason = str(failure)
            self.close()
        self.in_flight -= 1
        if not self.in_flight:
            self._server.exports.came_to_rest()
        self._notify()
        self.resume()

    # -- the end
    def _reach_end(self, ended: ConnectionEnded) -> None:
        assert self.wire is not None
        self.reason, self.aborts = ended.reason, ended.aborts
        self.wire.close()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self.closed = True
        self._cancel_timer()

    def close(self) -> None:
        """The server ends it: requests under way finish without a reply, waiting ones are dropped."""
        if self._ended:
            return
        if self.wire is not None:
            self.wire.close()
        self._waiting.clear()
        self._end()
        self._notify()
        # The coroutine that waits for the client's next request learns of it from the socket, in a later turn
        # of the main loop than a command's reply.
        scheduler = self._server.scheduler
        scheduler.call_at(scheduler.now_ns, self._rest)

    def _rest(self) -> None:
        """Let go of export and server once nothing is under way."""
        if self.in_flight or self._waiting:
            return
        export, self.export = self.export, None
        if export is not None:
            self._server.exports.client_gone(export, self)
        self._server.forget(self)

    def die(self) -> None:
        """The machine was killed."""
        self._waiting.clear()
        self._end()
        self._notify()
