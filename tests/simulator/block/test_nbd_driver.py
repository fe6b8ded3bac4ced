"""What the NBD client does when there is no server, in virtual time: real servers, which
tests/interop/test_nbd_storage.py has, cannot show it so exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulator.block.driver import MAY_UNMAP
from simulator.block.errors import QmpError
from simulator.block.host import HostStream
from simulator.block.memory_host import MemoryHost
from simulator.block.nbd.client import (
    CONNECTED,
    CONNECTING_NOWAIT,
    CONNECTING_WAIT,
    MOST_REQUESTS,
    QUIT,
    NbdClient,
)
from simulator.block.nbd.link import NbdLink
from simulator.engine.scheduler import Scheduler
from simulator.machine import Machine
from simulator.versions import load
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.messages import ExportInfo, Request, ServerPolicy
from simulator.wire.nbd.server import ServerConnection

SECOND_NS = 1_000_000_000
MIB = 1 << 20


class Server:
    """Answers reads with zeroes after `delay_ns`, and notes how many were under way at once."""

    def __init__(self, scheduler: Scheduler, host: MemoryHost) -> None:
        self.scheduler, self.host = scheduler, host
        self.delay_ns = self.in_flight = self.most_in_flight = self.answered = 0
        self.links: list[Link] = []
        self.start()

    def start(self) -> None:
        self.host.servers["/s"] = self._accept

    def _accept(self, receive: Callable[[bytes], None]) -> HostStream:
        self.links.append(Link(self, receive))
        return self.links[-1]

    def kill(self) -> None:
        del self.host.servers["/s"]
        for link in self.links:
            link.wire.close()
            link.deliver(b"")
        self.links = []


class Link(HostStream):
    def __init__(self, server: Server, receive: Callable[[bytes], None]) -> None:
        export = ExportInfo("", MIB, nbd.FLAG_HAS_FLAGS)
        self.server, self._receive = server, receive
        self.wire = ServerConnection(lambda name: export, lambda: [export])
        self.flush()

    def deliver(self, payload: bytes) -> None:
        self.server.scheduler.call_at(self.server.scheduler.now_ns, lambda: self._receive(payload))

    def flush(self) -> None:
        output = b"".join(self.wire.take_output())
        if output:
            self.deliver(output)

    def send(self, buffers) -> None:  # type: ignore[no-untyped-def]
        for event in self.wire.receive_data(b"".join(buffers)):
            if isinstance(event, Request):
                self.server.in_flight += 1
                self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
                self.server.scheduler.spawn(self.answer(event), "request")
        self.flush()

    async def answer(self, request: Request) -> None:
        if self.server.delay_ns:
            await self.server.scheduler.sleep(self.server.delay_ns)
        self.server.in_flight -= 1
        self.server.answered += 1
        self.wire.reply_read(request, [(request.length, bytes(request.length))])
        self.flush()

    def close(self) -> None:
        self.wire.close()


class World:
    def __init__(self, reconnect_delay_s: int = 0) -> None:
        self.scheduler, self.host = Scheduler(), MemoryHost()
        self.server = Server(self.scheduler, self.host)
        self.attempts_ns: list[int] = []
        self.client = NbdClient(self.scheduler, self._connect, reconnect_delay_s, lambda link: 0)

    def _connect(self) -> NbdLink:
        self.attempts_ns.append(self.scheduler.now_ns)
        return NbdLink(self.host, {"type": "unix", "path": "/s"}, "", "base:allocation")

    def run(self, coroutine):  # type: ignore[no-untyped-def]
        return self.scheduler.run_until(self.scheduler.spawn(coroutine, "test"))

    async def read(self) -> str:
        try:
            await self.client.request(nbd.CMD_READ, 0, 512)
        except OSError as error:
            return error.strerror or ""
        return "done"


def opened(reconnect_delay_s: int = 0) -> World:
    world = World(reconnect_delay_s)
    world.run(world.client.open(0))
    assert world.client.state == CONNECTED
    return world


def test_pauses_between_attempts_grow_to_sixteen_seconds() -> None:
    """connect_thread_func, nbd/client-connection.c, 7.2: 1, 2, 4, 8, 16, 16, ... seconds."""
    world = opened()
    world.server.kill()
    assert [world.run(world.read()) for _ in range(2)] == ["Input/output error"] * 2
    world.scheduler.advance_to(70 * SECOND_NS)
    assert [at // SECOND_NS for at in world.attempts_ns[1:]] == [0, 1, 3, 7, 15, 31, 47, 63]
    world.server.start()
    world.scheduler.advance_to(80 * SECOND_NS)
    assert world.run(world.read()) == "done"


def test_without_a_delay_the_request_that_finds_the_loss_fails_and_the_next_ask_for_the_server() -> None:
    world = opened()
    world.server.kill()
    assert world.client.state == CONNECTED
    assert world.run(world.read()) == "Input/output error"
    assert (world.client.state, len(world.attempts_ns)) == (CONNECTING_NOWAIT, 1)
    world.server.start()
    # The attempt that this one begins is over only after it: nobody waits for it.
    assert world.run(world.read()) == "Input/output error"
    world.scheduler.advance_to(world.scheduler.now_ns)
    assert world.run(world.read()) == "done"


def test_with_a_delay_all_requests_are_made_again() -> None:
    world = opened(reconnect_delay_s=5)
    world.server.delay_ns = SECOND_NS
    reads = [world.scheduler.spawn(world.read(), "read") for _ in range(3)]
    world.scheduler.advance_to(SECOND_NS // 2)
    world.server.kill()
    world.scheduler.advance_to(SECOND_NS)
    assert world.client.state == CONNECTING_WAIT
    world.server.start()
    assert [world.scheduler.run_until(read) for read in reads] == ["done"] * 3


def test_when_the_delay_is_over_all_of_them_fail() -> None:
    world = opened(reconnect_delay_s=5)
    world.server.kill()
    reads = [world.scheduler.spawn(world.read(), "read") for _ in range(3)]
    assert [world.scheduler.run_until(read) for read in reads] == ["Input/output error"] * 3
    assert world.scheduler.now_ns == 5 * SECOND_NS


def test_requests_that_wait_fail_when_they_are_told_to() -> None:
    """nbd_cancel_in_flight, block/nbd.c:2059, 7.2."""
    world = opened(reconnect_delay_s=20)
    world.server.kill()
    world.scheduler.call_at(SECOND_NS, world.client.stop_waiting)
    reads = [world.scheduler.spawn(world.read(), f"read {number}") for number in range(3)]
    assert [world.scheduler.run_until(read) for read in reads] == ["Input/output error"] * 3
    assert (world.scheduler.now_ns, world.client.state) == (SECOND_NS, CONNECTING_NOWAIT)


def test_no_more_requests_than_qemu_has_places_for() -> None:
    world = opened()
    world.server.delay_ns = 1000
    reads = [world.scheduler.spawn(world.read(), "read") for _ in range(50)]
    assert [world.scheduler.run_until(read) for read in reads] == ["done"] * 50
    assert world.server.most_in_flight == MOST_REQUESTS


def test_opening_gives_up_at_its_timeout() -> None:
    world = World()
    del world.host.servers["/s"]
    with pytest.raises(QmpError, match="Failed to connect to '/s': No such file or directory"):
        world.run(world.client.open(4))
    assert [at // SECOND_NS for at in world.attempts_ns] == [0, 1, 3]
    assert world.scheduler.now_ns == 4 * SECOND_NS


def test_a_server_that_breaks_the_protocol_is_not_asked_again() -> None:
    world = opened(reconnect_delay_s=5)
    read = world.scheduler.spawn(world.read(), "read")
    world.server.delay_ns = SECOND_NS
    world.scheduler.run_ready()
    world.server.links[0].deliver(b"\0" * 64)
    assert world.scheduler.run_until(read) == "Invalid argument"
    assert world.client.state == QUIT
    assert world.run(world.read()) == "Input/output error"


class Told(HostStream):
    """A server of 8 GiB that knows extended headers, and does nothing but note what it is asked for."""

    def __init__(self, scheduler: Scheduler, receive: Callable[[bytes], None], asked: list[Request]) -> None:
        flags = nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH | nbd.FLAG_SEND_TRIM | nbd.FLAG_SEND_WRITE_ZEROES
        export = ExportInfo("", 8 << 30, flags)
        self._scheduler, self._receive, self._asked = scheduler, receive, asked
        policy = ServerPolicy(extended_headers=True)
        self.wire = ServerConnection(lambda name: export, lambda: [export], policy)
        self._flush()

    def _flush(self) -> None:
        if output := b"".join(self.wire.take_output()):
            self._scheduler.call_at(self._scheduler.now_ns, lambda: self._receive(output))

    def send(self, buffers) -> None:  # type: ignore[no-untyped-def]
        for event in self.wire.receive_data(b"".join(buffers)):
            if isinstance(event, Request) and event.kind == nbd.CMD_BLOCK_STATUS:
                self._asked.append(event)
                self.wire.reply_block_status(event, {0: [(event.length, 3)]})
            elif isinstance(event, Request):
                self._asked.append(event)
                self.wire.reply_done(event)
        self._flush()

    def close(self) -> None:
        self.wire.close()


@pytest.mark.parametrize(
    ("version", "status", "zeroes", "discards"),
    [
        ("7.2", [(1 << 31) - 1], [32 * MIB] * 192, [(1 << 31) - 1] * 3 + [3]),
        ("10.0", [8 << 30], [6 << 30], [6 << 30]),
    ],
)
def test_how_long_requests_are(
    version: str, status: list[int], zeroes: list[int], discards: list[int]
) -> None:
    """As long as the block layer wants them where both ends have extended headers (block/nbd.c,
    nbd_refresh_limits, 10.0); qemu-img map of 10.0 was seen to ask for the status of 8 GiB at once."""
    host, asked = MemoryHost(), []  # type: tuple[MemoryHost, list[Request]]
    machine = Machine(load(version), host)
    host.servers["/s"] = lambda receive: Told(machine.scheduler, receive, asked)

    def lengths(request) -> list[int]:  # type: ignore[no-untyped-def]
        asked.clear()
        machine.scheduler.run_until(machine.spawn(request, "request"))
        return [each.length for each in asked]

    server = {"type": "unix", "path": "/s"}
    assert lengths(machine.graph.open({"driver": "nbd", "node-name": "n", "server": server})) == []
    driver = machine.graph.nodes["n"].driver
    assert lengths(driver.block_status(0, 8 << 30, True)) == status
    assert lengths(driver.write_zeroes(0, 6 << 30, MAY_UNMAP)) == zeroes
    assert lengths(driver.discard(0, 6 << 30)) == discards
