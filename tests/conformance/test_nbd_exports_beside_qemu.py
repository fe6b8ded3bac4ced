"""What clients see of exports beside the real QEMU 7.2: flags, bytes, block status of every context,
errors."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from qemu_pair import BINARY, DEADLINE_S, RealQemu, Simulated, Step
from test_exports_and_filters import MIB, add, create, file_of, null

from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import open_export
from simulator.wire.nbd.messages import ConnectionEnded, Ready, Reply

CLUSTER = 1 << 16


class Client:
    """One connection; `exchange` sends bytes and returns what came back so far."""

    def __init__(self, name: str, contexts: tuple[str, ...]) -> None:
        self.wire = open_export(name, contexts)
        self.ready = self.until(Ready)

    def until(self, kind: type) -> Any:
        """The next event of that kind, or the end of the connection."""
        payload = b"".join(self.wire.take_output())
        while True:
            for event in self.wire.receive_data(self.exchange(payload)):
                if isinstance(event, kind | ConnectionEnded):
                    return event
            payload = b"".join(self.wire.take_output())

    def exchange(self, payload: bytes) -> bytes:
        raise NotImplementedError

    def ask(self, kind: int, offset: int, length: int, payload: bytes | None, flags: int) -> Any:
        """What the reply says; None if the connection ended instead."""
        self.wire.request(kind, offset, length, payload, flags)
        reply = self.until(Reply)
        if isinstance(reply, ConnectionEnded):
            return None
        return reply.error, reply.text, bytes(reply.payload), reply.extents


class RealClient(Client):
    def __init__(self, path: str, name: str, contexts: tuple[str, ...]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(path)
        super().__init__(name, contexts)

    def exchange(self, payload: bytes) -> bytes:
        if payload:
            self.socket.sendall(payload)
        received = self.socket.recv(1 << 20)
        if not received:
            self.wire.receive_eof()
            raise EOFError
        return received

    def until(self, kind: type) -> Any:
        try:
            return super().until(kind)
        except EOFError:
            return ConnectionEnded("the server closed the connection")


class SimulatedClient(Client):
    def __init__(self, simulated: Simulated, name: str, contexts: tuple[str, ...]) -> None:
        self.machine = simulated.machine
        self.connection = self.machine.connect_nbd()
        super().__init__(name, contexts)

    def exchange(self, payload: bytes) -> bytes:
        if payload:
            self.connection.receive(payload)
        self.machine.run_for(0)
        output = self.connection.output()
        assert output or self.connection.closed, "the simulator has not answered"
        if not output:
            raise EOFError
        return output

    def until(self, kind: type) -> Any:
        try:
            return super().until(kind)
        except EOFError:
            return ConnectionEnded("the server closed the connection")


class Pair:
    """Both machines with the same nodes, and clients of both."""

    def __init__(self, directory: Path) -> None:
        if shutil.which(BINARY) is None:
            pytest.skip(f"{BINARY} is not installed: apt install qemu-system-x86")
        self.path = str(directory / "nbd")
        self.simulated, self.real = Simulated(directory), RealQemu(directory)
        self._clients: dict[str, tuple[Client, Client]] = {}

    def run(self, *steps: Step) -> None:
        for command, arguments in steps:
            ours, theirs = self.simulated.run(command, arguments), self.real.run(command, arguments)
            assert ours == theirs == {}, (command, arguments, ours, theirs)
            self.real.events(len(self.simulated.events()))

    def serve(self, *exports: dict[str, Any]) -> None:
        self.run(("nbd-server-start", {"addr": {"type": "unix", "data": {"path": self.path}}}))
        for export in exports:
            self.run(("block-export-add", {"type": "nbd", "id": f"e-{export['node-name']}", **export}))

    def open(self, name: str, *contexts: str) -> None:
        ours = SimulatedClient(self.simulated, name, contexts)
        theirs = RealClient(self.path, name, contexts)
        self._clients[name] = ours, theirs
        said = [
            (ready.size, ready.flags, ready.contexts, ready.block_sizes, ready.description)
            for ready in (ours.ready, theirs.ready)
        ]
        assert said[0] == said[1]

    def ask(
        self, name: str, kind: int, offset: int, length: int = 0, payload: bytes | None = None, flags: int = 0
    ) -> Any:
        """The reply, the same from both."""
        ours, theirs = (
            client.ask(kind, offset, length or len(payload or b""), payload, flags)
            for client in self._clients[name]
        )
        assert ours == theirs, (name, kind, offset, length, flags)
        return ours

    def close(self) -> None:
        for _, theirs in self._clients.values():
            assert isinstance(theirs, RealClient)
            theirs.socket.close()
        self.real.close()


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    both = Pair(tmp_path)
    yield both
    both.close()


ALL = ("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b")
RANGES = [(0, 4 * MIB), (0, 512), (CLUSTER - 512, 1024), (MIB + 100, 3), (3 * MIB, MIB), (4 * MIB - 1, 1)]


def compare_status(pair: Pair, name: str) -> None:
    for offset, length in RANGES:
        for flags in (0, nbd.CMD_FLAG_REQ_ONE):
            pair.ask(name, nbd.CMD_BLOCK_STATUS, offset, length, flags=flags)


def compare_bytes(pair: Pair, name: str) -> None:
    """After the status: reading puts pages into the host's cache, and then ext4 calls zeroed ranges data."""
    for offset, length in RANGES:
        for flags in (0, nbd.CMD_FLAG_DF):
            pair.ask(name, nbd.CMD_READ, offset, length, flags=flags)


