"""The client's end of an NBD connection: negotiates, sends requests, puts replies together.

Anything that the protocol forbids raises ProtocolError from `receive_data`; the connection is then closed.
Facts: NBD protocol, "Handshake phase" and "Transmission phase".
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client_chunks import (
    CHUNK_LIMITS,
    MAX_REPLY_BYTES,
    status_kind,
    take_error,
    take_extents,
)
from simulator.wire.nbd.client_options import Option, open_options, take_reply
from simulator.wire.nbd.connection import CLOSED, TLS_HANDSHAKE, Connection
from simulator.wire.nbd.messages import OptionAnswered, ProtocolError, Ready, Reply, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, ClassVar

    from simulator.wire.nbd.messages import Payload

GREETING = "greeting"
OPTION_REPLY = "option reply"
OPTION_REPLY_PAYLOAD = "option reply payload"
EXPORT_NAME_REPLY = "reply to EXPORT_NAME"
REPLY = "reply"
SIMPLE_PAYLOAD = "simple reply payload"
CHUNK_PAYLOAD = "chunk payload"

_GREETING = Struct(">8s8sH")
_FLAGS = Struct(">L")
_OPTION = Struct(">8sLL")
_OPTION_REPLY = Struct(">QLLL")
_EXPORT_NAME_REPLY = Struct(">QH")
_REQUEST = Struct(">LHHQQL")
_EXTENDED_REQUEST = Struct(">LHHQQQ")
_SIMPLE = Struct(">LLQ")
_CHUNK = Struct(">LHHQL")
_EXTENDED_CHUNK = Struct(">LHHQQQ")
_OFFSET = Struct(">Q")
_HOLE = Struct(">QL")
_SIMPLE_BYTES = _SIMPLE.size
_KNOWN_FLAGS = nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES


def open_export(
    name: str,
    contexts: Sequence[str] = (),
    structured: bool = True,
    export_name: bool = False,
    tls: bool = False,
    extended: bool = False,
) -> ClientConnection:
    """A connection that goes into transmission phase: Ready; or the refusal of GO, and ConnectionEnded.

    `export_name`: fall back to NBD_OPT_EXPORT_NAME where the server does not know GO. `tls`: StartTls comes
    first, and there is no connection without it. `extended`: with extended headers if the server knows them,
    else with structured replies.
    """
    options = open_options(name, contexts, structured, tls, extended)
    return ClientConnection(options, name if export_name else None)


def list_exports() -> ClientConnection:
    """A connection that asks for the exports: OptionAnswered for LIST, then ConnectionEnded."""
    return ClientConnection([Option(nbd.OPT_LIST)])


class ClientConnection(Connection):
    """Events: OptionAnswered for each of `options`, StartTls, Ready, Reply, ConnectionEnded.

    Options are sent one after the other, each when its predecessor is answered. After the last,
    unless it was a GO that succeeded, the connection says NBD_OPT_ABORT and ends.
    """

    __slots__ = (
        "_answer",
        "_coming",
        "_fallback",
        "_handshake_flags",
        "_last_cookie",
        "_option",
        "_options",
        "_pending",
        "ready",
    )

    MOVES: ClassVar[dict[str, tuple[str, frozenset[str]]]] = {
        GREETING: ("_take_greeting", frozenset((OPTION_REPLY, EXPORT_NAME_REPLY, CLOSED))),
        OPTION_REPLY: ("_take_option_reply", frozenset((OPTION_REPLY_PAYLOAD, CLOSED))),
        OPTION_REPLY_PAYLOAD: (
            "_take_option_reply_payload",
            frozenset((OPTION_REPLY, EXPORT_NAME_REPLY, TLS_HANDSHAKE, REPLY, CLOSED)),
        ),
        TLS_HANDSHAKE: ("_take_in_handshake", frozenset((OPTION_REPLY, CLOSED))),
        EXPORT_NAME_REPLY: ("_take_export_name_reply", frozenset((REPLY, CLOSED))),
        REPLY: ("_take_reply", frozenset((SIMPLE_PAYLOAD, CHUNK_PAYLOAD, CLOSED))),
        SIMPLE_PAYLOAD: ("_take_simple_payload", frozenset((REPLY, CLOSED))),
        CHUNK_PAYLOAD: ("_take_chunk_payload", frozenset((REPLY, CLOSED))),
        CLOSED: ("", frozenset()),
    }

    def __init__(self, options: Sequence[Option], fallback: str | None = None) -> None:
        super().__init__(GREETING, _GREETING.size)
        self._options = list(options)
        self._fallback = fallback
        self._handshake_flags = 0
        self._option = Option(0)
        self._answer = OptionAnswered(0)
        self._coming = (0, 0, 0, 0)  # kind, length, and of a chunk cookie, flags: what the payload belongs to
        self._last_cookie = 0
        self._pending: dict[int, Reply] = {}
        self.ready = Ready()

    def receive_data(self, data: bytes) -> list[Any]:
        """Events that `data` completes. Raises ProtocolError, after which the connection is closed."""
        try:
            return Connection.receive_data(self, data)
        except ProtocolError:
            self._end("protocol error")
            self._events.clear()
            raise

    @property
    def in_flight(self) -> int:
        """Requests without a complete reply."""
        return len(self._pending)

    def _end_of_file_reason(self) -> str:
        if self.state != REPLY or self._held or self._pending:
            return (
                f"the server closed the connection; expected {self.state}, {len(self._pending)} requests open"
            )
        return ""

    # -- handshake

    def _take_greeting(self, data: Payload, position: int, _end: int) -> int:
        magic, option_magic, flags = _GREETING.unpack_from(data, position)
        if magic != nbd.INIT_MAGIC or option_magic != nbd.OPTION_MAGIC:
            raise ProtocolError(f"expected the greeting NBDMAGIC IHAVEOPT, got {magic + option_magic!r}")
        if not flags & nbd.FLAG_FIXED_NEWSTYLE:
            raise ProtocolError(
                f"expected a server that speaks fixed newstyle, got handshake flags {flags:#x}"
            )
        self._handshake_flags = flags & _KNOWN_FLAGS
        self._output.append(_FLAGS.pack(self._handshake_flags))
        self._next_option()
        return position + _GREETING.size

    def _next_option(self) -> None:
        while self._options:
            option = self._options.pop(0)
            if option.code == nbd.OPT_SET_META_CONTEXT:
                wanted = self.ready.structured
            else:
                wanted = option.code != nbd.OPT_STRUCTURED_REPLY or not self.ready.extended
            if wanted:
                self._send_option(option)
                return
        self._output.append(_OPTION.pack(nbd.OPTION_MAGIC, nbd.OPT_ABORT, 0))
        self._end("")

    def _send_option(self, option: Option) -> None:
        self._output.append(_OPTION.pack(nbd.OPTION_MAGIC, option.code, len(option.payload)) + option.payload)
        self._option = option
        self._answer = OptionAnswered(option.code)
        if option.code == nbd.OPT_EXPORT_NAME:
            zeroes = 0 if self._handshake_flags & nbd.FLAG_NO_ZEROES else 124
            self._enter(EXPORT_NAME_REPLY, _EXPORT_NAME_REPLY.size + zeroes)
        else:
            self._enter(OPTION_REPLY, _OPTION_REPLY.size)

    def _take_option_reply(self, data: Payload, position: int, _end: int) -> int:
        magic, code, kind, length = _OPTION_REPLY.unpack_from(data, position)
        if magic != nbd.OPTION_REPLY_MAGIC:
            raise ProtocolError(f"expected option reply magic {nbd.OPTION_REPLY_MAGIC:#x}, got {magic:#x}")
        if code != self._option.code:
            raise ProtocolError(f"expected a reply to option {self._option.code}, got one to {code}")
        if length > MAX_REPLY_BYTES:
            raise ProtocolError(
                f"option {code}: expected at most {MAX_REPLY_BYTES} bytes of reply, got {length}"
            )
        self._coming = (kind, length, 0, 0)
        self._enter(OPTION_REPLY_PAYLOAD, length)
        return position + _OPTION_REPLY.size

    def tls_started(self) -> None:
        """The TLS handshake is over: what is received and sent now goes through it."""
        self._next_option()

    def _take_option_reply_payload(self, data: Payload, position: int, received_end: int) -> int:
        kind, length, _, _ = self._coming
        option, answer, ready = self._option, self._answer, self.ready
        end = position + length
        if not take_reply(option, answer, ready, kind, bytes(data[position:end])):
            self._enter(OPTION_REPLY, _OPTION_REPLY.size)
            return end
        if option.code == nbd.OPT_STARTTLS and not answer.error:
            self._events.append(answer)
            self._start_tls(bytes(data[end:received_end]))
            return received_end
        if option.code == nbd.OPT_STARTTLS:
            self._options.clear()
        elif option.code == nbd.OPT_STRUCTURED_REPLY:
            ready.structured = not answer.error
        elif option.code == nbd.OPT_EXTENDED_HEADERS:
            ready.extended = ready.structured = not answer.error
        elif option.code == nbd.OPT_SET_META_CONTEXT and answer.error:
            ready.contexts.clear()
        if option.code == nbd.OPT_GO:
            if not answer.error:
                self._events.append(answer)
                self._open()
                return end
            if answer.error == nbd.REP_ERR_UNSUP and self._fallback is not None:
                self._options.append(
                    Option(nbd.OPT_EXPORT_NAME, self._fallback.encode("utf-8", "surrogateescape"))
                )
        self._events.append(answer)
        self._next_option()
        return end

    def _take_export_name_reply(self, data: Payload, position: int, _end: int) -> int:
        self.ready.size, self.ready.flags = _EXPORT_NAME_REPLY.unpack_from(data, position)
        position += self._need
        self._open()
        return position

    def _open(self) -> None:
        self._events.append(self.ready)
        self._enter(REPLY, _SIMPLE_BYTES)

    # -- requests

    def request(
        self, kind: int, offset: int = 0, length: int = 0, payload: Payload | None = None, flags: int = 0
    ) -> Request:
        """Send a request; its Reply comes as an event that carries the same object."""
        if self.state not in _TRANSMISSION:
            raise AssertionError(f"NBD request in state {self.state!r}")
        self._last_cookie = cookie = self._last_cookie + 1
        request = Request(kind, flags, cookie, offset, length, payload)
        self._pending[cookie] = Reply(request)
        self._send_request(flags, kind, cookie, offset, length)
        if payload is not None:
            self._output.append(payload)
        return request

    def _send_request(self, flags: int, kind: int, cookie: int, offset: int, length: int) -> None:
        layout, magic = (
            (_EXTENDED_REQUEST, nbd.EXTENDED_REQUEST_MAGIC)
            if self.ready.extended
            else (_REQUEST, nbd.REQUEST_MAGIC)
        )
        self._output.append(layout.pack(magic, flags, kind, cookie, offset, length))

    def disconnect(self) -> None:
        """Say NBD_CMD_DISC, or NBD_OPT_ABORT in the handshake; the connection is closed."""
        if self.state in _TRANSMISSION:
            self._send_request(0, nbd.CMD_DISC, self._last_cookie + 1, 0, 0)
        elif self.state not in (CLOSED, GREETING):
            self._output.append(_OPTION.pack(nbd.OPTION_MAGIC, nbd.OPT_ABORT, 0))
        if self.state != CLOSED:
            self._end("")
            self._events.clear()

    # -- replies

    def _take_reply(self, data: Payload, position: int, end: int) -> int:
        magic, error, cookie = _SIMPLE.unpack_from(data, position)
        if magic == (nbd.EXTENDED_REPLY_MAGIC if self.ready.extended else nbd.STRUCTURED_REPLY_MAGIC):
            return self._take_chunk(data, position, end)
        if magic != nbd.SIMPLE_REPLY_MAGIC:
            raise ProtocolError(f"expected a reply magic, got {magic:#x}")
        reply = self._reply_to(cookie)
        request = reply.request
        if self.ready.structured and request.kind in _STRUCTURED_ONLY:
            raise ProtocolError(f"expected a structured reply to command {request.kind}, got a simple one")
        if reply.seen_chunk:
            raise ProtocolError(f"expected more chunks of the reply {cookie}, got a simple one")
        reply.error = error
        if error or request.kind != nbd.CMD_READ:
            self._finish(reply)
        else:
            self._coming = (request.kind, request.length, cookie, 0)
            self._enter(SIMPLE_PAYLOAD, request.length)
        return position + _SIMPLE_BYTES

    def _reply_to(self, cookie: int) -> Reply:
        reply = self._pending.get(cookie)
        if reply is None:
            raise ProtocolError(
                f"expected a reply to one of {len(self._pending)} open requests, got cookie {cookie:#x}"
            )
        return reply

    def _take_simple_payload(self, data: Payload, position: int, _end: int) -> int:
        _, length, cookie, _ = self._coming
        reply = self._pending[cookie]
        reply.payload = memoryview(data)[position : position + length]
        self._enter(REPLY, _SIMPLE_BYTES)
        self._finish(reply, checked=True)
        return position + length

    def _take_chunk(self, data: Payload, position: int, end: int) -> int:
        layout = _EXTENDED_CHUNK if self.ready.extended else _CHUNK
        if end - position < layout.size:
            self._need = layout.size
            return position
        _, flags, kind, cookie, *_, length = layout.unpack_from(data, position)
        if not self.ready.structured:
            raise ProtocolError("expected a simple reply, structured replies are not negotiated")
        request = self._reply_to(cookie).request
        lowest, highest = CHUNK_LIMITS.get(kind, (0, MAX_REPLY_BYTES))
        if kind == nbd.REPLY_OFFSET_DATA:
            highest = 8 + request.length
        if not lowest <= length <= highest:
            raise ProtocolError(f"chunk of type {kind}: expected {lowest} to {highest} bytes, got {length}")
        self._coming = (kind, length, cookie, flags)
        self._enter(CHUNK_PAYLOAD, length)
        return position + layout.size

    def _take_chunk_payload(self, data: Payload, position: int, _end: int) -> int:
        kind, length, cookie, flags = self._coming
        end = position + length
        reply = self._pending[cookie]
        reply.seen_chunk = True
        if kind == nbd.REPLY_OFFSET_DATA and reply.request.kind == nbd.CMD_READ:
            (offset,) = _OFFSET.unpack_from(data, position)
            reply.place(offset, memoryview(data)[position + 8 : end], length - 8)
        elif kind == nbd.REPLY_OFFSET_HOLE and reply.request.kind == nbd.CMD_READ:
            offset, hole_length = _HOLE.unpack_from(data, position)
            reply.place(offset, None, hole_length)
        elif kind == status_kind(self.ready) and reply.request.kind == nbd.CMD_BLOCK_STATUS:
            take_extents(self.ready, reply, memoryview(data)[position:end])
        elif kind & nbd.REPLY_ERROR_BIT:
            take_error(reply, kind, bytes(memoryview(data)[position:end]))
        elif kind != nbd.REPLY_NONE or not flags & nbd.REPLY_FLAG_DONE:
            raise ProtocolError(
                f"expected a chunk that answers command {reply.request.kind}, got type {kind}"
            )
        self._enter(REPLY, _SIMPLE_BYTES)
        if flags & nbd.REPLY_FLAG_DONE:
            self._finish(reply)
        return end

    def _finish(self, reply: Reply, checked: bool = False) -> None:
        request = reply.request
        if not reply.error and not checked:
            if request.kind == nbd.CMD_READ:
                reply.check_complete()
            elif request.kind == nbd.CMD_BLOCK_STATUS and len(reply.extents) != len(self.ready.contexts):
                raise ProtocolError(
                    f"expected extents of {self.ready.contexts}, got ids {list(reply.extents)}"
                )
        del self._pending[request.cookie]
        self._events.append(reply)


_TRANSMISSION = frozenset((REPLY, SIMPLE_PAYLOAD, CHUNK_PAYLOAD))
_STRUCTURED_ONLY = frozenset((nbd.CMD_READ, nbd.CMD_BLOCK_STATUS))
