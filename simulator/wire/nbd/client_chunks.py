"""What chunks of a structured reply mean to the client (NBD protocol, "Structured reply types")."""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.messages import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.wire.nbd.messages import Ready, Reply

MAX_REPLY_BYTES = 64 << 20  # of an option reply or a chunk; nothing sane comes near

_OFFSET = Struct(">Q")
_ERROR = Struct(">LH")
_MAX_ERROR_BYTES = _ERROR.size + 4096
# Of a context: its id, and with extended headers how many extents follow. Of an extent: length, flags.
_COMPACT = (Struct(">L"), Struct(">LL"))
_EXTENDED = (Struct(">LL"), Struct(">QQ"))

# How many bytes of payload a chunk of a type may have.
CHUNK_LIMITS = {
    nbd.REPLY_NONE: (0, 0),
    nbd.REPLY_OFFSET_DATA: (9, 0),  # the upper limit is the request's
    nbd.REPLY_OFFSET_HOLE: (12, 12),
    nbd.REPLY_BLOCK_STATUS: (12, MAX_REPLY_BYTES),
    nbd.REPLY_BLOCK_STATUS_EXT: (24, MAX_REPLY_BYTES),
    nbd.REPLY_ERROR: (6, _MAX_ERROR_BYTES),
    nbd.REPLY_ERROR_OFFSET: (14, _MAX_ERROR_BYTES + 8),
}


def status_kind(ready: Ready) -> int:
    """The type of chunk that answers a block status."""
    return nbd.REPLY_BLOCK_STATUS_EXT if ready.extended else nbd.REPLY_BLOCK_STATUS


def take_extents(ready: Ready, reply: Reply, payload: memoryview) -> None:
    """Raises ProtocolError."""
    head, layout = _EXTENDED if ready.extended else _COMPACT
    context_id, *counts = head.unpack_from(payload)
    if context_id not in ready.contexts.values() or context_id in reply.extents:
        raise ProtocolError(f"expected each of {ready.contexts} once, got context id {context_id}")
    count, rest = divmod(len(payload) - head.size, layout.size)
    if rest or counts not in ([], [count]):
        announced = f", of which {counts[0]} are announced" if counts else ""
        raise ProtocolError(
            f"expected extents of {layout.size} bytes in a block status{announced}, "
            f"got {len(payload) - head.size} bytes"
        )
    extents = list(layout.iter_unpack(payload[head.size :]))
    described = sum(length for length, _ in extents)
    if not all(length for length, _ in extents) or described - extents[-1][0] >= reply.request.length:
        raise ProtocolError(f"expected extents for {reply.request.length} bytes, got {extents[:4]}...")
    if reply.request.flags & nbd.CMD_FLAG_REQ_ONE and len(extents) > 1:
        raise ProtocolError(f"expected one extent (REQ_ONE), got {len(extents)}")
    reply.extents[context_id] = extents


def take_error(reply: Reply, kind: int, payload: bytes) -> None:
    """The first of a reply counts. Raises ProtocolError."""
    error, text_length = _ERROR.unpack_from(payload)
    text_end = _ERROR.size + text_length
    expected = text_end + 8 if kind == nbd.REPLY_ERROR_OFFSET else text_end
    if not error or len(payload) < expected or (kind in CHUNK_LIMITS and len(payload) != expected):
        raise ProtocolError(
            f"error chunk: expected an errno and {expected} bytes, got {error} and {len(payload)} bytes"
        )
    if not reply.error:
        reply.error = error
        reply.text = payload[_ERROR.size : text_end].decode("utf-8", "replace")
        if kind == nbd.REPLY_ERROR_OFFSET:
            (reply.error_offset,) = _OFFSET.unpack_from(payload, text_end)