def test_status_of_a_chain_of_overlays_in_every_context(pair: Pair, tmp_path: Path) -> None:
    base, middle, top = (tmp_path / f"{name}.qcow2" for name in ("base", "middle", "top"))
    for path in (base, middle, top):
        pair.run(*create(path, 4 * MIB, format="qcow2"))
    pair.run(
        add("qcow2", "base", file=file_of(base)),
        add("qcow2", "middle", file=file_of(middle), backing="base", discard="unmap"),
        ("block-dirty-bitmap-add", {"node": "middle", "name": "b", "granularity": 4096}),
    )
    pair.serve({"node-name": "base", "writable": True}, {"node-name": "middle", "writable": True})
    pair.open("base")
    pair.open("middle")
    for offset in range(0, 3 * MIB, 5 * CLUSTER):
        pair.ask("base", nbd.CMD_WRITE, offset, payload=b"b" * 3 * CLUSTER)
    pair.ask("middle", nbd.CMD_WRITE, CLUSTER + 512, payload=b"m" * 1024)
    pair.ask("middle", nbd.CMD_WRITE_ZEROES, 6 * CLUSTER, 3 * CLUSTER)
    pair.ask("middle", nbd.CMD_WRITE_ZEROES, 12 * CLUSTER, CLUSTER, flags=nbd.CMD_FLAG_NO_HOLE)
    pair.ask("middle", nbd.CMD_TRIM, 16 * CLUSTER, 2 * CLUSTER)
    pair.ask("middle", nbd.CMD_FLUSH, 0)
    pair.run(
        ("block-dirty-bitmap-disable", {"node": "middle", "name": "b"}),
        add("qcow2", "top", file=file_of(top), backing="middle", read_only=True),
        (
            "block-export-add",
            {
                "type": "nbd",
                "id": "t",
                "node-name": "top",
                "bitmaps": ["b"],
                "allocation-depth": True,
                "description": "d",
            },
        ),
    )
    pair.open("top", *ALL)
    compare_status(pair, "top")
    compare_bytes(pair, "top")


def test_status_of_plain_files_and_their_odd_ends(pair: Pair, tmp_path: Path) -> None:
    raw = tmp_path / "odd.raw"
    pair.run(*create(raw, 4 * MIB), add("raw", "r", file=file_of(raw)))
    pair.run(null("n", read_zeroes=True), null("m"))
    pair.serve(
        {"node-name": "r", "writable": True, "allocation-depth": True},
        {"node-name": "n", "allocation-depth": True},
        {"node-name": "m", "writable": True},
    )
    pair.open("r", *ALL[:2])
    pair.open("n", *ALL[:2])
    pair.open("m", *ALL[:1])
    pair.ask("r", nbd.CMD_WRITE, MIB, payload=b"r" * CLUSTER)
    pair.ask("r", nbd.CMD_WRITE, 4 * MIB - 512, payload=b"r" * 512)
    pair.ask("r", nbd.CMD_WRITE_ZEROES, MIB + 4096, 8192)
    compare_status(pair, "r")
    compare_bytes(pair, "r")
    for name in ("n", "m"):
        for offset, length in ((0, MIB), (512, 100)):
            pair.ask(name, nbd.CMD_BLOCK_STATUS, offset, length)


