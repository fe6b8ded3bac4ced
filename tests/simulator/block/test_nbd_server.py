"""Connections of the NBD server without sockets: concurrency, drains, clients that vanish, exports that go
away."""

from __future__ import annotations

import pytest
from fleecing_disk import SECOND

from simulator.block.errors import QmpError
from simulator.block.memory_host import MemoryHost
from simulator.block.nbd.server import NbdServer
from simulator.block.nbd.tls import TlsError, TlsSession
from simulator.machine import Machine
from simulator.monitor.commands.exports import start_server
from simulator.versions import load
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import open_export
from simulator.wire.nbd.messages import Ready, Reply, ServerPolicy

SLOW_NS = 1_000_000


class Served:
    """A machine with an export of a node whose every request takes SLOW_NS."""

    def __init__(self, max_connections=100, **export):
        self.machine = machine = Machine(load("7.2"), MemoryHost())
        self.run(
            machine.graph.open(
                {"driver": "null-co", "node-name": "n", "size": 1 << 20, "latency-ns": SLOW_NS}
            )
        )
        self.node = machine.graph.nodes["n"]
        self.node.monitor_owned = True
        machine.nbd_server = NbdServer(
            machine.exports,
            machine.scheduler,
            {"type": "unix", "path": "/s"},
            max_connections,
            ServerPolicy(handshake_limit_ns=10 * SECOND),
        )
        options = {"type": "nbd", "id": "e", "node-name": "n", "writable": True, **export}
        self.export = self.run(machine.exports.add(options, machine.nbd_server))

    def run(self, coroutine):
        scheduler = self.machine.scheduler
        return scheduler.run_until(scheduler.spawn(coroutine, "test"), scheduler.now_ns + SECOND)

    def advance(self, duration_ns=0):
        self.machine.run_for(duration_ns)

    def events(self):
        return [name for name, _, _ in self.machine.outbox.drain()]

    def client(self):
        return Client(self)


class Client:
    def __init__(self, served):
        self.served = served
        self.connection = served.machine.connect_nbd()
        self.wire = open_export("n")
        self.seen = []

    def pump(self):
        """Bytes both ways until nothing more comes; time stands still."""
        while True:
            sent = b"".join(self.wire.take_output())
            if sent:
                self.connection.receive(sent)
            self.served.advance()
            received = self.connection.output()
            if received:
                self.seen += self.wire.receive_data(received)
            elif not sent:
                return self

    def of(self, kind):
        return [event for event in self.seen if isinstance(event, kind)]

    def write(self, count=1):
        for number in range(count):
            self.wire.request(nbd.CMD_WRITE, number * 512, 512, b"x" * 512)
        return self.pump()


def test_requests_of_one_connection_run_at_once_sixteen_at_most():
    served = Served()
    client = served.client().pump()
    assert client.of(Ready)
    client.write(20)
    assert client.connection.in_flight == 16
    assert not client.connection.wants_input
    served.advance(SLOW_NS)
    client.pump()
    assert len(client.of(Reply)) == 16
    assert client.connection.in_flight == 4
    served.advance(SLOW_NS)
    client.pump()
    assert len(client.of(Reply)) == 20
    assert client.connection.wants_input


def test_a_drained_section_waits_for_what_is_under_way_and_holds_the_rest_back():
    served = Served()
    client = served.client().pump().write()
    order = []

    async def drain():
        async with served.machine.graph.drained(served.node):
            order.append(("drained", client.connection.in_flight))
            await served.machine.scheduler.sleep(10 * SLOW_NS)
            order.append(("still", client.connection.in_flight))

    section = served.machine.spawn(drain(), "drain")
    served.advance()
    client.write()
    assert order == []
    served.advance(5 * SLOW_NS)
    client.pump()
    assert order == [("drained", 0)]
    assert len(client.of(Reply)) == 1
    served.advance(20 * SLOW_NS)
    client.pump()
    assert section.done()
    assert order[1] == ("still", 0)
    assert len(client.of(Reply)) == 2


