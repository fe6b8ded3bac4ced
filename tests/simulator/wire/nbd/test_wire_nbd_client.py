# ruff: noqa: E501  tables of bytes read better in long lines
"""What our NBD client makes of servers that break the protocol, from bytes written out by hand."""

import struct

import pytest

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import ClientConnection, list_exports, open_export
from simulator.wire.nbd.client_options import Option, context_option
from simulator.wire.nbd.connection import CLOSED
from simulator.wire.nbd.messages import ConnectionEnded, OptionAnswered, ProtocolError, Ready, Reply

GREETING = b"NBDMAGICIHAVEOPT\0\3"
ACK, INFO, SERVER, CONTEXT = nbd.REP_ACK, nbd.REP_INFO, nbd.REP_SERVER, nbd.REP_META_CONTEXT
EXPORT = struct.pack(">HQH", 0, 10_000, 1)
BASE = b"\0\0\0\0base:allocation"


def answer(option, kind, payload=b""):
    return struct.pack(">QLLL", 0x3E889045565A9, option, kind, len(payload)) + payload


STRUCTURED = answer(8, ACK)
WITH_CONTEXT = answer(10, CONTEXT, BASE) + answer(10, ACK)
GO = answer(7, INFO, EXPORT) + answer(7, ACK)


def simple(error=0, cookie=1):
    return struct.pack(">LLQ", nbd.SIMPLE_REPLY_MAGIC, error, cookie)


def chunk(kind, payload=b"", done=1, cookie=1):
    return struct.pack(">LHHQL", nbd.STRUCTURED_REPLY_MAGIC, done, kind, cookie, len(payload)) + payload


def bytes_at(offset, payload):
    return struct.pack(">Q", offset) + payload


def hole(offset, length):
    return struct.pack(">QL", offset, length)


def failure(error, text=b"", *more):
    return struct.pack(">LH", error, len(text)) + text + b"".join(more)


def extents(context_id, *pairs):
    return struct.pack(">L", context_id) + b"".join(struct.pack(">LL", *pair) for pair in pairs)


def opened(structured=True):
    client = open_export("disk", ["base:allocation"], structured)
    events = client.receive_data(GREETING + (STRUCTURED + WITH_CONTEXT if structured else b"") + GO)
    assert type(events[-1]) is Ready
    return client


BROKEN_HANDSHAKES = {
    "expected the greeting NBDMAGIC": b"HTTP/1.1 400 Bad Request\r\n",
    "expected the greeting NBDMAGIC IHAVEOPT": b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53" + bytes(136),
    "fixed newstyle": b"NBDMAGICIHAVEOPT\0\2",
    "expected option reply magic": GREETING + b"x" * 20,
    "expected a reply to option 8, got one to 7": GREETING + answer(7, ACK),
    "expected NBD_REP_ACK without payload": GREETING + answer(8, ACK, b"x"),
    "option 8: expected its replies": GREETING + answer(8, SERVER, b"\0\0\0\0"),
    "option 10: expected its replies": GREETING + STRUCTURED + answer(10, 77),
    "at most": GREETING + struct.pack(">QLLL", 0x3E889045565A9, 8, ACK, 1 << 31),
    "expected an id and a name": GREETING + STRUCTURED + answer(10, CONTEXT, b"\0\0\0\0"),
    "got 'qemu:zork'": GREETING + STRUCTURED + answer(10, CONTEXT, b"\0\0\0\1qemu:zork"),
    "came twice": GREETING + STRUCTURED + answer(10, CONTEXT, BASE) * 2,
    "NBD_REP_INFO of type 0: expected 12 bytes, got 3": GREETING + STRUCTURED + WITH_CONTEXT + answer(7, INFO, b"\0\0x"),
    "NBD_REP_INFO of type -1": GREETING + STRUCTURED + WITH_CONTEXT + answer(7, INFO, b"\0"),
    "block sizes that make sense": GREETING + STRUCTURED + WITH_CONTEXT + answer(7, INFO, struct.pack(">HLLL", 3, 3, 4096, 4096)),
    "expected NBD_INFO_EXPORT before NBD_REP_ACK": GREETING + STRUCTURED + WITH_CONTEXT + answer(7, ACK),
}  # fmt: skip

