"""The shared NBD session: in many interleavings of the scheduler, and on asyncio with a real qemu-nbd."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections import deque

import pytest

from scenarios.backends.interface import NbdFailed
from scenarios.backends.nbd_client import Client, connect, list_exports, raw
from simulator.engine.chance import Chance
from simulator.engine.scheduler import Scheduler
from simulator.engine.task import Future
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.connection import CLOSED
from simulator.wire.nbd.messages import ExportInfo, Request
from simulator.wire.nbd.server import ServerConnection

SIZE = 1 << 16
FLAGS = nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH | nbd.FLAG_SEND_TRIM | nbd.FLAG_SEND_WRITE_ZEROES
INFO = ExportInfo("disk", SIZE, FLAGS, max_block=4096, contexts=("base:allocation", "qemu:dirty-bitmap:b0"))


class Loopback:
    """Transport to a server in memory, which answers each request after a time drawn from the seed."""

    def __init__(self, scheduler, chunk_bytes=1 << 20):
        self.scheduler, self.chunk_bytes = scheduler, chunk_bytes
        self.server = ServerConnection({"disk": INFO, "": INFO}.get, lambda: [INFO])
        self.content = bytearray(range(256)) * (SIZE // 256)
        self.inbox, self.reader, self.readers, self.closed = deque(), None, 0, False
        self.lengths, self.broken, self.sending = [], False, False
        self.deliver()

    def new_future(self):
        return Future("a reply")

    async def send(self, payload):
        assert not self.sending, "two senders at a time"
        if self.broken:
            raise BrokenPipeError("broken by the test")
        self.sending = True
        await self.scheduler.sleep(self.scheduler.chance.below(3) if self.scheduler.chance else 0)
        self.sending = False
        for event in self.server.receive_data(bytes(payload)):
            if type(event) is Request:
                self.lengths.append(event.length)
                self.scheduler.spawn(self.answer(event), "answer")
        self.deliver()

    async def answer(self, request):
        await self.scheduler.sleep(self.scheduler.chance.below(100) if self.scheduler.chance else 1)
        start, end = request.offset, request.offset + request.length
        if request.kind == nbd.CMD_READ:
            self.server.reply_read(request, [(request.length, bytes(self.content[start:end]))])
        elif request.kind == nbd.CMD_BLOCK_STATUS:
            # Less than was asked, or, as the protocol allows for the last extent, more.
            runs = [(500, start // 4096), (500, 7)]
            self.server.reply_block_status(request, {0: runs[: 1 + (request.length > 500)], 2: [(5000, 1)]})
        elif request.kind == nbd.CMD_FLUSH:
            self.server.reply_error(request, 28)
        else:
            self.content[start:end] = (
                request.payload if request.kind == nbd.CMD_WRITE else bytes(request.length)
            )
            self.server.reply_done(request)
        self.deliver()

    def deliver(self):
        sent = b"".join(self.server.take_output())
        self.inbox.extend(
            sent[start : start + self.chunk_bytes] for start in range(0, len(sent), self.chunk_bytes)
        )
        if self.reader and (self.inbox or self.server.state == CLOSED):
            reader, self.reader = self.reader, None
            reader.set_result()

    async def receive(self):
        assert self.reader is None, "two readers at a time"
        if not self.inbox and self.server.state != CLOSED and not self.closed:
            self.reader = Future("bytes")
            await self.reader
        return self.inbox.popleft() if self.inbox and not self.closed else b""

    def close(self):
        self.closed = True
        self.server.close()
        self.deliver()


def run(body, seed=None, chunk_bytes=1 << 20):
    scheduler = Scheduler(None if seed is None else Chance(seed))
    transport = Loopback(scheduler, chunk_bytes)
    return scheduler.run_until(scheduler.spawn(body(scheduler, transport), "test"), 10**9)


def on_loopback(*arguments, **options):
    """Run an async test with (scheduler, transport) and wait for all it spawned."""

    def decorate(body):
        def test():
            run(body, *arguments, **options)

        return test

    return decorate


async def failure_of(awaitable):
    with pytest.raises(NbdFailed) as caught:
        await awaitable
    return caught.value.errno_name, str(caught.value)


@on_loopback()
async def test_what_the_server_says(scheduler, transport):
    client = await connect(transport, "disk", ["base:allocation"])
    assert (client.size, client.flags, client.contexts) == (
        SIZE,
        FLAGS | nbd.FLAG_SEND_DF,
        {"base:allocation": 0},
    )
    assert client.block_sizes == (1, 4096, 4096)
    await client.disconnect()
    assert transport.closed


@on_loopback(chunk_bytes=1)
async def test_long_requests_are_split(scheduler, transport):
    client = await connect(transport, "disk")
    assert await client.read(100, 10_000) == transport.content[100:10_100]
    assert transport.lengths == [4096, 4096, 1808]
    await client.write(50, b"x" * 5000)
    assert transport.content[49:5051] == b"\x31" + b"x" * 5000 + b"\xba"
    await client.zero(100, 8192)
    await client.trim(60, 5)
    assert transport.content[59:66] == b"x" + bytes(5) + b"x"
    assert transport.lengths[-4:] == [4096, 904, 8192, 5]
    assert await client.read(0, 0) == b""


@on_loopback()
async def test_extents_cover_the_range_and_no_more(scheduler, transport):
    client = await connect(transport, "disk", ["base:allocation", "qemu:dirty-bitmap:b0"])
    assert await client.block_status("base:allocation", 3000, 2100) == [
        (3000, 500, 0), (3500, 500, 7), (4000, 500, 0), (4500, 500, 7), (5000, 100, 1),
    ]  # fmt: skip
    assert await client.block_status("qemu:dirty-bitmap:b0", 0, 12_000) == [(0, 12_000, 1)]
    assert (await failure_of(client.block_status("zork", 0, 1)))[0] == "EINVAL"


@on_loopback()
async def test_errors(scheduler, transport):
    client = await connect(transport, "disk")
    assert await failure_of(client.flush()) == ("ENOSPC", "ENOSPC: flush failed")
    past = "EINVAL: operation past EOF; From: 65536, Len: 1, Size: 65536"
    assert await failure_of(client.read(SIZE, 1)) == ("EINVAL", past)
    assert await client.read(0, 2) == b"\0\1"


@on_loopback()
async def test_refusals(scheduler, transport):
    name, text = await failure_of(connect(transport, "zork"))
    assert (name, text) == ("NBD_REP_ERR_UNKNOWN", "NBD_REP_ERR_UNKNOWN: export 'zork' not present")
    assert transport.closed
    assert await list_exports(Loopback(scheduler)) == ["disk"]
    ended = Loopback(scheduler)
    ended.close()
    assert (await failure_of(connect(ended, "disk")))[0] == "EOF"
    garbage = Loopback(scheduler)
    garbage.inbox = deque([b"HTTP/1.1 400 Bad Request"])
    assert (await failure_of(list_exports(garbage)))[0] == "EPROTO"


@on_loopback()
async def test_raw(scheduler, transport):
    assert await raw(transport, b"\0\0\0\3IHAVEOPT\0\0\0\2\0\0\0\0") == (
        b"NBDMAGICIHAVEOPT\0\3\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\2\0\0\0\1\0\0\0\0"
    )


@pytest.mark.parametrize("seed", range(40))
def test_many_share_a_session(seed):
    async def body(scheduler, transport):
        client = await connect(transport, "disk", ["base:allocation"])

        async def lane(number):
            start = number * 8192
            for turn in range(5):
                await client.write(start + turn, bytes([number * 16 + turn]) * 5000)
                got = await client.read(start, 8192)
                assert got == transport.content[start : start + 8192]
                assert got[turn : turn + 5000] == bytes([number * 16 + turn]) * 5000
                assert (await failure_of(client.flush()))[0] == "ENOSPC"

        tasks = [scheduler.spawn(lane(number), f"lane {number}") for number in range(8)]
        for task in tasks:
            await task
        assert client._sleepers == client._replies == {}

    run(body, seed, chunk_bytes=1 + seed * 50)


@pytest.mark.parametrize("seed", range(40))
def test_killed_readers_do_not_hold_up_the_others(seed):
    async def body(scheduler, transport):
        client = await connect(transport, "disk")

        async def lane(number):
            assert (
                await client.read(number * 100, 100) == transport.content[number * 100 : number * 100 + 100]
            )
            return number

        tasks = [scheduler.spawn(lane(number), f"lane {number}") for number in range(10)]
        while len(transport.lengths) < 10:
            await scheduler.sleep(1)
        killed = {scheduler.chance.below(10) for _ in range(5)}
        for number in sorted(killed):
            if transport.reader and tasks[number].waits_for is transport.reader:
                transport.reader = None
            tasks[number].kill()
        for number, task in enumerate(tasks):
            assert await task == (None if number in killed and task.result() is None else number)

    run(body, seed)


@pytest.mark.parametrize("seed", range(20))
def test_everybody_hears_of_the_end(seed):
    async def body(scheduler, transport):
        client = await connect(transport, "disk")
        tasks = [scheduler.spawn(failure_of(client.read(number, 1)), "reader") for number in range(6)]
        await scheduler.sleep(1 + scheduler.chance.below(3))
        transport.server.close()
        transport.inbox.clear()
        transport.deliver()
        names = {(await task)[0] for task in tasks if not task.done() or isinstance(task.result(), tuple)}
        assert names == {"EOF"}
        assert (await failure_of(client.read(0, 1)))[0] == "EOF"

    async def patient(scheduler, transport):
        transport.answer = lambda request: scheduler.sleep(10**6)
        await body(scheduler, transport)

    run(patient, seed)


@on_loopback()
async def test_a_broken_transport(scheduler, transport):
    client = await connect(transport, "disk")
    waiting = scheduler.spawn(failure_of(client.read(0, 1)), "waits")
    await scheduler.sleep(0)
    transport.broken = True
    assert await failure_of(client.read(0, 1)) == ("EOF", "broken by the test")
    assert await waiting == ("EOF", "broken by the test")


@on_loopback()
async def test_drop(scheduler, transport):
    client = await connect(transport, "disk")
    await client.drop(after_request=(4096, 77))
    assert (transport.lengths, transport.closed) == ([77], True)
    assert (await failure_of(client.read(0, 1)))[0] == "EOF"


# -- on asyncio, with a real server


class SocketTransport:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self.loop = asyncio.get_running_loop()

    def new_future(self):
        return self.loop.create_future()

    async def send(self, payload):
        await self.loop.sock_sendall(self.socket, payload)

    async def receive(self):
        return await self.loop.sock_recv(self.socket, 1 << 18)

    def close(self):
        self.socket.close()


@pytest.fixture
def real_server(tmp_path):
    assert shutil.which("qemu-nbd"), "qemu-nbd is not installed: apt install qemu-utils"
    image, path = tmp_path / "disk.raw", tmp_path / "s"
    image.write_bytes(bytes(range(256)) * (1 << 14))
    process = subprocess.Popen(["qemu-nbd", "-k", path, "-f", "raw", "-t", "-e", "5", "-x", "disk", image])
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, "qemu-nbd did not open its socket"
        time.sleep(0.01)
    yield path
    process.terminate()
    process.wait()


def test_asyncio_tasks_share_a_session_with_a_real_server(real_server):
    async def body():
        client = await connect(SocketTransport(real_server), "disk", ["base:allocation"])
        assert type(client) is Client
        expected = bytes(range(256)) * (1 << 14)

        async def reader(number):
            offset = number * 1001
            assert await client.read(offset, 100_000) == expected[offset : offset + 100_000]

        tasks = [asyncio.create_task(reader(number)) for number in range(64)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # the one that reads
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result for result in results[1:] if result is not None] == []
        assert await client.block_status("base:allocation", 0, client.size) == [(0, client.size, 0)]
        await client.write(5000, b"x" * 10_000, fua=True)
        assert (
            await client.read(4999, 10_002) == expected[4999:5000] + b"x" * 10_000 + expected[15_000:15_001]
        )
        await client.disconnect()
        assert await list_exports(SocketTransport(real_server)) == ["disk"]
        sent = await raw(SocketTransport(real_server), b"\0\0\0\3GET / HTTP/1.1\r\n\r\n")
        assert sent == b"NBDMAGICIHAVEOPT\0\3"

    asyncio.run(asyncio.wait_for(body(), 20))
