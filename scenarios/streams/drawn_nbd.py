"""Inputs of an NBD connection: a handshake and requests, whose fields are altered.

The first part is the client's flags. `EXPORTS` are what the server is thought to have.
"""

from __future__ import annotations

import random
from struct import pack

from scenarios.streams.drawn import Input, altered, cut, noise, shuffled
from simulator.wire.nbd import constants as nbd

SIZE = (1 << 20) + 512
EXPORTS = (b"n0", b"n1")
_NAMES = (*EXPORTS, b"", b"zork", b"n0\0", b"n\xff", b"x" * 100, b"x" * 4096, b"x" * 4097)
_CONTEXTS = (
    b"base:allocation", b"base:", b"qemu:", b"qemu:allocation-depth", b"qemu:dirty-bitmap:",
    b"qemu:dirty-bitmap:b0", b"qemu:dirty-bitmap:zork", b"", b"base", b"base:allocatio",
    b"BASE:allocation", b"x-zork:y", b"base:allocation\0", b"x" * 4096, b"x" * 4097,
)  # fmt: skip
_NUMBERS = (
    0, 1, 2, 3, 4, 8, 27, 28, 512, 513, 4096, 4097, 65536, SIZE - 1, SIZE, SIZE + 1, 1 << 24,
    (1 << 25) - 1, 1 << 25, (1 << 25) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
)  # fmt: skip
_MAGICS = (nbd.OPTION_MAGIC, b"IHAVEOPS", bytes(8), b"NBDMAGIC")
# Of a client, reads and queries are the most; disconnecting ends it.
_KINDS = (0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 9, 255, 0xFFFF)
_OTHER_OPTIONS = (
    nbd.OPT_LIST, nbd.OPT_LIST, nbd.OPT_STRUCTURED_REPLY, nbd.OPT_STARTTLS, nbd.OPT_ABORT, 0, 4, 12, 42,
    nbd.OPT_EXTENDED_HEADERS, 0xFFFFFFFF, nbd.OPT_EXPORT_NAME,
)  # fmt: skip
_MOST_PAYLOAD = 70_000


def draw(seed: int) -> Input:
    """The input of that number, 0 or more."""
    rng = random.Random(seed)
    if rng.random() < 0.05:
        return Input(tuple(noise(rng) for _ in range(rng.randint(1, 4))), cut(rng))
    parts = [pack(">L", rng.choice((3, 3, 3, 3, 3, 1, 1, 0, 2, 4, 7, 0x80000003, rng.getrandbits(32))))]
    structured = rng.random() < 0.6
    extended = rng.random() < 0.4
    parts += [option(nbd.OPT_STRUCTURED_REPLY)] * structured
    parts += [option(nbd.OPT_EXTENDED_HEADERS)] * extended
    structured |= extended
    if structured and rng.random() < 0.5:
        parts.append(_context(rng, nbd.OPT_SET_META_CONTEXT, rng.choice(EXPORTS)))
    parts += [_any_option(rng) for _ in range(rng.choice((0, 0, 1, 1, 2, 4)))]
    if rng.random() < 0.7:
        parts.append(_opening(rng))
        parts += [_request(rng, extended) for _ in range(rng.choice((0, 1, 1, 2, 3, 5)))]
    if rng.random() < 0.5:
        spare = [_any_option(rng), _request(rng, extended), noise(rng), option(nbd.OPT_ABORT), pack(">L", 3)]
        parts = parts[:1] + shuffled(rng, parts[1:], spare)
    if rng.random() < 0.1:
        parts = [altered(rng, part) if rng.random() < 0.3 else part for part in parts]
    if rng.random() < 0.1:
        parts = [b"".join(parts)]
    return Input(tuple(parts), cut(rng))


def option(
    code: int, payload: bytes = b"", length: int | None = None, magic: bytes = nbd.OPTION_MAGIC
) -> bytes:
    return magic + pack(">LL", code, len(payload) if length is None else length) + payload


def _option(rng: random.Random, code: int, payload: bytes) -> bytes:
    """Now and then one of its fields is wrong."""
    odd = rng.randrange(24)
    if odd == 0:
        return option(code, payload, magic=rng.choice(_MAGICS))
    if odd == 1:
        return option(code, payload, rng.choice(_NUMBERS))
    if odd == 2:
        return option(code, payload, len(payload) + rng.choice((-1, 1, 4, -4)) & 0xFFFFFFFF)
    if odd == 3:
        payload = altered(rng, payload)
    return option(code, payload)


