"""Servers of a disk's storage: nbdkit, and its like in virtual time, behave alike to a client."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from scenarios.backends import nbd_client
from scenarios.backends.asyncio_transport import connect_unix
from scenarios.backends.interface import NbdFailed, SetupError
from scenarios.backends.nbdkit import Nbdkit
from scenarios.backends.run_directory import RunDirectory, process_start_time
from scenarios.backends.sim_storage import SimStorage
from scenarios.backends.storage import served_bytes
from scenarios.language.steps import Disk, Fault
from simulator.block.errors import QmpError
from simulator.block.memory_host import MemoryHost
from simulator.engine.scheduler import Scheduler
from simulator.engine.task import Future

MIB = 1 << 20
MS = 1_000_000
DISK = Disk(size=4 * MIB, format="raw")


class Place:
    """One server, and what a body needs of the world that it runs in."""

    server: Any
    connect: Callable[[], Coroutine[Any, Any, nbd_client.Client]]
    sleep: Callable[[int], Coroutine[Any, Any, None]]
    spawn: Callable[[Coroutine[Any, Any, Any]], Any]
    now_ns: Callable[[], int]


class Pipe:
    """A client's end of a simulated server (`Transport`)."""

    def __init__(self, host: MemoryHost, address: dict[str, Any]) -> None:
        self._bytes, self._ended = b"", False
        self._came: Future | None = None
        self._stream = host.connect(address, self._receive)

    def _receive(self, payload: bytes) -> None:
        self._bytes += payload
        self._ended = self._ended or not payload
        if self._came is not None and not self._came.done():
            self._came.set_result()

    async def send(self, payload: Any, /) -> None:
        self._stream.send([payload])

    async def receive(self) -> bytes:
        if not self._bytes and not self._ended:
            self._came = Future("bytes")
            await self._came
        payload, self._bytes = self._bytes, b""
        return payload

    async def peek(self) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        self._stream.close()

    def new_future(self) -> Future:
        return Future("a reply")


