"""The parsers alone, without a machine: what holds for them whatever bytes come, in whatever pieces.

Each check raises AssertionError, or what a parser should not have raised. An input's first byte names the
check, its second how the rest is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from scenarios.streams import drawn_nbd, drawn_qmp
from scenarios.streams.nbd_messages import messages_of
from simulator.wire import json_lexer
from simulator.wire.json_stream import JsonStream, ParseError, encode
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import open_export
from simulator.wire.nbd.connection import Connection
from simulator.wire.nbd.messages import ExportInfo, ProtocolError, Ready, Request
from simulator.wire.nbd.server import ServerConnection

# Of a client's option reply or chunk (simulator/wire/nbd/client.py), with the head of either.
_MOST_OF_A_REPLY = (64 << 20) + 64
_CONTEXTS = ("base:allocation", "qemu:dirty-bitmap:b0")


def pieces(payload: bytes, cut_bytes: int) -> Iterator[bytes]:
    """0: all at once."""
    step = cut_bytes or max(1, len(payload))
    return (payload[start : start + step] for start in range(0, len(payload), step))


def json_collected(payload: bytes, cut_bytes: int) -> None:
    _json(payload, cut_bytes, False)


def json_pushed(payload: bytes, cut_bytes: int) -> None:
    _json(payload, cut_bytes, True)


def _json(payload: bytes, cut_bytes: int, pushes: bool) -> None:
    """The same values and complaints come of it however it is cut; what is printed of a value is one again.
    It need not print the same: members that share a bucket change places each time, as in QEMU."""
    whole = _said(payload, 0, pushes)
    assert _said(payload, cut_bytes, pushes) == whole
    for text in whole:
        if not text.startswith("JSON") and "inf" not in text:
            _value(text, pushes)


def _said(payload: bytes, cut_bytes: int, pushes: bool) -> list[str]:
    stream, said, given = JsonStream(pushes), [], 0
    for piece in pieces(payload, cut_bytes):
        said += stream.receive_data(piece)
        given += len(piece)
        assert stream.held_bytes <= min(given, json_lexer.MAX_MESSAGE_BYTES + 1)
    said += stream.flush()
    assert stream.idle
    assert not stream.held_bytes
    return ["JSON: " + each.desc if isinstance(each, ParseError) else encode(each) for each in said]


def _value(text: str, pushes: bool) -> Any:
    (value,) = JsonStream(pushes).receive_data(text.encode() + b"\n")
    return value


def nbd_server(payload: bytes, cut_bytes: int) -> None:
    """It says the same however it is asked, in whichever order, and nothing that is no NBD."""
    whole, is_ended = _served(payload, 0)
    handshake, replies = messages_of(whole)
    handshake_of_cut, replies_of_cut = messages_of(_served(payload, cut_bytes)[0])
    assert handshake_of_cut == handshake
    # Replies that are still to come when the server ends the connection go nowhere.
    assert is_ended or sorted(replies_of_cut) == sorted(replies)


def _served(payload: bytes, cut_bytes: int) -> tuple[bytes, bool]:
    """What a server says, and whether it ends the connection itself."""
    exports = {
        name: ExportInfo(name, drawn_nbd.SIZE, nbd.FLAG_HAS_FLAGS, "a disk", contexts=_CONTEXTS)
        for name in ("n0", "n1")
    }
    server = ServerConnection(exports.get, exports.values)
    said = bytearray()
    for piece in pieces(payload, cut_bytes):
        for event in server.receive_data(piece):
            if isinstance(event, Request):
                _serve(server, event)
        _check_held(server, server.policy.max_option_bytes)
        said += b"".join(server.take_output())
    is_ended = server.state == "closed"
    server.receive_eof()
    return bytes(said) + b"".join(server.take_output()), is_ended


def _serve(server: ServerConnection, request: Request) -> None:
    if request.kind == nbd.CMD_READ:
        server.reply_read(request, [(request.length, None)] if request.length else [])
    elif request.kind == nbd.CMD_BLOCK_STATUS:
        whole = [(request.length, nbd.STATE_ZERO)]
        extents: dict[int, Iterable[tuple[int, int]]] = dict.fromkeys(server.contexts.values(), whole)
        server.reply_block_status(request, extents)
    else:
        server.reply_done(request)


def nbd_client(payload: bytes, cut_bytes: int) -> None:
    """What a server may not say is a ProtocolError, and nothing else is one."""
    client = open_export("n0", _CONTEXTS)
    try:
        for piece in pieces(payload, cut_bytes):
            for event in client.receive_data(piece):
                if isinstance(event, Ready):
                    client.request(nbd.CMD_READ, 0, 4096)
                    client.request(nbd.CMD_BLOCK_STATUS, 0, 65536)
                    client.request(nbd.CMD_FLUSH)
            _check_held(client, _MOST_OF_A_REPLY)
            client.take_output()
    except ProtocolError:
        assert client.state == "closed"
    client.receive_eof()


def _check_held(connection: Connection, most: int) -> None:
    assert connection.held_bytes < max(1, connection.needed_bytes), "more is held than the next step needs"
    assert connection.needed_bytes <= most, "the next step waits for more than there may be"


CHECKS: tuple[Callable[[bytes, int], None], ...] = (json_collected, json_pushed, nbd_server, nbd_client)


def check(data: bytes) -> None:
    """Raises AssertionError, or what a parser should not have raised."""
    if len(data) > 2:
        CHECKS[data[0] % len(CHECKS)](data[2:], data[1])


def corpus(count: int) -> Iterator[bytes]:
    """Of each grammar's first inputs, one for each check; a client gets what a server says to them."""
    for seed in range(count):
        cut = bytes((seed % 30,))
        text, handshake = drawn_qmp.draw(seed).payload, drawn_nbd.draw(seed).payload
        yield b"\0" + cut + text
        yield b"\1" + cut + text
        yield b"\2" + cut + handshake
        yield b"\3" + cut + _served(handshake, 0)[0]