def test_the_point_in_time_through_snapshot_access(pair: Pair, tmp_path: Path) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    pair.run(
        *create(source, 4 * MIB),
        *create(target, 4 * MIB),
        add("raw", "s", file=file_of(source)),
        add("raw", "t", file=file_of(target), discard="unmap"),
    )
    pair.serve({"node-name": "s", "writable": True})
    pair.open("s")
    for offset in range(0, 4 * MIB, 3 * CLUSTER):
        pair.ask("s", nbd.CMD_WRITE, offset, payload=bytes([offset // CLUSTER + 1]) * CLUSTER)
    pair.run(("nbd-server-stop", {}))
    pair.run(
        add("copy-before-write", "c", file="s", target="t", discard="unmap"),
        add("snapshot-access", "sa", file="c", discard="unmap"),
    )
    pair.serve(
        {"node-name": "c", "writable": True},
        {"node-name": "sa", "writable": True, "allocation-depth": True},
    )
    pair.open("c", ALL[0])
    pair.open("sa", *ALL[:2])
    before = [pair.ask("sa", nbd.CMD_READ, offset, CLUSTER)[2] for offset in range(0, 4 * MIB, CLUSTER)]
    pair.ask("c", nbd.CMD_WRITE, CLUSTER - 512, payload=b"g" * 1024)
    pair.ask("c", nbd.CMD_WRITE, 6 * CLUSTER, payload=b"h" * 2 * CLUSTER)
    pair.ask("c", nbd.CMD_TRIM, 20 * CLUSTER, 3 * CLUSTER)
    pair.ask("c", nbd.CMD_WRITE_ZEROES, 3 * CLUSTER, 2 * CLUSTER)
    compare_status(pair, "sa")
    compare_status(pair, "c")
    # Reads that go beyond what has been copied get the guest's new bytes on 7.2 (util/hbitmap.c:334); those
    # that keep inside one cluster do not.
    assert pair.ask("sa", nbd.CMD_READ, 0, 4 * MIB, flags=nbd.CMD_FLAG_DF)[2] != b"".join(before)
    for number, cluster in enumerate(before):
        for flags in (0, nbd.CMD_FLAG_DF):
            assert pair.ask("sa", nbd.CMD_READ, number * CLUSTER, CLUSTER, flags=flags)[2] == cluster
    compare_bytes(pair, "c")


def test_what_snapshot_access_refuses(pair: Pair) -> None:
    pair.run(
        null("s", read_zeroes=True),
        null("t"),
        add("copy-before-write", "c", file="s", target="t"),
        add("snapshot-access", "sa", file="c", discard="unmap"),
    )
    pair.serve({"node-name": "sa", "writable": True})
    pair.open("sa", ALL[0])
    pair.ask("sa", nbd.CMD_WRITE, 0, payload=b"x" * 512)
    pair.ask("sa", nbd.CMD_WRITE_ZEROES, 0, 512)
    pair.ask("sa", nbd.CMD_TRIM, 8 * CLUSTER, 2 * CLUSTER)
    for kind, flags in ((nbd.CMD_READ, 0), (nbd.CMD_READ, nbd.CMD_FLAG_DF), (nbd.CMD_BLOCK_STATUS, 0)):
        for offset in (7 * CLUSTER, 8 * CLUSTER, 9 * CLUSTER, 10 * CLUSTER):
            for length in (CLUSTER, CLUSTER + 512):
                pair.ask("sa", kind, offset, length, flags=flags)
    pair.ask("sa", nbd.CMD_CACHE, 0, CLUSTER)
    pair.ask("sa", nbd.CMD_CACHE, 8 * CLUSTER, CLUSTER)


def test_snapshot_access_over_a_node_without_a_point_in_time(pair: Pair) -> None:
    pair.run(null("a"), add("snapshot-access", "sa", file="a"))
    pair.serve({"node-name": "sa"})
    pair.open("sa", ALL[0])
    pair.ask("sa", nbd.CMD_READ, 0, 512)
    pair.ask("sa", nbd.CMD_READ, 0, 512, flags=nbd.CMD_FLAG_DF)
    pair.ask("sa", nbd.CMD_BLOCK_STATUS, 0, 512)


@pytest.mark.parametrize(("most", "writable"), [(0, True), (1, True), (1, False), (7, False)])
def test_flags(pair: Pair, most: int, writable: bool) -> None:
    address = {"type": "unix", "data": {"path": pair.path}}
    pair.run(
        null("a"),
        ("nbd-server-start", {"addr": address, "max-connections": most}),
        ("block-export-add", {"type": "nbd", "id": "e", "node-name": "a", "writable": writable}),
    )
    pair.open("a")


@pytest.mark.parametrize("discard", ["ignore", "unmap"])
def test_a_client_unmaps_whatever_the_node_was_opened_with(pair: Pair, tmp_path: Path, discard: str) -> None:
    """Also in a file that ends within a sector, and neither grows nor is data up to the sector's end."""
    odd, image = tmp_path / "odd.raw", tmp_path / "image.qcow2"
    pair.run(
        *create(odd, 4 * MIB - 105),
        *create(image, 4 * MIB, format="qcow2"),
        add("raw", "r", file=file_of(odd), discard=discard),
        add("file", "f", filename=str(odd), discard=discard, locking="off"),
        add("qcow2", "q", file=file_of(image), discard=discard),
    )
    pair.serve(*({"node-name": name, "writable": True} for name in ("r", "f", "q")))
    for name in ("r", "f", "q"):
        pair.open(name, *ALL[:1])
        pair.ask(name, nbd.CMD_WRITE, 0, payload=b"w" * 4 * CLUSTER)
        pair.ask(name, nbd.CMD_WRITE_ZEROES, 0, CLUSTER)
        pair.ask(name, nbd.CMD_WRITE_ZEROES, 9 * CLUSTER, CLUSTER, flags=nbd.CMD_FLAG_NO_HOLE)
        pair.ask(name, nbd.CMD_WRITE_ZEROES, 4 * MIB - 512, 512)
        pair.ask(name, nbd.CMD_TRIM, 3 * CLUSTER, CLUSTER)
        compare_status(pair, name)
        pair.ask(name, nbd.CMD_WRITE, 4 * MIB - 512, payload=b"e" * 400)
        pair.ask(name, nbd.CMD_BLOCK_STATUS, 4 * MIB - 1024, 1024)
    for name in ("r", "f", "q"):
        compare_bytes(pair, name)