def on_simulator(fault: Fault, body: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    scheduler, host = Scheduler(), MemoryHost()
    host.open("/vda", create=True).truncate(DISK.size)
    place = Place()
    place.server = SimStorage(scheduler, host, "/socket", "/vda", DISK, fault)

    async def connect() -> nbd_client.Client:
        return await nbd_client.connect(Pipe(host, place.server.address), "")

    place.connect, place.sleep = connect, scheduler.sleep
    place.spawn = lambda coroutine: scheduler.spawn(coroutine, "a client")
    place.now_ns = lambda: scheduler.now_ns

    async def whole() -> None:
        await body(place)
        await place.server.close()

    scheduler.run_until(scheduler.spawn(whole(), "body"))
    assert host.servers == {}


def on_host(fault: Fault, body: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    async def whole(run: RunDirectory) -> None:
        image = run.machine / "vda"
        image.write_bytes(bytes(DISK.size))
        place = Place()
        place.server = server = Nbdkit(run, image, fault)
        await server.start()

        async def connect() -> nbd_client.Client:
            return await nbd_client.connect(await connect_unix(server.address["path"]), "")

        place.connect = connect
        place.sleep = lambda ns: asyncio.sleep(ns / 1e9)
        place.spawn, place.now_ns = asyncio.ensure_future, time.monotonic_ns
        await body(place)
        await server.close()
        assert os.listdir(run.machine) == ["vda"]
        assert not [name for name in os.listdir(run.path) if name not in ("machine", "owner", "children")]

    with RunDirectory() as run, asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(whole(run), 60))


both = pytest.mark.parametrize("where", [on_simulator, on_host], ids=["simulator", "host"])


async def taken_ns(place: Place, request: Coroutine[Any, Any, Any]) -> int:
    began_ns = place.now_ns()
    await request
    return place.now_ns() - began_ns


async def outcome(request: Coroutine[Any, Any, Any]) -> str:
    try:
        await request
    except NbdFailed as failed:
        return failed.errno_name
    return "done"


@both
def test_delay_is_of_every_read_and_write(where: Any) -> None:
    async def body(place: Place) -> None:
        client = await place.connect()
        for request in (client.read(0, 512), client.write(0, b"x" * 512), client.zero(0, 512)):
            assert 150 * MS <= await taken_ns(place, request) < 3000 * MS
        assert await taken_ns(place, client.flush()) < 150 * MS
        both_at_once = [place.spawn(client.read(at, 512)) for at in (0, 512)]
        began_ns = place.now_ns()
        for each in both_at_once:
            await each
        assert place.now_ns() - began_ns < 295 * MS

    where(Fault(disk="vda", delay=150 * MS), body)


@both
@pytest.mark.parametrize("on", ["read", "write", "write-zeroes", "discard", "flush"])
def test_errors_are_counted_by_kind(where: Any, on: str) -> None:
    async def body(place: Place) -> None:
        client = await place.connect()

        async def each_kind() -> dict[str, str]:
            return {
                "read": await outcome(client.read(0, 4096)),
                "write": await outcome(client.write(4096, b"x" * 4096)),
                "write-zeroes": await outcome(client.zero(8192, 4096)),
                "discard": await outcome(client.trim(16384, 4096)),
                "flush": await outcome(client.flush()),
            }

        done = dict.fromkeys(("read", "write", "write-zeroes", "discard", "flush"), "done")
        failed = {**done, on: "ENOSPC"}
        assert [await each_kind() for _ in range(4)] == [done, failed, failed, done]
        assert await client.read(4095, 4098) == b"\0" + b"x" * 4096 + b"\0"

    members: dict[str, Any] = {"disk": "vda", "over": "nbd", "on": on}
    where(Fault(**members, error="ENOSPC", skip=1, times=2), body)


@both
def test_paused_storage_answers_nothing_until_it_is_well(where: Any) -> None:
    async def body(place: Place) -> None:
        client = await place.connect()
        await client.write(0, b"x" * 512)
        await place.server.strike()
        reading, writing = place.spawn(client.read(0, 512)), place.spawn(client.write(0, b"y" * 512))
        await place.sleep(200 * MS)
        assert not reading.done()
        assert not writing.done()
        await place.server.heal()
        await writing
        assert await reading in (b"x" * 512, b"y" * 512)
        assert await client.read(0, 512) == b"y" * 512

    where(Fault(disk="vda", pause=True), body)


@both
def test_lost_storage_has_its_bytes_when_it_is_back(where: Any) -> None:
    async def body(place: Place) -> None:
        client = await place.connect()
        await client.write(0, b"x" * 512)
        await place.server.strike()
        assert await outcome(client.read(0, 512)) == "EOF"
        with pytest.raises((OSError, NbdFailed, QmpError)):
            await place.connect()
        await place.server.heal()
        again = await place.connect()
        assert await again.read(0, 512) == b"x" * 512
        await again.write(0, b"y" * 512)

    where(Fault(disk="vda", over="nbd", lost=True), body)


@both
def test_what_goes_beyond_two_seconds_worth_waits(where: Any) -> None:
    async def body(place: Place) -> None:
        client = await place.connect()
        assert await taken_ns(place, client.write(0, bytes(2 * MIB))) < 400 * MS
        assert 450 * MS <= await taken_ns(place, client.write(0, bytes(MIB // 2 + MIB // 4))) < 3000 * MS
        # Reading is counted by itself.
        assert await taken_ns(place, client.read(0, MIB)) < 400 * MS

    where(Fault(disk="vda", over="nbd", rate=MIB), body)


def test_an_image_that_grows_is_given_room() -> None:
    assert served_bytes("raw", 512, 512) == 512
    assert served_bytes("qcow2", MIB, 200_000) > 2 * MIB
    assert served_bytes("qcow2", MIB, 1 << 40) == 1 << 40


def test_nbdkit_goes_with_the_run() -> None:
    pids = []

    async def start(run: RunDirectory) -> None:
        image = run.machine / "vda"
        image.write_bytes(bytes(512))
        await Nbdkit(run, image, Fault(disk="vda", over="nbd")).start()
        pids.extend(int(line.split()[0]) for line in (run.path / "children").read_text().splitlines())

    with RunDirectory() as run, asyncio.Runner() as runner:
        runner.run(start(run))
        assert [process_start_time(pid) is not None for pid in pids] == [True]
    assert process_start_time(pids[0]) is None
    assert not run.path.exists()


def test_a_server_that_cannot_start_is_a_set_up_error(tmp_path: Path) -> None:
    async def start(run: RunDirectory) -> None:
        await Nbdkit(run, tmp_path / "nothing", Fault(disk="vda", delay=MS)).start()

    words = r"nbdkit .*nothing.*exited with status 1; standard error: "
    with RunDirectory() as run, asyncio.Runner() as runner, pytest.raises(SetupError, match=words):
        runner.run(start(run))
