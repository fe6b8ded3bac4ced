"""The options a client sends, and the meaning of the replies (NBD protocol, "Option types", "Option
reply types").
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.messages import OptionAnswered, ProtocolError, Ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_U16 = Struct(">H")
_U32 = Struct(">L")
_INFO_EXPORT = Struct(">HQH")
_INFO_BLOCK_SIZE = Struct(">HLLL")


class Option:
    """An option to send. `queries` are the metadata contexts that it asks for."""

    __slots__ = ("code", "payload", "queries")

    def __init__(self, code: int, payload: bytes = b"", queries: Sequence[str] = ()) -> None:
        self.code = code
        self.payload = payload
        self.queries = queries


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    return _U32.pack(len(encoded)) + encoded


def open_options(
    name: str,
    contexts: Sequence[str] = (),
    structured: bool = True,
    tls: bool = False,
    extended: bool = False,
) -> list[Option]:
    """TLS, extended headers, structured replies, metadata contexts, GO with block sizes."""
    options = [Option(nbd.OPT_STARTTLS)] if tls else []
    if extended:
        options.append(Option(nbd.OPT_EXTENDED_HEADERS))
    if structured:
        options.append(Option(nbd.OPT_STRUCTURED_REPLY))
    if structured and contexts:
        options.append(context_option(nbd.OPT_SET_META_CONTEXT, name, contexts))
    options.append(Option(nbd.OPT_GO, _text(name) + b"\0\1" + _U16.pack(nbd.INFO_BLOCK_SIZE)))
    return options


def context_option(code: int, name: str, queries: Sequence[str]) -> Option:
    """LIST_META_CONTEXT or SET_META_CONTEXT."""
    return Option(code, _text(name) + _U32.pack(len(queries)) + b"".join(map(_text, queries)), tuple(queries))


def take_reply(option: Option, answer: OptionAnswered, ready: Ready, kind: int, payload: bytes) -> bool:
    """Add one reply to `answer` and `ready`; whether it was the final one. Raises ProtocolError."""
    if kind & nbd.REP_ERROR_BIT:
        answer.error = kind
        answer.text = payload.decode("utf-8", "replace")
        return True
    if kind == nbd.REP_ACK:
        if payload:
            raise ProtocolError(f"expected NBD_REP_ACK without payload, got {len(payload)} bytes")
        if option.code == nbd.OPT_GO and ready.size < 0:
            raise ProtocolError("expected NBD_INFO_EXPORT before NBD_REP_ACK to NBD_OPT_GO")
        return True
    take = _TAKERS.get(kind)
    if take is None or option.code not in _FITTING[kind]:
        raise ProtocolError(
            f"option {option.code}: expected its replies or NBD_REP_ACK, got reply type {kind}"
        )
    take(option, answer, ready, payload)
    return False


def _take_server(_option: Option, answer: OptionAnswered, _ready: Ready, payload: bytes) -> None:
    length = _U32.unpack_from(payload)[0] if len(payload) >= 4 else -1
    if not 0 <= length <= len(payload) - 4:
        raise ProtocolError(
            f"NBD_REP_SERVER of {len(payload)} bytes: expected a name inside it, got length {length}"
        )
    name, description = payload[4 : 4 + length], payload[4 + length :]
    answer.names.append((name.decode("utf-8", "surrogateescape"), description.decode("utf-8", "replace")))


def _take_context(option: Option, answer: OptionAnswered, ready: Ready, payload: bytes) -> None:
    if len(payload) < 5:
        raise ProtocolError(f"NBD_REP_META_CONTEXT: expected an id and a name, got {len(payload)} bytes")
    context_id = _U32.unpack_from(payload)[0]
    name = payload[4:].decode("utf-8", "surrogateescape")
    if option.code == nbd.OPT_SET_META_CONTEXT:
        if not any(
            name == query or (query.endswith(":") and name.startswith(query)) for query in option.queries
        ):
            raise ProtocolError(f"NBD_REP_META_CONTEXT: expected one of {list(option.queries)}, got {name!r}")
        if name in answer.contexts or context_id in answer.contexts.values():
            raise ProtocolError(f"NBD_REP_META_CONTEXT: {name!r} or its id {context_id} came twice")
        ready.contexts[name] = context_id
    answer.contexts[name] = context_id


def _take_info(_option: Option, _answer: OptionAnswered, ready: Ready, payload: bytes) -> None:
    kind = _U16.unpack_from(payload)[0] if len(payload) >= 2 else -1
    expected = {nbd.INFO_EXPORT: _INFO_EXPORT.size, nbd.INFO_BLOCK_SIZE: _INFO_BLOCK_SIZE.size}.get(
        kind, len(payload)
    )
    if kind < 0 or len(payload) != expected:
        raise ProtocolError(
            f"NBD_REP_INFO of type {kind}: expected {max(expected, 2)} bytes, got {len(payload)}"
        )
    if kind == nbd.INFO_EXPORT:
        _, ready.size, ready.flags = _INFO_EXPORT.unpack(payload)
    elif kind == nbd.INFO_BLOCK_SIZE:
        _, minimum, preferred, maximum = _INFO_BLOCK_SIZE.unpack(payload)
        if not minimum or minimum & minimum - 1 or not minimum <= preferred or not minimum <= maximum:
            raise ProtocolError(
                f"expected block sizes that make sense, got {minimum}, {preferred}, {maximum}"
            )
        ready.block_sizes = (minimum, preferred, maximum)
    elif kind == nbd.INFO_NAME:
        ready.name = payload[2:].decode("utf-8", "surrogateescape")
    elif kind == nbd.INFO_DESCRIPTION:
        ready.description = payload[2:].decode("utf-8", "replace")


_TAKERS: dict[int, Callable[[Option, OptionAnswered, Ready, bytes], None]] = {
    nbd.REP_SERVER: _take_server,
    nbd.REP_INFO: _take_info,
    nbd.REP_META_CONTEXT: _take_context,
}
_FITTING = {
    nbd.REP_SERVER: (nbd.OPT_LIST,),
    nbd.REP_INFO: (nbd.OPT_INFO, nbd.OPT_GO),
    nbd.REP_META_CONTEXT: (nbd.OPT_LIST_META_CONTEXT, nbd.OPT_SET_META_CONTEXT),
}
