# ruff: noqa: E501  tables of bytes read better in long lines
"""Extended headers on the wire. What the server is expected to say is what qemu-system-x86_64 10.0 and 11.1 said to the
same bytes (a disk of 10000 bytes instead of 1049088)."""

import struct

import pytest

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import open_export
from simulator.wire.nbd.connection import CLOSED
from simulator.wire.nbd.messages import (
    ConnectionEnded,
    ExportInfo,
    ProtocolError,
    Ready,
    Reply,
    Request,
    ServerPolicy,
)
from simulator.wire.nbd.server import ServerConnection

SIZE = 10_000
CONTEXTS = ("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0")
EXPORT = ExportInfo("d", SIZE, nbd.FLAG_HAS_FLAGS | nbd.FLAG_READ_ONLY, contexts=CONTEXTS)
OTHER = ExportInfo("e", SIZE, nbd.FLAG_HAS_FLAGS)
EXPORTS = {"d": EXPORT, "e": OTHER}
KNOWING = ServerPolicy(extended_headers=True)
FIXED = struct.pack(">L", 3)


def option(code, payload=b""):
    return nbd.OPTION_MAGIC + struct.pack(">LL", code, len(payload)) + payload


def text(name):
    return struct.pack(">L", len(name)) + name


EXTENDED, STRUCTURED = option(nbd.OPT_EXTENDED_HEADERS), option(nbd.OPT_STRUCTURED_REPLY)
GO = option(nbd.OPT_GO, text(b"d") + b"\0\0")


def contexts_of(name, *contexts):
    queries = b"".join(text(context.encode()) for context in contexts)
    return option(nbd.OPT_SET_META_CONTEXT, text(name) + struct.pack(">L", len(contexts)) + queries)


def request(kind, length=0, payload=b"", flags=0, offset=0, magic=0x21E41C71):
    return struct.pack(">LHHQQQ", magic, flags, kind, 7, offset, length) + payload


def carrying(kind, payload):
    return request(kind, len(payload), payload, nbd.CMD_FLAG_PAYLOAD_LEN)


def of_contexts(length, *ids):
    return struct.pack(f">Q{len(ids)}L", length, *ids)


def new_server(*said, policy=KNOWING):
    server = ServerConnection(EXPORTS.get, EXPORTS.values, policy)
    server.receive_data(FIXED + b"".join(said))
    return server


def answers_to(server):
    """(option, kind, payload) of each that was given in the handshake."""
    said, answers = b"".join(server.take_output())[18:], []
    while said:
        _, code, kind, length = struct.unpack_from(">QLLL", said)
        answers.append((code, kind, said[20 : 20 + length]))
        said = said[20 + length :]
    return answers


def export_flags(server):
    (information,) = (
        payload for _, kind, payload in answers_to(server) if kind == nbd.REP_INFO and payload[:2] == b"\0\0"
    )
    return struct.unpack(">HQH", information)[2]


@pytest.mark.parametrize("knows", [True, False])
def test_the_option(knows):
    """Once, without a payload, and structured replies not after it. What 7.2 says to it is what it says to any."""
    policy = KNOWING if knows else ServerPolicy()
    answers = answers_to(
        new_server(option(11, b"x"), STRUCTURED, EXTENDED, EXTENDED, STRUCTURED, policy=policy)
    )
    unknown = (11, nbd.REP_ERR_UNSUP, b"Unsupported option 11 (<unknown>)")
    assert answers == (
        [
            (11, nbd.REP_ERR_INVALID, b"option 'extended headers' has unexpected length"),
            (8, nbd.REP_ACK, b""),
            (11, nbd.REP_ACK, b""),
            (11, nbd.REP_ERR_INVALID, b"extended headers already negotiated"),
            (8, nbd.REP_ERR_EXT_HEADER_REQD, b"extended headers already negotiated"),
        ]
        if knows
        else [
            unknown,
            (8, nbd.REP_ACK, b""),
            unknown,
            unknown,
            (8, nbd.REP_ERR_INVALID, b"structured reply already negotiated"),
        ]
    )


def test_export_name_does_not_go_with_them():
    server = new_server(EXTENDED)
    (ended,) = server.receive_data(option(nbd.OPT_EXPORT_NAME, b"d"))
    assert (type(ended), ended.reason) == (ConnectionEnded, "Extended headers already negotiated")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((EXTENDED, GO), False),
        ((EXTENDED, contexts_of(b"d", CONTEXTS[0]), GO), True),
        ((EXTENDED, contexts_of(b"d", "zork:"), GO), False),
        ((EXTENDED, contexts_of(b"e", CONTEXTS[0]), GO), False),
        ((EXTENDED, option(nbd.OPT_INFO, text(b"d") + b"\0\0")), True),
        ((STRUCTURED, contexts_of(b"d", CONTEXTS[0]), GO), False),
    ],
)  # fmt: skip
def test_who_is_told_that_a_status_may_carry_a_payload(said, told):
    assert export_flags(new_server(*said)) == EXPORT.flags | nbd.FLAG_SEND_DF | (
        told and nbd.FLAG_BLOCK_STAT_PAYLOAD
    )