def _text(rng: random.Random, text: bytes) -> bytes:
    length = len(text)
    if rng.random() < 0.05:
        length = rng.choice((*_NUMBERS, length + 1, max(0, length - 1)))
    return pack(">L", length) + text


def _opening(rng: random.Random) -> bytes:
    name = rng.choice(EXPORTS)
    if rng.random() < 0.3:
        return _option(rng, nbd.OPT_EXPORT_NAME, name)
    return _information(rng, nbd.OPT_GO, name)


def _information(rng: random.Random, code: int, name: bytes) -> bytes:
    wanted = [rng.choice((0, 1, 2, 3, 3, 4, 0xFFFF)) for _ in range(rng.choice((0, 0, 1, 2, 5)))]
    count = len(wanted) if rng.random() < 0.95 else rng.choice((0, 1, 3, 0xFFFF))
    return _option(
        rng, code, _text(rng, name) + pack(">H", count) + b"".join(pack(">H", each) for each in wanted)
    )


def _context(rng: random.Random, code: int, name: bytes) -> bytes:
    queries = [
        rng.choice(_CONTEXTS[:6] if rng.random() < 0.7 else _CONTEXTS)
        for _ in range(rng.choice((0, 1, 1, 2, 4)))
    ]
    count = len(queries) if rng.random() < 0.95 else rng.choice((0, 1, 3, 0xFFFFFFFF))
    payload = _text(rng, name) + pack(">L", count) + b"".join(_text(rng, query) for query in queries)
    return _option(rng, code, payload)


def _any_option(rng: random.Random) -> bytes:
    name = rng.choice(EXPORTS) if rng.random() < 0.6 else rng.choice(_NAMES)
    way = rng.randrange(9)
    if way <= 1:
        return _information(rng, nbd.OPT_INFO, name)
    if way == 2:
        return _context(rng, nbd.OPT_LIST_META_CONTEXT, name)
    if way == 3:
        return _context(rng, nbd.OPT_SET_META_CONTEXT, name)
    if way == 4:
        return _information(rng, nbd.OPT_GO, rng.choice(_NAMES))
    code = rng.choice(_OTHER_OPTIONS)
    return _option(rng, code, b"" if rng.random() < 0.8 else rng.choice((name, noise(rng), bytes(4))))


def _request(rng: random.Random, extended: bool) -> bytes:
    """To a server that has been asked for extended headers, whether it knows them or not."""
    magic = nbd.EXTENDED_REQUEST_MAGIC if extended else nbd.REQUEST_MAGIC
    magic = magic if rng.random() < 0.97 else rng.choice((rng.getrandbits(32), nbd.REQUEST_MAGIC))
    kind = rng.choice(_KINDS)
    flags = 0 if rng.random() < 0.7 else rng.choice((1, 2, 4, 8, 16, 32, 1 << 15, 3, 0xFFFF))
    offset = rng.randrange(SIZE) if rng.random() < 0.7 else rng.choice((*_NUMBERS, 1 << 63, (1 << 64) - 1))
    length = rng.randint(0, _MOST_PAYLOAD) if rng.random() < 0.7 else rng.choice(_NUMBERS)
    payload = b""
    if kind == nbd.CMD_WRITE:
        length = min(length, 5000) if rng.random() < 0.8 else length
        payload = bytes(length if length <= _MOST_PAYLOAD else 100)
    elif extended and rng.random() < 0.2:
        flags |= nbd.CMD_FLAG_PAYLOAD_LEN
        payload = _status_payload(rng, length)
        length = len(payload)
    if extended and rng.random() < 0.05:
        length = rng.choice((length + (1 << 32), 1 << 40, 1 << 63, (1 << 64) - 1))
    layout = ">LHHQQQ" if extended else ">LHHQQL"
    return pack(layout, magic, flags, kind, rng.getrandbits(64), offset, length) + payload


def _status_payload(rng: random.Random, length: int) -> bytes:
    """The contexts that a block status is to tell of: of ids that the server gave, mostly."""
    ids = rng.sample((0, 1, 2), rng.choice((1, 1, 2, 3)))
    if rng.random() < 0.3:
        ids = [rng.choice((0, 1, 2, 3, 0xFFFFFFFF)) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
    payload = pack(">Q", length) + b"".join(pack(">L", each) for each in ids)
    return payload if rng.random() < 0.9 else altered(rng, payload)
