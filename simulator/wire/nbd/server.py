"""The server's end of an NBD connection, as QEMU is one (nbd/server.c, 7.2): transmission, and the
table of states.

The handshake is in server_options.py. Requests that QEMU refuses before it looks at the disk are
answered here; the others are the owner's to answer, in any order.
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd import replies
from simulator.wire.nbd.connection import CLOSED, TLS_HANDSHAKE, Connection
from simulator.wire.nbd.messages import FAILED_TEXTS, ExportOpened, Request, ServerPolicy
from simulator.wire.nbd.server_options import OPTION_NAMES, OptionRefusedError, answer_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, ClassVar

    from simulator.wire.nbd.messages import ExportInfo, Payload

    Exports = Callable[[str], ExportInfo | None]
    ListExports = Callable[[], Iterable[ExportInfo]]

CLIENT_FLAGS = "client flags"
OPTION_MAGIC = "option magic"
OPTION_HEADER = "option header"
OPTION_PAYLOAD = "option payload"
REQUEST = "request"
WRITE_PAYLOAD = "write payload"

_GREETING = Struct(">8s8sH")
_CLIENT_FLAGS = Struct(">L")
_OPTION = Struct(">LL")
_OPTION_REPLY = Struct(">QLLL")
_EXPORT_NAME_REPLY = Struct(">QH")
_REQUEST = Struct(">LHHQQL")
_REQUEST_BYTES = _REQUEST.size

COMMAND_NAMES = ("read", "write", "disconnect", "flush", "trim", "cache", "write zeroes", "block status")

_VALID_FLAGS = {
    nbd.CMD_WRITE_ZEROES: nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO,
    nbd.CMD_BLOCK_STATUS: nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_REQ_ONE,
}
_WRITING = frozenset((nbd.CMD_WRITE, nbd.CMD_WRITE_ZEROES, nbd.CMD_TRIM))
_CARRYING = frozenset((nbd.CMD_READ, nbd.CMD_WRITE, nbd.CMD_CACHE))


class ServerConnection(Connection):
    """Events: StartTls, ExportOpened, Request, ConnectionEnded. The greeting is in the output from the start.

    `find_export(name)` -> ExportInfo or None and `list_exports()` are called while an option is answered.
    `tls`: nothing is served without TLS.
    """

    __slots__ = (
        "_find_export",
        "_list_exports",
        "_meta",
        "_option",
        "_unread",
        "_write",
        "contexts",
        "export",
        "fixed",
        "no_zeroes",
        "policy",
        "structured",
        "tls",
        "tls_is_on",
    )

    MOVES: ClassVar[dict[str, tuple[str, frozenset[str]]]] = {
        CLIENT_FLAGS: ("_take_client_flags", frozenset((OPTION_MAGIC, CLOSED))),
        OPTION_MAGIC: ("_take_option_magic", frozenset((OPTION_HEADER, CLOSED))),
        OPTION_HEADER: ("_take_option_header", frozenset((OPTION_PAYLOAD, TLS_HANDSHAKE, CLOSED))),
        OPTION_PAYLOAD: ("_take_option_payload", frozenset((OPTION_MAGIC, REQUEST, CLOSED))),
        TLS_HANDSHAKE: ("_take_in_handshake", frozenset((OPTION_MAGIC, CLOSED))),
        REQUEST: ("_take_request", frozenset((WRITE_PAYLOAD, CLOSED))),
        WRITE_PAYLOAD: ("_take_write_payload", frozenset((REQUEST, CLOSED))),
        CLOSED: ("", frozenset()),
    }

    def __init__(
        self,
        find_export: Exports,
        list_exports: ListExports,
        policy: ServerPolicy | None = None,
        tls: bool = False,
    ) -> None:
        super().__init__(CLIENT_FLAGS, 4)
        self.policy = policy or _DEFAULT_POLICY
        self._find_export = find_export
        self._list_exports = list_exports
        self.fixed = self.no_zeroes = self.structured = False
        self.tls, self.tls_is_on = tls, False
        self.export: ExportInfo | None = None
        self.contexts: dict[str, int] = {}
        self._meta: tuple[ExportInfo, dict[str, int]] | None = None  # the last SET_META_CONTEXT
        self._option = (0, 0)  # code and length of the option that is coming
        self._unread = 0  # bytes of the last option that QEMU left lying in the stream
        self._write: Request | None = None
        self._output.append(
            _GREETING.pack(nbd.INIT_MAGIC, nbd.OPTION_MAGIC, nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES)
        )

    def close(self, reason: str = "") -> None:
        """The owner ends it (export removed, server stopped). Nothing is said to the client."""
        if self.state != CLOSED:
            self._end(reason)
            self._events.clear()

    def tls_started(self) -> None:
        """The TLS handshake is over: what is received and sent now goes through it."""
        self.tls_is_on = True
        self._enter(OPTION_MAGIC, 8)

    # -- handshake

    def _take_client_flags(self, data: Payload, position: int, _end: int) -> int:
        (flags,) = _CLIENT_FLAGS.unpack_from(data, position)
        self.fixed = bool(flags & nbd.FLAG_FIXED_NEWSTYLE)
        self.no_zeroes = bool(flags & nbd.FLAG_NO_ZEROES)
        unknown = flags & ~(nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES)
        if unknown:
            self._fail("client-flags", flags=unknown)
        else:
            self._enter(OPTION_MAGIC, 8)
        return position + 4

    def _take_option_magic(self, data: Payload, position: int, _end: int) -> int:
        if data[position : position + 8] != nbd.OPTION_MAGIC:
            self._fail("bad-magic")
        else:
            self._enter(OPTION_HEADER, 8)
        return position + 8

    def _take_option_header(self, data: Payload, position: int, end: int) -> int:
        code, length = self._option = _OPTION.unpack_from(data, position)
        policy = self.policy
        if self._unread:
            # nbd/server.c:1195, 7.2: any client can end the server with a metadata option that goes on.
            self._end(self.text("unread-option"), aborts=True)
        elif length > policy.max_option_bytes:
            self._fail("too-long", length=length, limit=policy.max_option_bytes)
        elif self.tls and not self.tls_is_on:
            return self._before_tls(data, position + 8, end)
        elif code == nbd.OPT_EXPORT_NAME and length > policy.max_string_bytes:
            self._fail("name-too-long")
        elif code != nbd.OPT_EXPORT_NAME and not self.fixed:
            self._fail("unsupported-option", code=code, option=OPTION_NAMES.get(code, "<unknown>"))
        elif code == nbd.OPT_ABORT:
            self.option_reply(nbd.REP_ACK)
            self._end("")
        else:
            self._enter(OPTION_PAYLOAD, length)
        return position + 8

    def _before_tls(self, data: Payload, position: int, end: int) -> int:
        """An option to a server that wants TLS first (nbd/server.c:1206, 7.2)."""
        code, length = self._option
        if not self.fixed:
            self._fail("unsupported-before-tls", code=code)
        elif code == nbd.OPT_EXPORT_NAME:
            self._fail("before-tls", code=code)
        elif code != nbd.OPT_STARTTLS or length:
            self._enter(OPTION_PAYLOAD, length)
        else:
            self.option_reply(nbd.REP_ACK)
            self._start_tls(bytes(data[position:end]))
            return end
        return position

    def _refuse_before_tls(self, code: int) -> None:
        if code == nbd.OPT_STARTTLS:
            text = self.text("option-length", option=OPTION_NAMES[code])
            self.option_reply(nbd.REP_ERR_INVALID, text.encode())
            self._end(text)
            return
        self.option_reply(nbd.REP_ERR_TLS_REQD, self.text("before-tls", code=code).encode())
        if code == nbd.OPT_ABORT:
            self._end("")
        else:
            self._enter(OPTION_MAGIC, 8)

    def _take_option_payload(self, data: Payload, position: int, _end: int) -> int:
        code, length = self._option
        payload = bytes(data[position : position + length])
        if self.tls and not self.tls_is_on:
            self._refuse_before_tls(code)
            return position + length
        if code == nbd.OPT_EXPORT_NAME:
            self._open_by_name(payload)
            return position + length
        taken = length
        try:
            taken, opened = answer_option(self, code, payload)
        except OptionRefusedError as refused:
            self.option_reply(refused.error, refused.text)
            opened = None
        if opened is not None:
            self._open(opened)
        else:
            self._unread = length - taken
            self._enter(OPTION_MAGIC, 8)
        return position + taken

    def option_reply(self, kind: int, payload: bytes = b"") -> None:
        """Answer the current option with REP_* `kind`."""
        self._output.append(
            _OPTION_REPLY.pack(nbd.OPTION_REPLY_MAGIC, self._option[0], kind, len(payload)) + payload
        )

    def text(self, key: str, **values: Any) -> str:
        return self.policy.texts[key].format(**values)

    def _open_by_name(self, payload: bytes) -> None:
        # C strings: a name ends at its first zero byte.
        name = payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        export = self._find_export(name)
        if export is None:
            self._fail("export-not-found")
            return
        self._output.append(_EXPORT_NAME_REPLY.pack(export.size, self.flags_of(export)))
        if not self.no_zeroes:
            self._output.append(bytes(124))
        self._open(export)

    def flags_of(self, export: ExportInfo) -> int:
        return export.flags | nbd.FLAG_SEND_DF if self.structured else export.flags

    def find_export(self, name: bytes) -> ExportInfo | None:
        return self._find_export(name.decode("utf-8", "surrogateescape"))

    def list_exports(self) -> Iterable[ExportInfo]:
        return self._list_exports()

    def remember_contexts(self, export: ExportInfo | None, contexts: dict[str, int]) -> None:
        self._meta = None if export is None else (export, contexts)

    def _open(self, export: ExportInfo) -> None:
        self.export = export
        if self._meta is not None:
            chosen_for, contexts = self._meta
            if chosen_for.name == export.name and chosen_for.export is export.export:
                self.contexts = contexts
        self._enter(REQUEST, _REQUEST_BYTES)
        self._events.append(ExportOpened(export, self.contexts))

    def _fail(self, key: str, **values: Any) -> None:
        self._end(self.text(key, **values))

    # -- requests

    def _take_request(self, data: Payload, position: int, end: int) -> int:
        magic, flags, kind, cookie, offset, length = _REQUEST.unpack_from(data, position)
        position += _REQUEST_BYTES
        request = Request(kind, flags, cookie, offset, length)
        if magic != nbd.REQUEST_MAGIC:
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
        self._enter(REQUEST, _REQUEST_BYTES)
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


_DEFAULT_POLICY = ServerPolicy()