NOT_VALID, NOT_NEGOTIATED = b"CMD_BLOCK_STATUS payload not valid", b"CMD_BLOCK_STATUS not negotiated"
REFUSALS = [
    (request(nbd.CMD_BLOCK_STATUS), b"need non-zero length"),
    (carrying(nbd.CMD_BLOCK_STATUS, b""), NOT_VALID),
    (carrying(nbd.CMD_BLOCK_STATUS, of_contexts(512)), NOT_VALID),
    (carrying(nbd.CMD_BLOCK_STATUS, of_contexts(512, 3)), NOT_VALID),
    (carrying(nbd.CMD_BLOCK_STATUS, of_contexts(512, 1)), NOT_VALID),  # not negotiated
    (carrying(nbd.CMD_BLOCK_STATUS, of_contexts(512, 0, 0)), NOT_VALID),
    (carrying(nbd.CMD_BLOCK_STATUS, of_contexts(512, 0) + b"x"), NOT_VALID),
    (carrying(nbd.CMD_BLOCK_STATUS, bytes(20_000)), NOT_VALID),
    (carrying(nbd.CMD_BLOCK_STATUS, of_contexts(0, 2)), b"need non-zero length"),
    (carrying(nbd.CMD_BLOCK_STATUS, of_contexts(1 << 40, 2)), b"operation past EOF; From: 0, Len: 1099511627776, Size: 10000"),
    (carrying(nbd.CMD_READ, b"abcd"), b"unsupported flags for command read (got 0x20)"),
    (carrying(9, b"abcd"), b"unsupported flags for command <unknown> (got 0x20)"),
    (carrying(nbd.CMD_WRITE, b"abcd"), b"Export is read-only"),
    (request(nbd.CMD_READ, 1 << 40), b"len (1099511627776) is larger than max len (33554432)"),
    (request(nbd.CMD_READ, 1, offset=SIZE), b"operation past EOF; From: 10000, Len: 1, Size: 10000"),
]  # fmt: skip
ENDS = [
    (request(nbd.CMD_WRITE, 1 << 40), b"len (1099511627776) is larger than max len (33554432)"),
    (request(nbd.CMD_READ, 1 << 26, flags=nbd.CMD_FLAG_PAYLOAD_LEN), b"len (67108864) is larger than max len (33554432)"),
    (request(nbd.CMD_BLOCK_STATUS, 1 << 26, flags=nbd.CMD_FLAG_PAYLOAD_LEN), b"len (67108864) is larger than max len (33554432)"),
    (request(nbd.CMD_FLUSH, magic=nbd.REQUEST_MAGIC), b"invalid magic (got 0x25609513, expected 0x21e41c71)"),
]  # fmt: skip
WORDS = {
    "too-long": "len ({length}) is larger than max len ({limit})",
    "request-magic": "invalid magic (got 0x{magic:x}, expected 0x{expected:x})",
}


@pytest.mark.parametrize(("said", "words"), REFUSALS + ENDS)
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_refusals(said, words, chunk_bytes):
    """The error's chunk has the request's offset in its head; what a client sends with the wrong kind is passed over."""
    server = new_server(
        EXTENDED,
        contexts_of(b"d", CONTEXTS[0], CONTEXTS[2]),
        GO,
        policy=ServerPolicy(extended_headers=True, texts=WORDS),
    )
    server.take_output()
    for start in range(0, len(said), chunk_bytes):
        server.receive_data(said[start : start + chunk_bytes])
    answer = b"".join(server.take_output())
    magic, done, kind, cookie, offset, length = struct.unpack_from(">LHHQQQ", answer)
    assert (magic, done, kind, cookie, length) == (0x6E8A278C, 1, nbd.REPLY_ERROR, 7, 6 + len(words))
    assert offset == struct.unpack_from(">Q", said, 16)[0]
    assert answer[32:] == struct.pack(">LH", nbd.EINVAL, len(words)) + words
    assert (server.state == CLOSED) == ((said, words) in ENDS)
    if server.state != CLOSED:
        (flush,) = server.receive_data(request(nbd.CMD_FLUSH))
        server.reply_done(flush)
        assert server.take_output() == [struct.pack(">LHHQQQ", 0x6E8A278C, 1, nbd.REPLY_NONE, 7, 0, 0)]