@pytest.mark.parametrize(
    ("asked", "answered"),
    # With null-co, latency-ns 300 ms, 5.2, 7.2, 10.0 and 11.1 gave so many replies to requests that came in
    # one piece with the end: they read one after the other, and no more than 16 ahead.
    [(1, 0), (15, 0), (16, 16), (20, 16), (40, 32)],
)
@pytest.mark.parametrize("polite", [True, False])
def test_a_client_that_vanishes_leaves_nothing(polite, asked, answered):
    served = Served()
    client = served.client().pump().write(asked)
    if polite:
        client.wire.disconnect()
        client.pump()
    else:
        client.connection.receive_eof()
    assert served.export.in_use
    served.advance(10 * SLOW_NS)
    assert client.connection.output().count(nbd.SIMPLE_REPLY_MAGIC.to_bytes(4, "big")) == answered
    assert not served.export.in_use
    assert served.machine.nbd_server.connections == []
    # What it had sent was still done, although nobody heard of it.
    assert served.node.in_flight == 0
    served.run(served.machine.exports.remove("e"))
    assert served.events() == ["BLOCK_EXPORT_DELETED"]
    assert served.node.parents == []


def test_an_export_in_use_goes_away_the_hard_way_only():
    served = Served()
    client = served.client().pump().write()
    with pytest.raises(QmpError, match="export 'e' still in use"):
        served.run(served.machine.exports.remove("e"))
    served.run(served.machine.exports.remove("e", "hard"))
    assert client.connection.closed
    assert served.machine.exports.query() == [
        {"id": "e", "type": "nbd", "node-name": "n", "shutting-down": True}
    ]
    with pytest.raises(QmpError, match="Export 'e' is already shutting down"):
        served.run(served.machine.exports.remove("e", "hard"))
    assert served.events() == []
    # A name is free at once, the id when all is over.
    served.run(
        served.machine.exports.add({"type": "nbd", "id": "f", "node-name": "n"}, served.machine.nbd_server)
    )
    served.advance(SLOW_NS)
    assert served.events() == ["BLOCK_EXPORT_DELETED"]
    assert [export.id for export in served.machine.exports.by_age] == ["f"]
    assert client.connection.output() == b""


def test_stopping_the_server_ends_every_connection():
    served = Served()
    in_use, greeted = served.client().pump().write(), served.machine.connect_nbd()
    served.advance()
    served.run(served.machine.nbd_server.close())
    assert in_use.connection.closed
    assert greeted.closed
    assert served.events() == ["BLOCK_EXPORT_DELETED"]
    assert served.machine.nbd_server.connections == []
    with pytest.raises(ConnectionRefusedError):
        served.machine.connect_nbd()


def test_clients_above_the_limit_wait_for_their_turn():
    served = Served(max_connections=1)
    first = served.client().pump()
    second = served.client().pump()
    assert first.of(Ready)
    assert second.seen == []
    first.connection.receive_eof()
    second.pump()
    assert second.of(Ready)


def test_who_waits_for_a_turn_gets_none_when_the_server_stops():
    served = Served(max_connections=1)
    first, second = served.client().pump(), served.client().pump()
    served.run(served.machine.nbd_server.close())
    assert first.connection.closed
    assert second.pump().seen == []
    assert second.connection.closed


def test_a_client_that_does_not_finish_its_handshake_is_dropped_after_ten_seconds():
    served = Served()
    silent, ready = served.machine.connect_nbd(), served.client().pump()
    served.advance(10 * SECOND - 1)
    assert not silent.closed
    served.advance(1)
    assert silent.closed
    assert not ready.connection.closed


@pytest.mark.parametrize(("version", "is_limited"), [("5.2", False), ("7.2", True), ("11.1", True)])
def test_how_long_a_handshake_may_take_in_a_version(version, is_limited):
    machine = Machine(load(version), MemoryHost())
    scheduler = machine.scheduler
    start = start_server(machine, {"type": "unix", "path": "/s"}, {})
    scheduler.run_until(scheduler.spawn(start, "test"), scheduler.now_ns + SECOND)
    client = machine.connect_nbd()
    machine.run_for(10 * SECOND - 1)
    assert not client.closed
    machine.run_for(100 * SECOND)
    assert client.closed == is_limited


