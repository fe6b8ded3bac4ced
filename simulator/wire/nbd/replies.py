"""The bytes of the server's replies (NBD protocol, "Simple reply message", "Structured reply chunk",
"Extended reply chunk"). `extended`: chunks have extended headers.
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.wire.nbd.messages import Payload, Request

_SIMPLE = Struct(">LLQ")
_CHUNK = Struct(">LHHQL")
_EXTENDED = Struct(">LHHQQQ")
_OFFSET = Struct(">Q")
_HOLE = Struct(">QL")
_ERROR = Struct(">LH")
_CONTEXT = Struct(">L")
_EXTENDED_CONTEXT = Struct(">LL")
_MAX_EXTENT_BYTES = (1 << 32) - 1
_MAX_EXTENDED_EXTENT_BYTES = (1 << 64) - 1


def simple(cookie: int, errno: int = 0) -> bytes:
    return _SIMPLE.pack(nbd.SIMPLE_REPLY_MAGIC, errno, cookie)


def _chunk(
    request: Request, extended: bool, done: bool, kind: int, body: bytes, payload_bytes: int = 0
) -> bytes:
    """A chunk up to its payload, which is sent behind it."""
    length = len(body) + payload_bytes
    if extended:
        head = _EXTENDED.pack(nbd.EXTENDED_REPLY_MAGIC, done, kind, request.cookie, request.offset, length)
    else:
        head = _CHUNK.pack(nbd.STRUCTURED_REPLY_MAGIC, done, kind, request.cookie, length)
    return head + body


def nothing(request: Request, extended: bool) -> bytes:
    """The chunk that ends a reply without adding to it."""
    return _chunk(request, extended, True, nbd.REPLY_NONE, b"")


def structured_error(request: Request, extended: bool, errno: int, text: str) -> bytes:
    """The chunk that ends a reply; `errno` as on the wire."""
    encoded = text.encode()
    return _chunk(request, extended, True, nbd.REPLY_ERROR, _ERROR.pack(errno, len(encoded)) + encoded)


def whole_read(
    request: Request, pieces: Iterable[tuple[int, Payload | None]], structured: bool, extended: bool
) -> list[Payload]:
    """A read in one: simple, or structured as one chunk (DF), or as none for no bytes."""
    if not structured:
        head = simple(request.cookie)
    elif request.length:
        offset = _OFFSET.pack(request.offset)
        head = _chunk(request, extended, True, nbd.REPLY_OFFSET_DATA, offset, request.length)
    else:
        head = nothing(request, extended)
    return [head, *(bytes(length) if piece is None else piece for length, piece in pieces if length)]


def sparse_read(
    request: Request,
    pieces: Iterable[tuple[int, Payload | None]],
    extended: bool,
    complete: bool = True,
) -> list[Payload]:
    """A read as a chunk for each piece, the last of them final if the read is `complete`."""
    offset, end = request.offset, request.offset + request.length
    buffers: list[Payload] = []
    for length, piece in pieces:
        done = offset + length == end
        if piece is None:
            body = _HOLE.pack(offset, length)
            buffers.append(_chunk(request, extended, done, nbd.REPLY_OFFSET_HOLE, body))
        else:
            body = _OFFSET.pack(offset)
            buffers.append(_chunk(request, extended, done, nbd.REPLY_OFFSET_DATA, body, length))
            buffers.append(piece)
        offset += length
    if (offset == end) != complete:
        raise AssertionError(f"read of {request.length} bytes answered with {offset - request.offset}")
    return buffers


def block_status(
    request: Request,
    extended: bool,
    context_id: int,
    extents: Iterable[tuple[int, int]],
    limit: int,
    done: bool,
) -> bytes:
    """The chunk of one context, with at most `limit` extents (length, flags)."""
    if not extended:
        flat = _joined(extents, limit, _MAX_EXTENT_BYTES)
        body = _CONTEXT.pack(context_id) + Struct(f">{len(flat)}L").pack(*flat)
        return _chunk(request, False, done, nbd.REPLY_BLOCK_STATUS, body)
    flat = _joined(extents, limit, _MAX_EXTENDED_EXTENT_BYTES)
    body = _EXTENDED_CONTEXT.pack(context_id, len(flat) // 2) + Struct(f">{len(flat)}Q").pack(*flat)
    return _chunk(request, True, done, nbd.REPLY_BLOCK_STATUS_EXT, body)


def _joined(extents: Iterable[tuple[int, int]], limit: int, longest: int) -> list[int]:
    """length, flags, length, flags... with neighbours of equal flags as one.

    Source: nbd/server.c:nbd_extent_array_add, 7.2.
    """
    flat: list[int] = []
    for length, flags in extents:
        if not length:
            continue
        if flat and flat[-1] == flags and flat[-2] + length <= longest:
            flat[-2] += length
        elif len(flat) == 2 * limit:
            break
        else:
            flat += (length, flags)
    return flat