def test_a_status_of_some_contexts():
    server = new_server(EXTENDED, contexts_of(b"d", *CONTEXTS), GO)
    server.take_output()
    (asked,) = server.receive_data(carrying(nbd.CMD_BLOCK_STATUS, of_contexts(4096, 2, 0)))
    assert (asked.length, asked.contexts) == (4096, {CONTEXTS[0]: 0, CONTEXTS[2]: 2})
    server.reply_block_status(asked, {0: [(1024, 3), (1024, 3), (2048, 0)], 2: [(1 << 33, 1), (1 << 33, 1)]})
    head = struct.Struct(">LHHQQQLL")
    assert server.take_output() == [
        head.pack(0x6E8A278C, 0, 6, 7, 0, 40, 0, 2) + struct.pack(">QQQQ", 2048, 3, 2048, 0),
        head.pack(0x6E8A278C, 1, 6, 7, 0, 24, 2, 1) + struct.pack(">QQ", 1 << 34, 1),
    ]


@pytest.mark.parametrize("before", [(), (contexts_of(b"e", CONTEXTS[0]),)])
def test_a_status_with_a_payload_ends_a_server_that_was_asked_for_no_contexts_there(before):
    server = new_server(EXTENDED, *before, GO)
    (ended,) = server.receive_data(carrying(nbd.CMD_BLOCK_STATUS, of_contexts(512, 0)))
    assert ended.aborts
    assert "client->contexts.exp == client->exp" in ended.reason


def test_without_contexts_a_status_is_refused_before_its_length_is_looked_at():
    server = new_server(EXTENDED, contexts_of(b"d", "zork:"), GO)
    for said in (
        request(nbd.CMD_BLOCK_STATUS),
        request(nbd.CMD_BLOCK_STATUS, 512),
        carrying(nbd.CMD_BLOCK_STATUS, of_contexts(512)),
    ):
        server.take_output()
        server.receive_data(said)
        assert b"".join(server.take_output()).endswith(NOT_NEGOTIATED)


# -- the client


def opened(policy):
    """Both ends, after the handshake."""
    client, server = (
        open_export("d", CONTEXTS[:1], extended=True),
        ServerConnection(EXPORTS.get, EXPORTS.values, policy),
    )
    events = []
    while moved := b"".join(server.take_output()):
        events += client.receive_data(moved)
        server.receive_data(b"".join(client.take_output()))
    assert type(events[-1]) is Ready
    return client, server


@pytest.mark.parametrize("knows", [True, False])
def test_the_client_takes_structured_replies_where_there_are_no_extended_headers(knows):
    client, server = opened(ServerPolicy(extended_headers=knows))
    assert (client.ready.extended, client.ready.structured, server.extended, server.structured) == (
        knows,
        True,
        knows,
        True,
    )
    for kind, length in ((nbd.CMD_READ, 300), (nbd.CMD_BLOCK_STATUS, 5000), (nbd.CMD_FLUSH, 0)):
        sent = client.request(kind, 1000, length)
        (asked,) = server.receive_data(b"".join(client.take_output()))
        assert type(asked) is Request
        assert (asked.kind, asked.offset, asked.length) == (kind, 1000, length)
        if kind == nbd.CMD_READ:
            server.reply_read(asked, [(100, b"x" * 100), (200, None)])
        elif kind == nbd.CMD_FLUSH:
            server.reply_done(asked)
        else:
            server.reply_block_status(asked, {0: [(3000, 0), (2000, 3)]})
        (reply,) = client.receive_data(b"".join(server.take_output()))
        assert (type(reply), reply.request, reply.error) == (Reply, sent, 0)
        if kind == nbd.CMD_READ:
            assert bytes(reply.payload) == b"x" * 100 + bytes(200)
        elif kind == nbd.CMD_BLOCK_STATUS:
            assert reply.extents == {0: [(3000, 0), (2000, 3)]}


@pytest.mark.parametrize(
    ("kind", "payload", "complaint"),
    [
        (nbd.REPLY_BLOCK_STATUS, struct.pack(">LLL", 0, 512, 0), "answers command 7, got type 5"),
        (nbd.REPLY_BLOCK_STATUS_EXT, struct.pack(">LLQQ", 0, 2, 512, 0), "of which 2 are announced, got 16"),
        (nbd.REPLY_BLOCK_STATUS_EXT, struct.pack(">LLQQ", 1, 1, 512, 0), "got context id 1"),
        (nbd.REPLY_BLOCK_STATUS_EXT, struct.pack(">LLQ", 0, 1, 512), "expected 24 to"),
    ],
)
def test_servers_that_break_the_protocol(kind, payload, complaint):
    client, _ = opened(KNOWING)
    client.request(nbd.CMD_BLOCK_STATUS, 0, 512)
    with pytest.raises(ProtocolError, match=complaint):
        client.receive_data(
            struct.pack(">LHHQQQ", nbd.EXTENDED_REPLY_MAGIC, 1, kind, 1, 0, len(payload)) + payload
        )
