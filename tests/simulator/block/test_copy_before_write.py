"""The copy-before-write filter under any order of events: a reader of the point in time sees the disk as it was at T0,
whatever the guest does meanwhile; and the guest's disk holds what the guest wrote."""

from __future__ import annotations

import errno

import pytest

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.driver import MAY_UNMAP
from simulator.block.graph import Graph
from simulator.block.host import MemoryHost
from simulator.engine.chance import Chance
from simulator.engine.scheduler import Scheduler
from simulator.engine.task import finish_now

KIB = 1024
CLUSTER = 64 * KIB
SECOND = 1_000_000_000
WRITER = permissions.CONSISTENT_READ | permissions.WRITE


class Disk:
    """Source `a` under filter `c` with target `t`, and `sa` which shows the point in time."""

    def __init__(self, size: int = 4 * CLUSTER, seed: int | None = None, target: dict | None = None, **options) -> None:
        self.chance = Chance(seed or 0)
        self.scheduler = Scheduler(None if seed is None else Chance(seed))
        self.host = MemoryHost()
        self.graph = Graph(self.scheduler, self.host, Chance(1))
        self.t0 = bytes((offset // 512 * 7 + 1) % 251 + 1 for offset in range(0, size, 512) for _ in range(512))
        self.host.write_all("/a", self.t0)
        self.host.write_all("/t", b"")
        self.add(driver="raw", **{"node-name": "a", "discard": "unmap", "file": {"driver": "file", "filename": "/a"}})
        file = self.host.open("/t")
        file.truncate(size)
        file.close()
        self.add(**(target or self.raw_target()), **{"node-name": "t", "discard": "unmap"})
        self.cbw = self.add(driver="copy-before-write", file="a", target="t", **options,
                            **{"node-name": "c", "discard": "unmap"})
        self.add(driver="snapshot-access", file="c", **{"node-name": "sa", "discard": "unmap"})
        self.guest = self.backend("c", WRITER)
        self.reader = self.backend("sa", permissions.CONSISTENT_READ)

    @staticmethod
    def raw_target() -> dict:
        return {"driver": "raw", "file": {"driver": "file", "filename": "/t"}}

    def run(self, coroutine):
        return self.scheduler.run_until(self.scheduler.spawn(coroutine, "test"), limit_ns=1000 * SECOND)

    def add(self, **options):
        node = self.run(self.graph.open(options))
        node.monitor_owned = True
        return node

    def backend(self, name: str, perm: int) -> BlockBackend:
        backend = BlockBackend(self.graph, "", perm, permissions.ALL)
        backend.insert(self.graph.nodes[name])
        return backend

    def content(self, name: str = "a") -> bytes:
        node = self.graph.nodes[name]
        return self.run(node.read(0, node.size_bytes))


async def play_guest(disk: Disk, chance: Chance, shadow: bytearray, first: int, last: int, count: int) -> None:
    """Random writes, zeroes and discards inside [first, last)."""
    for step in range(count):
        offset = first + chance.below((last - first) // 512) * 512
        length = min(512 * (1 + chance.below(160)), last - offset)
        kind = chance.below(4)
        if kind == 0:
            await disk.guest.discard(offset, length)
            shadow[offset : offset + length] = bytes(length)
        elif kind == 1:
            await disk.guest.write_zeroes(offset, length, chance.choose((0, MAY_UNMAP)))
            shadow[offset : offset + length] = bytes(length)
        else:
            payload = bytes([1 + (step * 31 + first // 512) % 255]) * length
            await disk.guest.write(offset, payload)
            shadow[offset : offset + length] = payload


async def read_point_in_time(disk: Disk, reader: BlockBackend, chance: Chance, count: int) -> None:
    size = len(disk.t0)
    for _ in range(count):
        offset = chance.below(size // 512) * 512
        length = min(512 * (1 + chance.below(300)), size - offset)
        assert await reader.read(offset, length) == disk.t0[offset : offset + length], (offset, length)


def play(disk: Disk, reader: BlockBackend) -> None:
    """Two guests in two halves (not on a cluster's edge, so that both want one cluster) and three readers."""
    size = len(disk.t0)
    shadow = bytearray(disk.t0)
    half = size // 2 // 512 * 512 - 1024
    tasks = [
        disk.scheduler.spawn(play_guest(disk, disk.chance.split(), shadow, 0, half, 12), "guest 1"),
        disk.scheduler.spawn(play_guest(disk, disk.chance.split(), shadow, half, size, 12), "guest 2"),
        *(
            disk.scheduler.spawn(read_point_in_time(disk, reader, disk.chance.split(), 12), f"reader {number}")
            for number in range(3)
        ),
    ]
    for task in tasks:
        disk.scheduler.run_until(task, limit_ns=SECOND)
    assert disk.run(reader.read(0, size)) == disk.t0
    assert disk.content() == shadow


@pytest.mark.parametrize("size", [4 * CLUSTER, 3 * CLUSTER + 1536])
def test_readers_of_snapshot_access_see_t0(size):
    for seed in range(60):
        disk = Disk(size, seed)
        play(disk, disk.reader)
        assert not disk.graph.nodes["a"].requests
        assert disk.graph.nodes["c"].in_flight == 0


@pytest.mark.parametrize("size", [4 * CLUSTER, 3 * CLUSTER + 1536])
def test_readers_of_an_overlay_of_the_running_disk_see_t0(size):
    from simulator.block.drivers import qcow2_create

    for seed in range(40):
        host = MemoryHost()
        target = {"driver": "qcow2", "backing": "a", "file": {"driver": "file", "filename": "/t"}}
        disk = _overlay_disk(size, seed, target, qcow2_create, host)
        play(disk, disk.backend("t", permissions.CONSISTENT_READ))


def _overlay_disk(size, seed, target, qcow2_create, host):
    class OverlayDisk(Disk):
        def add(self, **options):
            if options.get("node-name") == "t":
                make_qcow2(self, size)
            return super().add(**options)

    return OverlayDisk(size, seed, target)


def make_qcow2(disk: Disk, size: int) -> None:
    from simulator.block.drivers import qcow2_create

    options = {"driver": "qcow2", "file": "tfile", "size": size}
    node = disk.run(disk.graph.open({"driver": "file", "filename": "/t", "node-name": "tfile"}))
    node.monitor_owned = True
    disk.run(qcow2_create.create(disk.graph, options))
    node.monitor_owned = False
    disk.run(disk.graph.release(node))