@pytest.mark.parametrize("limit_s", [0, 3])
def test_how_long_a_handshake_may_take_is_said_when_the_server_is_started(limit_s):
    # nbd-server-start has handshake-max-seconds since 10.0 (qapi/block-export.json).
    machine = Machine(load("10.0"), MemoryHost())
    scheduler = machine.scheduler
    start = start_server(machine, {"type": "unix", "path": "/s"}, {"handshake-max-seconds": limit_s})
    scheduler.run_until(scheduler.spawn(start, "test"), scheduler.now_ns + SECOND)
    client = machine.connect_nbd()
    machine.run_for(3 * SECOND - 1)
    assert not client.closed
    machine.run_for(100 * SECOND)
    assert client.closed == bool(limit_s)


class Reversing(TlsSession):
    """A session that no library makes: it begins with `hello`, and turns every piece round."""

    def __init__(self):
        self._said = []
        self._heard = b""

    def receive(self, ciphertext):
        if not self.established:
            self._heard += ciphertext
            if not self._heard.startswith(b"hello"[: len(self._heard)]):
                raise TlsError("no hello")
            if len(self._heard) < 5:
                return b""
            self.established, ciphertext = True, self._heard[5:]
            self._said.append(b"welcome")
        return bytes(255 - byte for byte in ciphertext)

    def send(self, plaintext):
        self._said += [bytes(255 - byte for byte in piece) for piece in plaintext]

    def take_output(self):
        said, self._said = self._said, []
        return said


STARTTLS = b"\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0"
LIST = b"IHAVEOPT\0\0\0\3\0\0\0\0"
STARTED = b"NBDMAGICIHAVEOPT\0\3" + b"\x00\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\5\0\0\0\1\0\0\0\0"


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_a_session_gets_what_comes_behind_starttls_and_hides_all_answers(chunk_bytes):
    served = Served()
    served.machine.nbd_server.new_tls = Reversing
    client = served.machine.connect_nbd()
    sent = STARTTLS + b"hello" + bytes(255 - byte for byte in LIST)
    said = b""
    for start in range(0, len(sent), chunk_bytes):
        client.receive(sent[start : start + chunk_bytes])
        said += client.output()
    assert said.startswith(STARTED + b"welcome")
    answer = bytes(255 - byte for byte in said[len(STARTED + b"welcome") :])
    assert answer[8:16] == b"\0\0\0\3\0\0\0\2"  # NBD_REP_SERVER to NBD_OPT_LIST
    assert b"n" in answer


@pytest.mark.parametrize("junk", [b"junk", LIST])
def test_a_client_that_speaks_no_tls_is_dropped_behind_the_acknowledgement(junk):
    served = Served()
    served.machine.nbd_server.new_tls = Reversing
    client = served.machine.connect_nbd()
    client.receive(STARTTLS + junk)
    assert client.output() == STARTED
    assert client.closed
    assert client.reason == "no hello"


def test_a_handshake_of_tls_counts_as_part_of_the_handshake():
    served = Served()
    served.machine.nbd_server.new_tls = Reversing
    client = served.machine.connect_nbd()
    client.receive(STARTTLS)
    served.advance(10 * SECOND - 1)
    assert not client.closed
    served.advance(1)
    assert client.closed


def test_a_failing_read_of_a_structured_reply_ends_the_connection():
    # nbd_co_send_sparse_read, nbd/server.c:2079, 7.2: its caller takes the failure for one of the socket.
    served = Served()
    client = served.client().pump()

    async def failing(offset, length):
        raise OSError(5, "injected")

    served.node.driver.read = failing
    client.wire.request(nbd.CMD_READ, 0, 512)
    client.pump()
    assert client.connection.closed
    assert client.of(Reply) == []
    assert client.connection.reason == "reading from file failed: Input/output error"


def test_a_failing_write_is_answered():
    served = Served()
    client = served.client().pump()

    async def failing(offset, payload, flags):
        raise OSError(28, "injected")

    served.node.driver.write = failing
    client.write()
    (reply,) = client.of(Reply)
    assert (reply.error, reply.text) == (28, "writing to file failed")
    assert not client.connection.closed


def test_garbage_ends_that_connection_alone():
    served = Served()
    other = served.client().pump()
    garbage = served.machine.connect_nbd()
    garbage.receive(b"\0\0\0\1" + b"GARBAGE!" * 4)
    served.advance()
    assert garbage.closed
    other.write()
    served.advance(SLOW_NS)
    assert other.pump().of(Reply)