BROKEN_REPLIES = {
    "expected a reply magic, got 0x78787878": b"x" * 16,
    "cookie 0x63": chunk(nbd.REPLY_NONE, cookie=99),
    "expected a structured reply to command 0": simple() + b"x" * 100,
    "expected a structured reply": simple(5),
    "expected a chunk within the read of 1000\\+100, got 999": chunk(nbd.REPLY_OFFSET_DATA, bytes_at(999, b"x" * 50)),
    "expected a chunk within the read of 1000\\+100, got 1050": chunk(nbd.REPLY_OFFSET_HOLE, hole(1050, 51)),
    "ends after 0": chunk(nbd.REPLY_NONE),
    "ends after 60": chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1000, b"x" * 60)),
    "holds offset 1000 not at all": chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1010, b"x" * 60)),
    "holds offset 1030 twice": chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1000, b"x" * 60), 0) + chunk(nbd.REPLY_OFFSET_HOLE, hole(1030, 70)),
    "holds offset 1000 twice": chunk(nbd.REPLY_OFFSET_HOLE, hole(1000, 100), 0) * 2 + chunk(nbd.REPLY_NONE),
    "chunk of type 1: expected 9 to 108 bytes, got 109": chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1000, b"x" * 101)),
    "chunk of type 1: expected 9 to 108 bytes, got 8": chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1000, b"")),
    "chunk of type 2: expected 12 to 12": chunk(nbd.REPLY_OFFSET_HOLE, b"x"),
    "chunk of type 0: expected 0 to 0": chunk(nbd.REPLY_NONE, b"x"),
    "answers command 0, got type 0": chunk(nbd.REPLY_NONE, done=0),
    "answers command 0, got type 5": chunk(nbd.REPLY_BLOCK_STATUS, extents(0, (100, 0))),
    "answers command 0, got type 9": chunk(9),
    "expected an errno and 6 bytes, got 0": chunk(nbd.REPLY_ERROR, failure(0)),
    "expected an errno and 9 bytes": chunk(nbd.REPLY_ERROR, failure(5, b"abc")[:-1]),
    "expected an errno and 6 bytes, got 5 and 7": chunk(nbd.REPLY_ERROR, failure(5, b"", b"x")),
    "expected more chunks": chunk(nbd.REPLY_ERROR, failure(5), 0, 2) + simple(0, 2),
}  # fmt: skip

BROKEN_STATUSES = {
    "got context id 1": chunk(nbd.REPLY_BLOCK_STATUS, extents(1, (100, 0))),
    "each of .* once": chunk(nbd.REPLY_BLOCK_STATUS, extents(0, (100, 0)), 0) * 2,
    "extents of 8 bytes": chunk(nbd.REPLY_BLOCK_STATUS, extents(0, (100, 0)) + b"x"),
    "expected extents for 100 bytes": chunk(nbd.REPLY_BLOCK_STATUS, extents(0, (100, 0), (1, 0))),
    "expected extents for 100 bytes, got": chunk(nbd.REPLY_BLOCK_STATUS, extents(0, (0, 0))),
    "expected extents of .*, got ids": chunk(nbd.REPLY_NONE),
    "expected a structured reply to command 7": simple(),
}


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("expected", BROKEN_HANDSHAKES)
def test_broken_handshakes(expected, chunk_bytes):
    client = open_export("disk", ["base:allocation"])
    feed_broken(client, BROKEN_HANDSHAKES[expected], expected, chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("expected", BROKEN_REPLIES)
def test_broken_replies(expected, chunk_bytes):
    client = opened()
    client.request(nbd.CMD_READ, 1000, 100)
    client.request(nbd.CMD_FLUSH)
    feed_broken(client, BROKEN_REPLIES[expected], expected, chunk_bytes)


@pytest.mark.parametrize("expected", BROKEN_STATUSES)
def test_broken_statuses(expected):
    client = opened()
    client.request(nbd.CMD_BLOCK_STATUS, 0, 100)
    feed_broken(client, BROKEN_STATUSES[expected], expected, 1 << 20)


def test_more_than_one_extent():
    client = opened()
    client.request(nbd.CMD_BLOCK_STATUS, 0, 100, flags=nbd.CMD_FLAG_REQ_ONE)
    feed_broken(client, chunk(nbd.REPLY_BLOCK_STATUS, extents(0, (50, 0), (50, 1))), "one extent", 1 << 20)


def test_a_structured_reply_that_was_not_negotiated():
    client = opened(structured=False)
    client.request(nbd.CMD_READ, 1000, 100)
    feed_broken(client, chunk(nbd.REPLY_NONE) + bytes(4), "structured replies are not negotiated", 1 << 20)


def test_a_broken_name_in_a_listing():
    feed_broken(
        list_exports(),
        GREETING + answer(3, SERVER, b"\0\0\0\5abc"),
        "expected a name inside it, got length 5",
        3,
    )


def feed_broken(client, payload, expected, chunk_bytes):
    def feed():
        for start in range(0, len(payload), chunk_bytes):
            events = client.receive_data(payload[start : start + chunk_bytes])
            assert not [event for event in events if type(event) is Reply]

    with pytest.raises(ProtocolError, match=expected):
        feed()
    assert client.state == CLOSED
    assert client.receive_data(b"x") == []


# -- what the protocol allows


def only_reply(client, payload):
    (reply,) = client.receive_data(payload)
    assert client.in_flight == 0
    return reply


def test_chunks_of_a_read_come_in_any_order():
    client = opened()
    client.request(nbd.CMD_READ, 1000, 100)
    pieces = [
        chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1090, b"c" * 10), 0),
        chunk(nbd.REPLY_OFFSET_HOLE, hole(1050, 40), 0),
        chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1000, b"a" * 50), 0),
        chunk(nbd.REPLY_NONE),
    ]
    assert only_reply(client, b"".join(pieces)).payload == b"a" * 50 + bytes(40) + b"c" * 10


