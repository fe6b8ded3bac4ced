"""All that an NBD server sent on one connection, taken apart by its own words alone.

Facts: NBD protocol, "Handshake phase" and "Transmission phase". The content of a simple reply has no length
in it; disks of these exports read as zeroes, and no message begins with one.
"""

from __future__ import annotations

from struct import Struct

from simulator.wire.nbd import constants as nbd

_GREETING = nbd.INIT_MAGIC + nbd.OPTION_MAGIC
_GREETING_BYTES = 18
_OPTION_REPLY = Struct(">QLLL")
_EXPORT_NAME_REPLY_BYTES = 10
_ZEROES_BYTES = 124
_SIMPLE = Struct(">LLQ")
_HEADS = {
    nbd.SIMPLE_REPLY_MAGIC: _SIMPLE,
    nbd.STRUCTURED_REPLY_MAGIC: Struct(">LHHQL"),
    nbd.EXTENDED_REPLY_MAGIC: Struct(">LHHQQQ"),
}
_ERRNOS = frozenset(nbd.ERRNO_NAMES)


class MalformedError(Exception):
    """Not what an NBD server may say; where it begins, and what was expected."""


def messages_of(answer: bytes) -> tuple[list[bytes], list[bytes]]:
    """Messages of the handshake, and replies to requests, in order. Raises MalformedError."""
    if answer[:16] != _GREETING or len(answer) < _GREETING_BYTES:
        raise MalformedError(f"expected the greeting, got {answer[:_GREETING_BYTES]!r}")
    handshake, position, opened = [answer[:_GREETING_BYTES]], _GREETING_BYTES, False
    while position < len(answer) and not opened:
        if answer[position : position + 8] == nbd.OPTION_REPLY_MAGIC.to_bytes(8, "big"):
            end, opened = _option_reply(answer, position)
        else:
            end, opened = _export_name_reply(answer, position), True
        handshake.append(answer[position:end])
        position = end
    replies = []
    while position < len(answer):
        end = _reply(answer, position)
        replies.append(answer[position:end])
        position = end
    return handshake, replies


def _option_reply(answer: bytes, start: int) -> tuple[int, bool]:
    """Where it ends, and whether requests may follow."""
    if len(answer) - start < _OPTION_REPLY.size:
        raise MalformedError(f"at {start}: an option reply is cut off")
    _, option, kind, length = _OPTION_REPLY.unpack_from(answer, start)
    end = start + _OPTION_REPLY.size + length
    payload = answer[start + _OPTION_REPLY.size : end]
    if len(payload) != length:
        raise MalformedError(f"at {start}: an option reply announces {length} bytes, {len(payload)} follow")
    if kind == nbd.REP_ACK and length:
        raise MalformedError(f"at {start}: NBD_REP_ACK has {length} bytes of payload")
    if kind == nbd.REP_SERVER and (length < 4 or int.from_bytes(payload[:4], "big") > length - 4):
        raise MalformedError(f"at {start}: the name in NBD_REP_SERVER is longer than the reply")
    if kind == nbd.REP_META_CONTEXT and length <= 4:
        raise MalformedError(f"at {start}: NBD_REP_META_CONTEXT names no context")
    if kind == nbd.REP_INFO and length < 2:
        raise MalformedError(f"at {start}: NBD_REP_INFO has no type")
    if not (nbd.REP_ACK <= kind <= nbd.REP_META_CONTEXT or kind in nbd.REP_ERROR_NAMES):
        raise MalformedError(f"at {start}: an option reply of type {kind:#x}")
    return end, option == nbd.OPT_GO and kind == nbd.REP_ACK


def _export_name_reply(answer: bytes, start: int) -> int:
    end = start + _EXPORT_NAME_REPLY_BYTES
    if len(answer) < end:
        raise MalformedError(f"at {start}: neither an option reply nor one to NBD_OPT_EXPORT_NAME")
    if answer[end : end + _ZEROES_BYTES] == bytes(_ZEROES_BYTES):
        end += _ZEROES_BYTES
    return end


def _reply(answer: bytes, start: int) -> int:
    """Where it ends."""
    magic = int.from_bytes(answer[start : start + 4], "big")
    head = _HEADS.get(magic)
    if head is None or len(answer) - start < head.size:
        raise MalformedError(f"at {start}: expected a reply, got {answer[start : start + 20]!r}")
    if head is _SIMPLE:
        errno: int = _SIMPLE.unpack_from(answer, start)[1]
        if errno and errno not in _ERRNOS:
            raise MalformedError(f"at {start}: a reply with the error {errno}")
        rest = answer[start + _SIMPLE.size :]
        return len(answer) - len(rest if errno else rest.lstrip(b"\0"))
    _, flags, kind, *_, length = head.unpack_from(answer, start)
    end: int = start + head.size + length
    payload = answer[start + head.size : end]
    if len(payload) != length:
        raise MalformedError(f"at {start}: a chunk announces {length} bytes, {len(payload)} follow")
    if not _is_chunk(kind, flags, payload):
        raise MalformedError(f"at {start}: a chunk of type {kind}, flags {flags} with {length} bytes")
    return end


def _is_chunk(kind: int, flags: int, payload: bytes) -> bool:
    length = len(payload)
    if flags & ~nbd.REPLY_FLAG_DONE:
        return False
    if kind == nbd.REPLY_NONE:
        return length == 0 and flags == nbd.REPLY_FLAG_DONE
    if kind == nbd.REPLY_OFFSET_DATA:
        return length > 8
    if kind == nbd.REPLY_OFFSET_HOLE:
        return length == 12 and payload[8:] != bytes(4)
    if kind == nbd.REPLY_BLOCK_STATUS:
        return length % 8 == 4 and length > 4
    if kind == nbd.REPLY_BLOCK_STATUS_EXT:
        return length > 8 and length == 8 + 16 * int.from_bytes(payload[4:8], "big")
    if kind in (nbd.REPLY_ERROR, nbd.REPLY_ERROR_OFFSET):
        said = int.from_bytes(payload[4:6], "big")
        errno = int.from_bytes(payload[:4], "big")
        return errno in _ERRNOS and length == 6 + said + (8 if kind == nbd.REPLY_ERROR_OFFSET else 0)
    return False
