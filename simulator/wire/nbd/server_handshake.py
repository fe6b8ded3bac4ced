"""The handshake of an NBD server's end, as QEMU has it (nbd/server.c, 7.2). What it answers to an option
is in server_options.py.
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.connection import CLOSED, TLS_HANDSHAKE, Connection
from simulator.wire.nbd.messages import ExportOpened, ServerPolicy
from simulator.wire.nbd.server_options import OPTION_NAMES, Option, OptionRefusedError

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
OPTION_REST = "rest of a refused option"
REQUEST = "request"

_GREETING = Struct(">8s8sH")
_CLIENT_FLAGS = Struct(">L")
_OPTION = Struct(">LL")
_OPTION_REPLY = Struct(">QLLL")
_EXPORT_NAME_REPLY = Struct(">QH")
DROPPED_AT_ONCE = 4096
REQUEST_BYTES, EXTENDED_REQUEST_BYTES = 28, 32


class Handshake(Connection):
    """Base of ServerConnection: up to the state REQUEST."""

    __slots__ = (
        "_answering",
        "_find_export",
        "_has_asked_contexts",
        "_is_silent",
        "_list_exports",
        "_meta",
        "_option",
        "_unread",
        "contexts",
        "export",
        "extended",
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
        OPTION_HEADER: (
            "_take_option_header",
            frozenset((OPTION_MAGIC, OPTION_PAYLOAD, OPTION_REST, TLS_HANDSHAKE, CLOSED)),
        ),
        OPTION_PAYLOAD: (
            "_take_option_payload",
            frozenset((OPTION_MAGIC, OPTION_PAYLOAD, OPTION_REST, REQUEST, CLOSED)),
        ),
        OPTION_REST: ("_take_option_rest", frozenset((OPTION_MAGIC, OPTION_REST, CLOSED))),
        TLS_HANDSHAKE: ("_take_in_handshake", frozenset((OPTION_MAGIC, CLOSED))),
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
        # Extended headers are structured replies, too.
        self.fixed = self.no_zeroes = self.structured = self.extended = False
        self.tls, self.tls_is_on = tls, False
        self.export: ExportInfo | None = None
        self.contexts: dict[str, int] = {}
        self._is_silent = False
        self._has_asked_contexts = False  # of the export that it is in
        self._meta: tuple[ExportInfo, dict[str, int]] | None = None  # the last SET_META_CONTEXT
        self._option = (0, 0)  # code and length of the option that is coming
        self._answering: Option | None = None
        self._unread = 0  # bytes of the last option that QEMU left lying in the stream
        self._output.append(
            _GREETING.pack(nbd.INIT_MAGIC, nbd.OPTION_MAGIC, nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES)
        )

    def close(self, reason: str = "") -> None:
        """The owner ends it (export removed, server stopped). Nothing more is said to the client."""
        self._is_silent = True
        if self.state != CLOSED:
            self._end(reason)
            self._events.clear()

    def tls_started(self) -> None:
        """The TLS handshake is over: what is received and sent now goes through it."""
        self.tls_is_on = True
        self._enter(OPTION_MAGIC, 8)

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
        elif code == nbd.OPT_EXPORT_NAME and self.extended:
            self._fail("name-after-extended")
        elif code == nbd.OPT_EXPORT_NAME and length > policy.max_string_bytes:
            self._fail("name-too-long")
        elif code != nbd.OPT_EXPORT_NAME and not self.fixed:
            self._fail("unsupported-option", code=code, option=self.option_name(code))
        elif code == nbd.OPT_ABORT:
            self.option_reply(nbd.REP_ACK)
            self._end("")
        elif code == nbd.OPT_EXPORT_NAME:
            self._enter(OPTION_PAYLOAD, length)
        else:
            self._answering = Option(self, code, length)
            self._answer_on(None)
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
            text = self.text("option-length", option=self.option_name(code))
            self.option_reply(nbd.REP_ERR_INVALID, text.encode())
            self._end(text)
            return
        self.option_reply(nbd.REP_ERR_TLS_REQD, self.text("before-tls", code=code).encode())
        if code == nbd.OPT_ABORT:
            self._end("")
        else:
            self._enter(OPTION_MAGIC, 8)

    def _take_option_payload(self, data: Payload, position: int, _end: int) -> int:
        code, _ = self._option
        payload = bytes(data[position : position + self._need])
        if self.tls and not self.tls_is_on:
            self._refuse_before_tls(code)
            return position + len(payload)
        if code == nbd.OPT_EXPORT_NAME:
            self._open_by_name(payload)
            return position + len(payload)
        self._answer_on(payload)
        return position + len(payload)

    def _answer_on(self, payload: bytes | None) -> None:
        """With the bytes of the option that were wanted; None where it begins."""
        option = self._answering
        assert option is not None
        try:
            self._enter(OPTION_PAYLOAD, option.answer.send(payload))
        except StopIteration as answered:
            if answered.value is not None:
                self._open(answered.value)
            else:
                self._unread = option.left
                self._enter(OPTION_MAGIC, 8)
        except OptionRefusedError as refused:
            option.refused = refused
            self._refuse_behind_rest(option, refused)

    def _take_option_rest(self, _data: Payload, position: int, _end: int) -> int:
        option, taken = self._answering, self._need
        assert option is not None
        assert option.refused is not None
        option.left -= taken
        self._refuse_behind_rest(option, option.refused)
        return position + taken

    def _refuse_behind_rest(self, option: Option, refused: OptionRefusedError) -> None:
        """QEMU reads all of an option before it refuses it (nbd/server.c, nbd_opt_vdrop)."""
        if option.left:
            self._enter(OPTION_REST, min(option.left, DROPPED_AT_ONCE))
        else:
            self.option_reply(refused.error, refused.text)
            self._enter(OPTION_MAGIC, 8)

    def option_reply(self, kind: int, payload: bytes = b"") -> None:
        """Answer the current option with REP_* `kind`."""
        self._output.append(
            _OPTION_REPLY.pack(nbd.OPTION_REPLY_MAGIC, self._option[0], kind, len(payload)) + payload
        )

    @property
    def request_bytes(self) -> int:
        return EXTENDED_REQUEST_BYTES if self.extended else REQUEST_BYTES

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

    def knows(self, code: int) -> bool:
        return code in OPTION_NAMES and (code != nbd.OPT_EXTENDED_HEADERS or self.policy.extended_headers)

    def option_name(self, code: int) -> str:
        return OPTION_NAMES[code] if self.knows(code) else "<unknown>"

    def flags_of(self, export: ExportInfo, informs: bool = False) -> int:
        """Of a client that goes there, or (`informs`) asks what it would be told."""
        flags = export.flags | nbd.FLAG_SEND_DF if self.structured else export.flags
        if self.extended and (informs or self._contexts_for(export)):
            flags |= nbd.FLAG_BLOCK_STAT_PAYLOAD
        return flags

    def find_export(self, name: bytes) -> ExportInfo | None:
        return self._find_export(name.decode("utf-8", "surrogateescape"))

    def list_exports(self) -> Iterable[ExportInfo]:
        return self._list_exports()

    def remember_contexts(self, export: ExportInfo | None, contexts: dict[str, int]) -> None:
        self._meta = None if export is None else (export, contexts)

    def _contexts_for(self, export: ExportInfo) -> dict[str, int] | None:
        """None if the client asked last for another export's, or never."""
        if self._meta is None:
            return None
        chosen_for, contexts = self._meta
        return contexts if chosen_for.name == export.name and chosen_for.export is export.export else None

    def _open(self, export: ExportInfo) -> None:
        self.export = export
        contexts = self._contexts_for(export)
        self.contexts, self._has_asked_contexts = contexts or {}, contexts is not None
        self._enter(REQUEST, self.request_bytes)
        self._events.append(ExportOpened(export, self.contexts))

    def _fail(self, key: str, **values: Any) -> None:
        self._end(self.text(key, **values))


_DEFAULT_POLICY = ServerPolicy()
