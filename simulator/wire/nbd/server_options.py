"""QEMU's answers to the options of the handshake (nbd/server.c, 7.2). EXPORT_NAME and ABORT are in
server.py.
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from simulator.wire.nbd.messages import ExportInfo
    from simulator.wire.nbd.server_handshake import Handshake

    Read = TypeVar("Read")
    Reading = Generator[int, bytes | None, Read]

OPTION_NAMES = {
    nbd.OPT_EXPORT_NAME: "export name",
    nbd.OPT_ABORT: "abort",
    nbd.OPT_LIST: "list",
    nbd.OPT_STARTTLS: "starttls",
    nbd.OPT_INFO: "info",
    nbd.OPT_GO: "go",
    nbd.OPT_STRUCTURED_REPLY: "structured reply",
    nbd.OPT_LIST_META_CONTEXT: "list meta context",
    nbd.OPT_SET_META_CONTEXT: "set meta context",
    nbd.OPT_EXTENDED_HEADERS: "extended headers",
}

_U16 = Struct(">H")
_U32 = Struct(">L")
_INFO_EXPORT = Struct(">HQH")
_INFO_BLOCK_SIZE = Struct(">HLLL")
_SHOWN_NAME_BYTES = 80


class OptionRefusedError(Exception):
    """The whole option is read, and answered with REP_ERR_* `error`."""

    def __init__(self, error: int, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text.encode("utf-8", "surrogateescape")


class Option:
    """An option whose payload is read from front to back, as it comes. `answer` yields how many bytes it
    wants next and is sent them; it returns the export that the client is now in, or None, and raises
    OptionRefusedError. `left`: bytes that nobody has read.
    """

    __slots__ = ("answer", "code", "left", "refused", "server")

    def __init__(self, server: Handshake, code: int, length: int) -> None:
        self.server = server
        self.code = code
        self.left = length
        self.refused: OptionRefusedError | None = None
        self.answer = _answer(self)

    def refuse(self, key: str, error: int = nbd.REP_ERR_INVALID, **values: Any) -> OptionRefusedError:
        option = self.server.option_name(self.code)
        return OptionRefusedError(error, self.server.text(key, option=option, **values))

    def read(self, length: int) -> Reading[bytes]:
        if length > self.left:
            raise self.refuse("inconsistent-lengths")
        self.left -= length
        return ((yield length) or b"") if length else b""

    def read_text(self, length: int) -> Reading[bytes]:
        text = yield from self.read(length)
        if b"\0" in text:
            raise self.refuse("embedded-nul")
        return text

    def read_u16(self) -> Reading[int]:
        number: int = _U16.unpack((yield from self.read(2)))[0]
        return number

    def read_u32(self) -> Reading[int]:
        number: int = _U32.unpack((yield from self.read(4)))[0]
        return number

    def read_name(self) -> Reading[bytes]:
        length = yield from self.read_u32()
        if length > self.server.policy.max_string_bytes:
            raise self.refuse("name-length", length=length)
        return (yield from self.read_text(length))

    def no_such_export(self, name: bytes) -> OptionRefusedError:
        shown = name if len(name) < _SHOWN_NAME_BYTES else name[:_SHOWN_NAME_BYTES] + b"..."
        return self.refuse("no-export", nbd.REP_ERR_UNKNOWN, name=shown.decode("utf-8", "surrogateescape"))


def _answer(option: Option) -> Reading[ExportInfo | None]:
    server, code = option.server, option.code
    if code in _WITHOUT_PAYLOAD and server.knows(code):
        if option.left:
            raise option.refuse("option-length")
        _WITHOUT_PAYLOAD[code](server, option)
        return None
    if code == nbd.OPT_GO or code == nbd.OPT_INFO:
        return (yield from _inform(server, option))
    if code == nbd.OPT_SET_META_CONTEXT or code == nbd.OPT_LIST_META_CONTEXT:
        yield from _choose_contexts(server, option)
        return None
    raise option.refuse("unsupported-option", nbd.REP_ERR_UNSUP, code=code)


def _list(server: Handshake, _option: Option) -> None:
    for export in server.list_exports():
        name = export.name.encode("utf-8", "surrogateescape")
        server.option_reply(nbd.REP_SERVER, _U32.pack(len(name)) + name + (export.description or "").encode())
    server.option_reply(nbd.REP_ACK)


def _start_tls(server: Handshake, option: Option) -> None:
    if server.tls:
        raise option.refuse("tls-twice")
    raise option.refuse("no-tls", nbd.REP_ERR_POLICY)


def _structured(server: Handshake, option: Option) -> None:
    if server.extended:
        raise option.refuse("extended-already", nbd.REP_ERR_EXT_HEADER_REQD)
    if server.structured:
        raise option.refuse("structured-twice")
    server.structured = True
    server.option_reply(nbd.REP_ACK)


def _extended(server: Handshake, option: Option) -> None:
    if server.extended:
        raise option.refuse("extended-already")
    server.structured = server.extended = True
    server.option_reply(nbd.REP_ACK)


_WITHOUT_PAYLOAD: dict[int, Callable[[Handshake, Option], None]] = {
    nbd.OPT_LIST: _list,
    nbd.OPT_STARTTLS: _start_tls,
    nbd.OPT_STRUCTURED_REPLY: _structured,
    nbd.OPT_EXTENDED_HEADERS: _extended,
}


def _inform(server: Handshake, option: Option) -> Reading[ExportInfo | None]:
    """INFO and GO."""
    name = yield from option.read_name()
    wanted = set()
    for _ in range((yield from option.read_u16())):
        wanted.add((yield from option.read_u16()))
    if option.left:
        raise option.refuse("option-length")
    export = server.find_export(name)
    if export is None:
        raise option.no_such_export(name)
    if nbd.INFO_NAME in wanted:
        server.option_reply(nbd.REP_INFO, _U16.pack(nbd.INFO_NAME) + name)
    if export.description is not None:
        server.option_reply(nbd.REP_INFO, _U16.pack(nbd.INFO_DESCRIPTION) + export.description.encode())
    asked_sizes = nbd.INFO_BLOCK_SIZE in wanted
    # A client that did not ask is not expected to keep to the minimum, so GO tells it 1.
    minimum = export.min_block if asked_sizes or option.code == nbd.OPT_INFO else 1
    server.option_reply(
        nbd.REP_INFO,
        _INFO_BLOCK_SIZE.pack(
            nbd.INFO_BLOCK_SIZE, minimum, max(export.preferred_block, minimum), export.max_block
        ),
    )
    flags = server.flags_of(export, informs=option.code == nbd.OPT_INFO)
    server.option_reply(nbd.REP_INFO, _INFO_EXPORT.pack(nbd.INFO_EXPORT, export.size, flags))
    if option.code == nbd.OPT_INFO and not asked_sizes and export.min_block > 1:
        raise option.refuse("block-size-required", nbd.REP_ERR_BLOCK_SIZE_REQD)
    server.option_reply(nbd.REP_ACK)
    return export if option.code == nbd.OPT_GO else None


def _choose_contexts(server: Handshake, option: Option) -> Reading[None]:
    """LIST_META_CONTEXT and SET_META_CONTEXT. QEMU does not look at what follows the last query: it
    takes that for the next option.
    """
    listing = option.code == nbd.OPT_LIST_META_CONTEXT
    if not server.structured and (not listing or server.policy.list_needs_structured):
        raise option.refuse("not-structured")
    if not listing:
        server.remember_contexts(None, {})
    name = yield from option.read_name()
    export = server.find_export(name)
    if export is None:
        raise option.no_such_export(name)
    if not listing:
        server.remember_contexts(export, {})
    query_count = yield from option.read_u32()
    chosen: set[str] = set()
    if listing and not query_count:
        chosen.update(export.contexts)
    for _ in range(query_count):
        chosen.update(_matching(export, (yield from _read_query(option)), listing))
    contexts = {}
    for context, context_id in export.context_ids().items():
        if context in chosen:
            shown_id = 0 if listing else context_id
            server.option_reply(nbd.REP_META_CONTEXT, _U32.pack(shown_id) + context.encode())
            contexts[context] = context_id
    server.option_reply(nbd.REP_ACK)
    if not listing:
        server.remember_contexts(export, contexts)


def _read_query(option: Option) -> Reading[str]:
    length = yield from option.read_u32()
    if length > option.server.policy.max_string_bytes:
        yield from option.read(length)
        return ""
    return (yield from option.read_text(length)).decode("utf-8", "surrogateescape")


_NAMESPACES = ("base:", "qemu:", "qemu:dirty-bitmap:")


def _matching(export: ExportInfo, query: str, listing: bool) -> list[str]:
    """What a query stands for. A namespace alone stands for all of it, in a listing only."""
    if query in _NAMESPACES:
        return [name for name in export.contexts if listing and name.startswith(query)]
    return [query] if query in export.contexts else []