def test_errors_of_a_structured_read():
    client = opened()
    client.request(nbd.CMD_READ, 1000, 100)
    some, late = chunk(nbd.REPLY_OFFSET_DATA, bytes_at(1000, b"a" * 50), 0), struct.pack(">Q", 1050)
    reply = only_reply(client, some + chunk(nbd.REPLY_ERROR_OFFSET, failure(5, b"bad sector", late)))
    assert (reply.error, reply.text, reply.error_offset) == (5, "bad sector", 1050)
    client.request(nbd.CMD_READ, 1000, 100)
    # An error type of the future, told apart by its bit; and two errors, of which the first counts.
    future, second = (
        chunk(0x8042, failure(28, b"new", b"zork"), 0, 2),
        chunk(nbd.REPLY_ERROR, failure(5), 1, 2),
    )
    assert only_reply(client, future + second).error == 28


def test_fallback_to_export_name():
    for greeting, padding in ((GREETING, 0), (b"NBDMAGICIHAVEOPT\0\1", 124)):
        client = open_export("disk", structured=False, export_name=True)
        unsupported = greeting + answer(7, nbd.REP_ERR_UNSUP, b"what?")
        refusal = client.receive_data(unsupported)[0]
        assert (refusal.error, refusal.text) == (nbd.REP_ERR_UNSUP, "what?")
        sent = b"".join(client.take_output())
        assert sent.endswith(b"IHAVEOPT\0\0\0\1\0\0\0\4disk")
        assert client.receive_data(struct.pack(">QH", 123, 1) + bytes(padding))[0].size == 123
    client = open_export("disk", structured=False)
    assert type(client.receive_data(unsupported)[-1]) is ConnectionEnded


def test_a_server_without_structured_replies():
    client = open_export("disk", ["base:allocation"])
    events = client.receive_data(GREETING + answer(8, nbd.REP_ERR_UNSUP) + GO)  # SET_META_CONTEXT is left out
    assert [event.option for event in events if type(event) is OptionAnswered] == [8, 7]
    assert (events[-1].structured, events[-1].contexts) == (False, {})
    client.request(nbd.CMD_READ, 0, 3)
    assert only_reply(client, simple() + b"abc").payload == b"abc"
    client.request(nbd.CMD_READ, 0, 3)
    assert only_reply(client, simple(5, 2)).error == 5


def test_end_of_file():
    client = opened()
    (ended,) = client.receive_eof()
    assert ended.reason == ""
    client = opened()
    client.request(nbd.CMD_READ, 0, 3)
    (ended,) = client.receive_eof()
    assert ended.reason == "the server closed the connection; expected reply, 1 requests open"


# -- the table

CONVERSATIONS = [
    (lambda: open_export("disk", ["base:allocation"]), GREETING + STRUCTURED + WITH_CONTEXT + GO),
    (lambda: open_export("disk", export_name=True, structured=False), GREETING + answer(7, nbd.REP_ERR_UNSUP) + bytes(10)),
    (lambda: ClientConnection([Option(nbd.OPT_EXPORT_NAME, b"disk")]), GREETING + bytes(10)),
    (lambda: ClientConnection([context_option(nbd.OPT_LIST_META_CONTEXT, "disk", [])]), GREETING + answer(9, ACK)),
    (lambda: ClientConnection([]), GREETING),
]  # fmt: skip
REPLIES = [simple(0, 2), simple() + b"abc", chunk(nbd.REPLY_OFFSET_DATA, bytes_at(0, b"abc"))]


def test_the_client_makes_exactly_the_moves_of_its_table():
    moves = set()

    def record(client):
        class Recording(type(client)):
            __slots__ = ()

            def _enter(self, state, need):
                moves.add((self.state, state))
                super()._enter(state, need)

        client.__class__ = Recording
        return client

    for make, conversation in CONVERSATIONS:
        for length in range(len(conversation) + 1):
            client = record(make())
            client.receive_data(conversation[:length])
            client.receive_eof()
    for go_on in (True, False):
        client = record(open_export("disk", tls=True))
        client.receive_data(GREETING + answer(nbd.OPT_STARTTLS, ACK))
        if go_on:
            client.tls_started()
        client.receive_eof()
    for structured in (True, False):
        for reply in REPLIES:
            for length in range(len(reply) + 1):
                client = record(opened(structured))
                client.request(nbd.CMD_READ, 0, 3)
                client.request(nbd.CMD_FLUSH)
                try:
                    client.receive_data(reply[:length])
                except ProtocolError:
                    continue
                client.receive_eof()
    assert moves == {
        (state, target) for state, (_, targets) in ClientConnection.MOVES.items() for target in targets
    }
