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
from simulator.wire.nbd.server_handshake import REQUEST, REQUEST_BYTES, Handshake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, ClassVar

    from simulator.wire.nbd.messages import Payload

WRITE_PAYLOAD = "write payload"

_REQUEST = Struct(">LHHQQL")

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

    __slots__ = ("_write",)

    MOVES: ClassVar[dict[str, tuple[str, frozenset[str]]]] = {
        **Handshake.MOVES,
        REQUEST: ("_take_request", frozenset((WRITE_PAYLOAD, CLOSED))),
        WRITE_PAYLOAD: ("_take_write_payload", frozenset((REQUEST, CLOSED))),
    }

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As of Handshake."""
        super().__init__(*arguments, **options)
        self._write: Request | None = None

    # -- requests

    def _take_request(self, data: Payload, position: int, end: int) -> int:
        magic, flags, kind, cookie, offset, length = _REQUEST.unpack_from(data, position)
        position += REQUEST_BYTES
        request = Request(kind, flags, cookie, offset, length)
        if magic != nbd.REQUEST_MAGIC and not self.policy.answers_bad_magic:
            self._fail("request-magic", magic=magic)
        elif magic != nbd.REQUEST_MAGIC:
            self._refuse_and_end(request, self.text("request-magic", magic=magic))
        elif kind == nbd.CMD_DISC:
            self._end("")
        elif length > self.policy.max_payload_bytes and kind in _CARRYING:
            text = self.text("too-long", length=length, limit=self.policy.max_payload_bytes)
            if kind == nbd.CMD_WRITE:
                self._refuse_and_end(request, text)
            else:
                self.reply_error(request, nbd.EINVAL, text)
        elif kind == nbd.CMD_WRITE:
            self._write = request
            self._enter(WRITE_PAYLOAD, length)
        else:
            self._accept(request)
        return position

    def _take_write_payload(self, data: Payload, position: int, _end: int) -> int:
        request = self._write
        assert request is not None
        end = position + request.length
        request.payload = memoryview(data)[position:end]
        self._write = None
        self._enter(REQUEST, REQUEST_BYTES)
        self._accept(request)
        return end

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
        elif kind == nbd.CMD_BLOCK_STATUS and not request.length:
            problem = self.text("no-length")
        elif kind == nbd.CMD_BLOCK_STATUS and not self.contexts:
            problem = self.text("no-contexts")
        else:
            self._events.append(request)
            return
        self.reply_error(request, nbd.EINVAL, problem)

    def _valid_flags(self, kind: int) -> int:
        if kind == nbd.CMD_READ and self.structured:
            return nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_DF
        return _VALID_FLAGS.get(kind, nbd.CMD_FLAG_FUA)

    # -- replies, each request once. After the end of the connection they go nowhere.

    def _answers(self, request: Request) -> bool:
        if request.answered:
            raise AssertionError(f"request {request.cookie} answered twice")
        request.answered = True
        return self.state != CLOSED

    def reply_read(self, request: Request, chunks: Iterable[tuple[int, Payload | None]]) -> None:
        """The bytes of a read as (length, bytes), or (length, None) for holes, in order and complete."""
        if not self._answers(request):
            return
        if self._may_be_sparse(request):
            self._output += replies.sparse_read(request, chunks)
        else:
            self._output += replies.whole_read(request, chunks, self.structured)

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
            self._output += replies.sparse_read(request, chunks, complete=False)
            self._end(self.text("read-failed", reason=reason))

    def _may_be_sparse(self, request: Request) -> bool:
        return self.structured and request.length > 0 and not request.flags & nbd.CMD_FLAG_DF

    def reply_done(self, request: Request) -> None:
        """Success without bytes. QEMU sends a simple reply, structured or not."""
        if self._answers(request):
            self._output.append(replies.simple(request.cookie))

    def reply_error(self, request: Request, errno: int, text: str | None = None) -> None:
        """`errno` is Linux's; without `text`, what QEMU says for that command."""
        if not self._answers(request):
            return
        number = nbd.errno_on_wire(errno)
        if self.structured:
            said = FAILED_TEXTS.get(request.kind, "") if text is None else text
            self._output.append(replies.structured_error(request.cookie, number, said))
        else:
            self._output.append(replies.simple(request.cookie, number))

    def reply_block_status(self, request: Request, statuses: dict[int, Iterable[tuple[int, int]]]) -> None:
        """Context id -> extents (length, flags) from the request's offset on, for every negotiated context.

        They are merged, and cut off at one (REQ_ONE) or at the policy's limit, as QEMU does.
        """
        if not self._answers(request):
            return
        limit = 1 if request.flags & nbd.CMD_FLAG_REQ_ONE else self.policy.max_extents
        left = len(self.contexts)
        for context_id in self.contexts.values():
            left -= 1
            extents = statuses[context_id]
            self._output.append(
                replies.block_status(request.cookie, context_id, extents, limit, done=not left)
            )
