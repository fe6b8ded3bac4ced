"""The bytes of the server's replies (NBD protocol, "Simple reply message", "Structured reply chunk")."""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.wire.nbd.messages import Payload, Request

_SIMPLE = Struct(">LLQ")
_CHUNK = Struct(">LHHQL")
_DATA = Struct(">LHHQLQ")
_HOLE = Struct(">LHHQLQL")
_ERROR = Struct(">LHHQLLH")
_STATUS = Struct(">LHHQLL")
_MAGIC = nbd.STRUCTURED_REPLY_MAGIC
_MAX_EXTENT_BYTES = (1 << 32) - 1


def simple(cookie: int, errno: int = 0) -> bytes:
    return _SIMPLE.pack(nbd.SIMPLE_REPLY_MAGIC, errno, cookie)


def structured_error(cookie: int, errno: int, text: str) -> bytes:
    """The chunk that ends a reply; `errno` as on the wire."""
    encoded = text.encode()
    return _ERROR.pack(_MAGIC, 1, nbd.REPLY_ERROR, cookie, 6 + len(encoded), errno, len(encoded)) + encoded


def whole_read(
    request: Request, pieces: Iterable[tuple[int, Payload | None]], structured: bool
) -> list[Payload]:
    """A read in one: simple, or structured as one chunk (DF), or as none for no bytes."""
    if not structured:
        head = simple(request.cookie)
    elif request.length:
        length = request.length + 8
        head = _DATA.pack(_MAGIC, 1, nbd.REPLY_OFFSET_DATA, request.cookie, length, request.offset)
    else:
        head = _CHUNK.pack(_MAGIC, 1, nbd.REPLY_NONE, request.cookie, 0)
    return [head, *(bytes(length) if piece is None else piece for length, piece in pieces if length)]


def sparse_read(
    request: Request, pieces: Iterable[tuple[int, Payload | None]], complete: bool = True
) -> list[Payload]:
    """A read as a chunk for each piece, the last of them final if the read is `complete`."""
    cookie, offset, end = request.cookie, request.offset, request.offset + request.length
    buffers: list[Payload] = []
    for length, piece in pieces:
        done = offset + length == end
        if piece is None:
            buffers.append(_HOLE.pack(_MAGIC, done, nbd.REPLY_OFFSET_HOLE, cookie, 12, offset, length))
        else:
            buffers.append(_DATA.pack(_MAGIC, done, nbd.REPLY_OFFSET_DATA, cookie, length + 8, offset))
            buffers.append(piece)
        offset += length
    if (offset == end) != complete:
        raise AssertionError(f"read of {request.length} bytes answered with {offset - request.offset}")
    return buffers


def block_status(
    cookie: int, context_id: int, extents: Iterable[tuple[int, int]], limit: int, done: bool
) -> bytes:
    """The chunk of one context, with at most `limit` extents (length, flags)."""
    flat = _joined(extents, limit)
    head = _STATUS.pack(_MAGIC, done, nbd.REPLY_BLOCK_STATUS, cookie, 4 + 4 * len(flat), context_id)
    return head + Struct(f">{len(flat)}L").pack(*flat)


def _joined(extents: Iterable[tuple[int, int]], limit: int) -> list[int]:
    """length, flags, length, flags... with neighbours of equal flags as one.

    Source: nbd/server.c:nbd_extent_array_add, 7.2.
    """
    flat: list[int] = []
    for length, flags in extents:
        if not length:
            continue
        if flat and flat[-1] == flags and flat[-2] + length <= _MAX_EXTENT_BYTES:
            flat[-2] += length
        elif len(flat) == 2 * limit:
            break
        else:
            flat += (length, flags)
    return flat
