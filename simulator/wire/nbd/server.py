"""The server's end of an NBD connection, as QEMU is one (nbd/server.c, 7.2): transmission, and the
table of states.

The handshake is in server_handshake.py. Requests that QEMU refuses before it looks at the disk are
answered here; the others are the owner's to answer, in any order.
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd import replies
from simulator.wire.nbd.connection import CLOSED
from simulator.wire.nbd.messages import FAILED_TEXTS, Request
from simulator.wire.nbd.server_handshake import DROPPED_AT_ONCE, REQUEST, Handshake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, ClassVar

    from simulator.wire.nbd.messages import Payload

PAYLOAD = "payload"
PAYLOAD_REST = "rest of a payload that is not wanted"

_REQUEST = Struct(">LHHQQL")
_EXTENDED_REQUEST = Struct(">LHHQQQ")
_EFFECT_LENGTH = Struct(">Q")
_CONTEXT_ID = Struct(">L")

COMMAND_NAMES = ("read", "write", "disconnect", "flush", "trim", "cache", "write zeroes", "block status")

_VALID_FLAGS = {
    nbd.CMD_WRITE_ZEROES: nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO,
    nbd.CMD_BLOCK_STATUS: nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_REQ_ONE,
}
_WRITING = frozenset((nbd.CMD_WRITE, nbd.CMD_WRITE_ZEROES, nbd.CMD_TRIM))
_CARRYING = frozenset((nbd.CMD_READ, nbd.CMD_WRITE, nbd.CMD_CACHE))


class ServerConnection(Handshake):
    """Events: StartTls, ExportOpened, Request, ConnectionEnded. The greeting is in the output from the start.

    `find_export(name)` -> ExportInfo or None and `list_exports()` are called while an option is answered.
    `tls`: nothing is served without TLS.
    """

    __slots__ = ("_carrier", "_dropped_bytes")

    MOVES: ClassVar[dict[str, tuple[str, frozenset[str]]]] = {
        **Handshake.MOVES,
        REQUEST: ("_take_request", frozenset((PAYLOAD, PAYLOAD_REST, CLOSED))),
        PAYLOAD: ("_take_payload", frozenset((REQUEST, CLOSED))),
        PAYLOAD_REST: ("_take_payload_rest", frozenset((REQUEST, PAYLOAD_REST, CLOSED))),
    }

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As of Handshake."""
        super().__init__(*arguments, **options)
        self._carrier: Request | None = None  # whose payload is coming
        self._dropped_bytes = 0  # of which so much is still to come, for nobody

    # -- requests

    def _take_request(self, data: Payload, position: int, end: int) -> int:
        """Source: nbd/server.c, nbd_receive_request and nbd_co_receive_request, 10.0."""
        layout, expected = (
            (_EXTENDED_REQUEST, nbd.EXTENDED_REQUEST_MAGIC)
            if self.extended
            else (_REQUEST, nbd.REQUEST_MAGIC)
        )
        magic, flags, kind, cookie, offset, length = layout.unpack_from(data, position)
        position += layout.size
        request = Request(kind, flags, cookie, offset, length)
        has_payload = self._has_payload(request)
        if magic != expected and not self.policy.answers_bad_magic:
            self._fail("request-magic", magic=magic, expected=expected)
        elif magic != expected:
            self._refuse_and_end(request, self.text("request-magic", magic=magic, expected=expected))
        elif kind == nbd.CMD_DISC:
            self._end("")
        elif length > self.policy.max_payload_bytes and (has_payload or kind in _CARRYING):
            text = self.text("too-long", length=length, limit=self.policy.max_payload_bytes)
            if has_payload:
                self._refuse_and_end(request, text)
            else:
                self.reply_error(request, nbd.EINVAL, text)
        elif has_payload:
            self._expect_payload(request)
        else:
            request.contexts = self.contexts
            self._accept(request)
        return position

    def _has_payload(self, request: Request) -> bool:
        """By its kind, or because it says so."""
        says_so = self.extended and request.flags & nbd.CMD_FLAG_PAYLOAD_LEN
        return bool(request.kind == nbd.CMD_WRITE or says_so)

    def _expect_payload(self, request: Request) -> None:
        length = request.length
        is_status = request.kind == nbd.CMD_BLOCK_STATUS
        most_bytes = _EFFECT_LENGTH.size + _CONTEXT_ID.size * len(self.contexts)
        self._carrier = request
        if is_status and not self._has_asked_contexts:
            # Any client that negotiated no contexts can end the server so (nbd/server.c:2579, 10.0).
            self._end(self.text("unprepared-payload"), aborts=True)
        elif request.kind == nbd.CMD_WRITE or (
            is_status and _EFFECT_LENGTH.size <= length <= most_bytes and not length % _CONTEXT_ID.size
        ):
            self._enter(PAYLOAD, length)
        else:
            request.length, self._dropped_bytes = 0, length
            self._enter(PAYLOAD_REST, min(length, DROPPED_AT_ONCE))

    def _take_payload(self, data: Payload, position: int, _end: int) -> int:
        request = self._carrier
        assert request is not None
        end = position + request.length
        payload = memoryview(data)[position:end]
        if request.kind == nbd.CMD_WRITE:
            request.payload = payload
        else:
            self._filter_contexts(request, payload)
        self._carried(request)
        return end

    def _take_payload_rest(self, _data: Payload, position: int, _end: int) -> int:
        taken = self._need
        self._dropped_bytes -= taken
        if self._dropped_bytes:
            self._enter(PAYLOAD_REST, min(self._dropped_bytes, DROPPED_AT_ONCE))
        else:
            assert self._carrier is not None
            self._carried(self._carrier)
        return position + taken

    def _carried(self, request: Request) -> None:
        self._carrier = None
        self._enter(REQUEST, self.request_bytes)
        self._accept(request)

    def _filter_contexts(self, request: Request, payload: memoryview) -> None:
        """The length that is meant, and the ids of some of the contexts, each once."""
        (length,) = _EFFECT_LENGTH.unpack_from(payload)
        wanted = [number for (number,) in _CONTEXT_ID.iter_unpack(payload[_EFFECT_LENGTH.size :])]
        contexts = {name: number for name, number in self.contexts.items() if number in wanted}
        request.length = 0
        if len(contexts) == len(wanted):
            request.length, request.contexts = length, contexts

    def _refuse_and_end(self, request: Request, text: str) -> None:
        """QEMU answers, but cannot know where the next request begins."""
        self.reply_error(request, nbd.EINVAL, text)
        self._fail("intermediate")

    def _accept(self, request: Request) -> None:
        """QEMU's checks in its order; every refusal is EINVAL on the wire (nbd/server.c:nbd_trip, 7.2)."""
        export = self.export
        assert export is not None
        kind = request.kind
        if kind in _WRITING and export.flags & nbd.FLAG_READ_ONLY:
            problem = self.text("read-only")
        elif request.offset + request.length > export.size:
            problem = self.text("past-end", offset=request.offset, length=request.length, size=export.size)
        elif request.flags and request.flags & ~self._valid_flags(kind):
            name = COMMAND_NAMES[kind] if kind < len(COMMAND_NAMES) else "<unknown>"
            problem = self.text("flags", command=name, flags=request.flags)
        elif kind > nbd.CMD_BLOCK_STATUS:
            problem = self.text("request-type", kind=kind)
        elif kind == nbd.CMD_BLOCK_STATUS and (refusal := self._refusal_of_status(request)):
            problem = self.text(refusal)
        else:
            self._events.append(request)
            return
        self.reply_error(request, nbd.EINVAL, problem)

    def _refusal_of_status(self, request: Request) -> str:
        no_length = "" if request.length else "no-length"
        if no_length and not self.policy.extended_headers:
            return no_length
        if not request.contexts:
            return "no-such-contexts" if self.contexts else "no-contexts"
        return no_length

    def _valid_flags(self, kind: int) -> int:
        flags = _VALID_FLAGS.get(kind, nbd.CMD_FLAG_FUA)
        if kind == nbd.CMD_READ and self.structured:
            flags |= nbd.CMD_FLAG_DF
        elif self.extended and kind in (nbd.CMD_WRITE, nbd.CMD_BLOCK_STATUS):
            flags |= nbd.CMD_FLAG_PAYLOAD_LEN
        return flags

    # -- replies, each request once. What comes in ends with the connection; what goes out once it is closed.

    def _answers(self, request: Request) -> bool:
        if request.answered:
            raise AssertionError(f"request {request.cookie} answered twice")
        request.answered = True
        return not self._is_silent

    def reply_read(self, request: Request, chunks: Iterable[tuple[int, Payload | None]]) -> None:
        """The bytes of a read as (length, bytes), or (length, None) for holes, in order and complete."""
        if not self._answers(request):
            return
        if self._may_be_sparse(request):
            self._output += replies.sparse_read(request, chunks, self.extended)
        else:
            self._output += replies.whole_read(request, chunks, self.structured, self.extended)

    def fail_read(
        self, request: Request, errno: int, reason: str, chunks: Iterable[tuple[int, Payload | None]] = ()
    ) -> None:
        """The disk failed a read behind `chunks`. `reason` is strerror's.

        Where the reply may have several chunks QEMU does not say so but closes the connection
        (nbd/server.c:nbd_co_send_sparse_read, 7.2); where it is in one piece it sends the errno. A
        failure to find the holes is an ordinary error: reply_error with "unable to check for
        holes: REASON".
        """
        if not self._may_be_sparse(request):
            self.reply_error(request, errno)
        elif self._answers(request):
            self._output += replies.sparse_read(request, chunks, self.extended, complete=False)
            if self.state != CLOSED:
                self._end(self.text("read-failed", reason=reason))

    def _may_be_sparse(self, request: Request) -> bool:
        return self.structured and request.length > 0 and not request.flags & nbd.CMD_FLAG_DF

    def reply_done(self, request: Request) -> None:
        """Success without bytes. QEMU sends a simple reply, structured or not; a chunk if extended."""
        if self._answers(request):
            done = replies.nothing(request, True) if self.extended else replies.simple(request.cookie)
            self._output.append(done)

    def reply_error(self, request: Request, errno: int, text: str | None = None) -> None:
        """`errno` is Linux's; without `text`, what QEMU says for that command."""
        if not self._answers(request):
            return
        number = nbd.errno_on_wire(errno)
        if self.structured:
            said = FAILED_TEXTS.get(request.kind, "") if text is None else text
            self._output.append(replies.structured_error(request, self.extended, number, said))
        else:
            self._output.append(replies.simple(request.cookie, number))

    def reply_block_status(self, request: Request, statuses: dict[int, Iterable[tuple[int, int]]]) -> None:
        """Context id -> extents (length, flags) from the offset on, for all of the request's contexts.

        They are merged, and cut off at one (REQ_ONE) or at the policy's limit, as QEMU does.
        """
        if not self._answers(request):
            return
        limit = 1 if request.flags & nbd.CMD_FLAG_REQ_ONE else self.policy.max_extents
        left = len(request.contexts)
        for context_id in request.contexts.values():
            left -= 1
            chunk = replies.block_status(
                request, self.extended, context_id, statuses[context_id], limit, done=not left
            )
            self._output.append(chunk)
