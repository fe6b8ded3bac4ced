# ruff: noqa: E501  tables of bytes read better in long lines
"""Our NBD client and server against each other, in chunks of any size, and their tables of states."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import ClientConnection, list_exports, open_export
from simulator.wire.nbd.client_options import Option, context_option
from simulator.wire.nbd.connection import CLOSED
from simulator.wire.nbd.messages import (
    ConnectionEnded,
    ExportInfo,
    ExportOpened,
    OptionAnswered,
    Ready,
    Reply,
    Request,
    ServerPolicy,
    StartTls,
)
from simulator.wire.nbd.server import ServerConnection
from simulator.wire.nbd.server_handshake import OPTION_MAGIC

SIZE = 10_000
FLAGS = (
    nbd.FLAG_HAS_FLAGS
    | nbd.FLAG_SEND_FLUSH
    | nbd.FLAG_SEND_FUA
    | nbd.FLAG_SEND_TRIM
    | nbd.FLAG_SEND_WRITE_ZEROES
)
CONTEXTS = ("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1")
EXPORTS = {
    "disk": ExportInfo("disk", SIZE, FLAGS, "a disk", contexts=CONTEXTS, export="the disk"),
    "read-only": ExportInfo("read-only", SIZE, FLAGS | nbd.FLAG_READ_ONLY, min_block=512),
}


def recording(kind, moves):
    """The class with its moves recorded."""

    class Recording(kind):
        __slots__ = ()

        def _enter(self, state, need):
            moves.add((self.state, state))
            super()._enter(state, need)

    return Recording


def new_server(kind=ServerConnection, tls=False):
    return kind(EXPORTS.get, EXPORTS.values, ServerPolicy(extended_headers=True), tls=tls)


class Disk:
    """Plain bytes behind a server; every second run of 100 bytes is answered as a hole while nothing is written."""

    def __init__(self):
        self.content = bytearray(
            b"".join(bytes(100) + bytes([number + 1]) * 100 for number in range(SIZE // 200))
        )

    def answer(self, server, request):
        start, end = request.offset, request.offset + request.length
        if request.kind == nbd.CMD_READ:
            pieces = []
            while start < end:
                stop = min(end, start // 100 * 100 + 100)
                piece = bytes(self.content[start:stop])
                pieces.append((stop - start, piece if any(piece) else None))
                start = stop
            server.reply_read(request, pieces)
        elif request.kind == nbd.CMD_BLOCK_STATUS:
            server.reply_block_status(
                request, {id_: [(100, id_)] * (request.length // 100 + 1) for id_ in range(4)}
            )
        elif request.kind == nbd.CMD_FLUSH:
            server.reply_error(request, 5)
        else:
            if request.kind == nbd.CMD_WRITE:
                self.content[start:end] = request.payload
            else:
                self.content[start:end] = bytes(request.length)
            server.reply_done(request)


class Pair:
    """The two ends, `chunk_bytes` at a time; requests are answered when `serve` says so, in the order it says."""

    def __init__(self, client, server, chunk_bytes=1 << 20):
        self.client, self.server, self.chunk_bytes = client, server, chunk_bytes
        self.client_events, self.server_events, self.disk = [], [], Disk()
        self.carry()

    def carry(self):
        while moved := [(end, b"".join(end.take_output())) for end in (self.server, self.client)]:
            if not any(payload for _, payload in moved):
                return self
            for end, payload in moved:
                other, events = (
                    (self.client, self.client_events)
                    if end is self.server
                    else (self.server, self.server_events)
                )
                for start in range(0, len(payload), self.chunk_bytes):
                    events += other.receive_data(payload[start : start + self.chunk_bytes])

    def serve(self, order=lambda requests: requests):
        requests = [event for event in self.server_events if type(event) is Request]
        self.server_events.clear()
        for request in order(requests):
            self.disk.answer(self.server, request)
        self.carry()
        replies = {event.request: event for event in self.client_events if type(event) is Reply}
        self.client_events.clear()
        return replies


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_opening(chunk_bytes):
    pair = Pair(open_export("disk", CONTEXTS[:3]), new_server(), chunk_bytes)
    opened, ready = pair.server_events[-1], pair.client_events[-1]
    assert type(opened) is ExportOpened
    assert (opened.export.export, opened.contexts) == (
        "the disk",
        dict(zip(CONTEXTS[:3], range(3), strict=True)),
    )
    assert type(ready) is Ready
    assert (ready.size, ready.flags, ready.structured) == (SIZE, FLAGS | nbd.FLAG_SEND_DF, True)
    assert (ready.contexts, ready.block_sizes, ready.description) == (
        opened.contexts,
        (1, 4096, 32 << 20),
        "a disk",
    )


def test_listing():
    pair = Pair(list_exports(), new_server())
    answered, ended = pair.client_events
    assert answered.names == [("disk", "a disk"), ("read-only", "")]
    assert type(ended) is ConnectionEnded
    assert pair.server.state == CLOSED


def test_listing_contexts():
    pair = Pair(
        ClientConnection([context_option(nbd.OPT_LIST_META_CONTEXT, "disk", ["qemu:"])]), new_server()
    )
    assert list(pair.client_events[0].contexts) == list(CONTEXTS[1:])


def test_a_refused_export():
    pair = Pair(open_export("zork", ["base:allocation"]), new_server())
    refusals = [
        (event.option, event.error, event.text)
        for event in pair.client_events
        if type(event) is OptionAnswered
    ]
    text = "export 'zork' not present"
    assert refusals[1:] == [
        (nbd.OPT_SET_META_CONTEXT, nbd.REP_ERR_UNKNOWN, text),
        (nbd.OPT_GO, nbd.REP_ERR_UNKNOWN, text),
    ]
    assert type(pair.client_events[-1]) is ConnectionEnded
    assert pair.server.state == CLOSED


def test_block_sizes_of_an_export_with_sectors():
    # Asked with block sizes: the minimum; INFO without them is refused after all else is said (nbd/server.c:755, 7.2).
    assert Pair(open_export("read-only"), new_server()).client_events[-1].block_sizes == (512, 4096, 32 << 20)
    info = Option(nbd.OPT_INFO, struct.pack(">L", 9) + b"read-only\0\0")
    answered = Pair(ClientConnection([info]), new_server()).client_events[0]
    assert (answered.error, answered.text) == (
        nbd.REP_ERR_BLOCK_SIZE_REQD,
        "request NBD_INFO_BLOCK_SIZE to use this export",
    )
    silent_go = Option(nbd.OPT_GO, struct.pack(">L", 9) + b"read-only\0\0")
    assert Pair(ClientConnection([silent_go]), new_server()).client_events[-1].block_sizes[0] == 1


def test_contexts_chosen_for_another_export_are_lost():
    go = open_export("disk")._options[-1]
    options = [
        Option(nbd.OPT_STRUCTURED_REPLY),
        context_option(nbd.OPT_SET_META_CONTEXT, "read-only", CONTEXTS[:1]),
        go,
    ]
    assert Pair(ClientConnection(options), new_server()).server.contexts == {}


ranges = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(
    lambda pair: (pair[0], min(pair[1], SIZE - pair[0]))
)


@settings(deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(["read", "df", "write", "zero", "status", "flush", "trim"]), ranges),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 5000),
    st.randoms(use_true_random=False),
)
def test_requests_in_any_order_and_chunks(structured, requests, chunk_bytes, chance):
    pair = Pair(open_export("disk", CONTEXTS[1:3], structured), new_server(), chunk_bytes)
    pair.serve()
    kinds = {
        "read": (nbd.CMD_READ, 0), "df": (nbd.CMD_READ, nbd.CMD_FLAG_DF if structured else 0), "write": (nbd.CMD_WRITE, nbd.CMD_FLAG_FUA),
        "zero": (nbd.CMD_WRITE_ZEROES, nbd.CMD_FLAG_NO_HOLE), "status": (nbd.CMD_BLOCK_STATUS, 0), "flush": (nbd.CMD_FLUSH, 0), "trim": (nbd.CMD_TRIM, 0),
    }  # fmt: skip
    sent = []
    for verb, (offset, length) in requests:
        kind, flags = kinds[verb]
        payload = bytes([len(sent) + 100]) * length if verb == "write" else None
        sent.append(pair.client.request(kind, offset, length, payload, flags))
    pair.carry()
    expected, plain = {}, bytearray(pair.disk.content)

    def shuffled(arrived):
        chance.shuffle(arrived)
        for request in arrived:  # the plain oracle, in the order of the answers
            start, end = request.offset, request.offset + request.length
            if request.kind == nbd.CMD_READ:
                expected[request.cookie] = bytes(plain[start:end])
            elif request.kind == nbd.CMD_WRITE:
                plain[start:end] = bytes(request.payload)
            elif request.kind in (nbd.CMD_WRITE_ZEROES, nbd.CMD_TRIM):
                plain[start:end] = bytes(request.length)
        return arrived

    replies = pair.serve(shuffled)
    assert set(replies) == set(sent)
    assert pair.client.in_flight == 0
    for request, reply in replies.items():
        if request.kind == nbd.CMD_READ:
            assert bytes(reply.payload) == expected[request.cookie]
        elif request.kind == nbd.CMD_FLUSH:
            assert (reply.error, reply.text) == (5, "flush failed" if structured else "")
        elif request.kind == nbd.CMD_BLOCK_STATUS:
            refused = not structured or not request.length
            assert bool(reply.error) == refused
            assert list(reply.extents) == ([] if refused else [1, 2])
        else:
            assert not reply.error
    assert pair.disk.content == plain


def test_extents_are_joined_and_limited():
    pair = Pair(open_export("disk", CONTEXTS[:1]), new_server())
    extents = [(100, 0), (100, 0), (50, 3), (100, 0)]
    for flags, expected in ((0, [(200, 0), (50, 3), (100, 0)]), (nbd.CMD_FLAG_REQ_ONE, [(200, 0)])):
        pair.server_events.clear()
        pair.client.request(nbd.CMD_BLOCK_STATUS, 0, 350, flags=flags)
        pair.carry()
        pair.server.reply_block_status(pair.server_events[0], {0: extents})
        pair.client_events.clear()
        pair.carry()
        assert pair.client_events[0].extents == {0: expected}


def test_an_errno_without_a_number_on_the_wire():
    pair = Pair(open_export("disk"), new_server())
    for errno, on_wire in ((2, 22), (30, 1), (27, 28), (122, 28), (5, 5), (95, 95), (110, 22)):
        pair.server_events.clear()
        pair.client_events.clear()
        pair.client.request(nbd.CMD_READ, 0, 1)
        pair.carry()
        pair.server.reply_error(pair.server_events[0], errno)
        pair.carry()
        assert (pair.client_events[0].error, pair.client_events[0].text) == (
            on_wire,
            "reading from file failed",
        )


def test_a_request_is_answered_once():
    pair = Pair(open_export("disk"), new_server())
    pair.server_events.clear()
    pair.client.request(nbd.CMD_READ, 0, 10)
    pair.carry()
    request = pair.server_events[0]
    with pytest.raises(AssertionError, match="10 bytes answered with 9"):
        pair.server.reply_read(request, [(9, bytes(9))])
    with pytest.raises(AssertionError, match="answered twice"):
        pair.server.reply_done(request)


@pytest.mark.parametrize(("structured", "flags"), [(False, 0), (True, nbd.CMD_FLAG_DF), (True, 0)])
def test_a_disk_that_fails_a_read(structured, flags):
    pair = Pair(open_export("disk", structured=structured), new_server())
    pair.server_events.clear()
    pair.client_events.clear()
    pair.client.request(nbd.CMD_READ, 0, 10, flags=flags)
    pair.carry()
    pair.server.fail_read(pair.server_events[0], 5, "Input/output error", [(4, b"abcd")])
    pair.carry()
    # As qemu-nbd 7.2 on blkdebug: EIO, except where the reply could have had several chunks.
    if structured and not flags:
        assert (pair.client_events, pair.server.state) == ([], CLOSED)
    else:
        assert [reply.error for reply in pair.client_events] == [5]


def test_requests_before_the_end_are_answered_until_the_owner_closes():
    pair = Pair(open_export("disk"), new_server())
    pair.server_events.clear()
    pair.client.request(nbd.CMD_READ, 0, 10)
    pair.client.request(nbd.CMD_READ, 0, 10)
    pair.client.disconnect()
    pair.carry()
    first, second, ended = pair.server_events
    assert (ended.reason, ended.aborts) == ("", False)
    pair.server.reply_read(first, [(10, bytes(10))])
    assert b"".join(pair.server.take_output()).endswith(bytes(12))
    pair.server.close()
    pair.server.reply_read(second, [(10, bytes(10))])
    assert pair.server.take_output() == []
    assert pair.server.receive_data(b"x") == pair.server.receive_eof() == []


@pytest.mark.parametrize("sent", [b"", b"\0\0", struct.pack(">L", 3) + b"IHAVE"])
def test_end_of_file(sent):
    server = new_server()
    server.receive_data(sent)
    (ended,) = server.receive_eof()
    assert ended.reason == ("Unexpected end-of-file before all bytes were read" if sent else "")


# -- the tables


def option(code, payload=b""):
    return b"IHAVEOPT" + struct.pack(">LL", code, len(payload)) + payload


def request(kind, length=0, magic=nbd.REQUEST_MAGIC):
    return struct.pack(">LHHQQL", magic, 0, kind, 1, 0, length)


FIXED = struct.pack(">L", 3)
GO = FIXED + option(7, struct.pack(">L", 4) + b"disk\0\0")
SERVER_CONVERSATIONS = [
    struct.pack(">L", 4), FIXED + b"x" * 8, FIXED + option(2), FIXED + option(3) + option(1, b"zork"), FIXED + option(1, b"disk"), GO,
    GO + request(nbd.CMD_DISC), GO + request(nbd.CMD_READ, 1), GO + request(nbd.CMD_WRITE, 3) + b"abc",
    FIXED + option(8, bytes(4097)), FIXED + option(7, b"\xff" * 5),
    FIXED + option(11) + GO[4:] + struct.pack(">LHHQQQ", nbd.EXTENDED_REQUEST_MAGIC, nbd.CMD_FLAG_PAYLOAD_LEN, 0, 1, 0, 4097) + bytes(4097),
]  # fmt: skip
STARTTLS = FIXED + option(3) + option(5)


def test_the_server_wants_tls_first():
    """No export is named before, and what comes behind STARTTLS is for the session."""
    server = new_server(tls=True)
    (start,) = server.receive_data(FIXED + option(7, GO[20:]) + option(3) + option(5) + b"hello")
    answers = b"".join(server.take_output())[18:]
    kinds = []
    while answers:
        _, code, kind, length = struct.unpack_from(">QLLL", answers)
        kinds.append((code, kind, answers[20 : 20 + length]))
        answers = answers[20 + length :]
    required = nbd.REP_ERR_TLS_REQD
    assert kinds == [
        (7, required, b"Option 0x7 not permitted before TLS"),
        (3, required, b"Option 0x3 not permitted before TLS"),
        (5, nbd.REP_ACK, b""),
    ]
    assert start.received == b"hello"
    with pytest.raises(AssertionError, match="until it says tls_started"):
        server.receive_data(b"x")
    server.tls_started()
    assert [type(event) for event in server.receive_data(GO[4:])] == [ExportOpened]


def test_the_client_starts_tls_first():
    pair = Pair(open_export("disk", tls=True), new_server(tls=True))
    assert [type(event) for event in pair.client_events] == [OptionAnswered, StartTls]
    assert [type(event) for event in pair.server_events] == [StartTls]
    pair.server.tls_started()
    pair.client.tls_started()
    pair.carry()
    assert type(pair.client_events[-1]) is Ready


def test_a_client_that_wants_tls_goes_when_there_is_none():
    pair = Pair(open_export("disk", tls=True), new_server())
    refused, ended = pair.client_events
    assert (refused.option, refused.error) == (nbd.OPT_STARTTLS, nbd.REP_ERR_POLICY)
    assert (type(ended), pair.client.state, pair.server.state) == (ConnectionEnded, CLOSED, CLOSED)


def test_the_server_makes_exactly_the_moves_of_its_table():
    moves = set()
    kind = recording(ServerConnection, moves)
    for conversation in SERVER_CONVERSATIONS:
        for length in range(len(conversation) + 1):  # and the end of file anywhere
            server = new_server(kind)
            server.receive_data(conversation[:length])
            server.receive_eof()
    server = new_server(kind, tls=True)
    server.receive_data(STARTTLS)
    server.tls_started()
    server = new_server(kind, tls=True)
    server.receive_data(STARTTLS)
    server.receive_eof()
    declared = {(state, target) for state, (_, targets) in kind.MOVES.items() for target in targets}
    assert moves == declared


def test_no_other_move_is_possible():
    for kind in (ServerConnection, ClientConnection):
        for state, (_, targets) in kind.MOVES.items():
            for target in kind.MOVES:
                connection = new_server() if kind is ServerConnection else list_exports()
                connection.state = state
                if target in targets:
                    connection._enter(target, 1)
                else:
                    with pytest.raises(AssertionError, match=repr(state)):
                        connection._enter(target, 1)


def test_requests_need_transmission():
    client = open_export("disk")
    with pytest.raises(AssertionError, match="greeting"):
        client.request(nbd.CMD_READ, 0, 1)
    assert new_server().state != OPTION_MAGIC


def test_contexts_are_answered_before_the_rest_of_their_option_comes():
    """QEMU reads no further than the last query; what is left is the next option, and its end (nbd/server.c:1195,
    7.2). Observed on 5.2.0, 7.2.22, 10.0.13 and 11.1.3."""
    server = new_server()
    query = struct.pack(">L", 4) + b"disk" + struct.pack(">L", 0)
    server.receive_data(FIXED + b"IHAVEOPT" + struct.pack(">LL", nbd.OPT_LIST_META_CONTEXT, 100) + query)
    assert b"".join(server.take_output()).endswith(
        struct.pack(">LLL", nbd.OPT_LIST_META_CONTEXT, nbd.REP_ACK, 0)
    )
    (ended,) = server.receive_data(option(nbd.OPT_LIST))
    assert ended.aborts


def test_a_refusal_waits_for_all_of_its_option():
    server = new_server()
    server.take_output()
    server.receive_data(FIXED + b"IHAVEOPT" + struct.pack(">LL", nbd.OPT_STRUCTURED_REPLY, 5) + b"1234")
    assert server.take_output() == []
    server.receive_data(b"5")
    assert b"unexpected length" in b"".join(server.take_output())


@pytest.mark.parametrize("answers", [True, False])
def test_a_request_without_its_magic_number(answers):
    """5.2 goes without a word, later versions answer first."""
    server = ServerConnection(EXPORTS.get, EXPORTS.values, ServerPolicy(answers_bad_magic=answers))
    server.receive_data(GO)
    server.take_output()
    (ended,) = server.receive_data(request(nbd.CMD_READ, 1, magic=5))
    assert type(ended) is ConnectionEnded
    assert bool(server.take_output()) is answers
