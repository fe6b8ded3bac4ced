"""A disk with a copy-before-write filter on it and readers of its point in time, for the tests of this
folder."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.driver import MAY_UNMAP
from simulator.block.drivers import qcow2_create
from simulator.block.graph import Graph
from simulator.block.memory_host import MemoryHost
from simulator.engine.chance import Chance
from simulator.engine.scheduler import Scheduler

CLUSTER = 64 * 1024
SECOND = 1_000_000_000
WRITER = permissions.CONSISTENT_READ | permissions.WRITE
RAW_TARGET = {"driver": "raw", "discard": "unmap", "file": {"driver": "file", "filename": "/t"}}
OVERLAY_TARGET = {"driver": "qcow2", "backing": "a", "file": {"driver": "file", "filename": "/t"}}


async def errno_of(request):
    """What a request failed with, or 0."""
    try:
        await request
    except OSError as error:
        return error.errno
    return 0


class FleecingDisk:
    """Source `a` under filter `c` with target `t`, and `sa` which shows the point in time.

    `prepare(disk)` runs before the filter is there. With a seed, tasks run in an order drawn from it. `guest`
    is the disk's user, `reader` one of `sa`.
    """

    def __init__(
        self, size=4 * CLUSTER, seed=None, target=RAW_TARGET, prepare=None, rules=None, **cbw_options
    ):
        self.size = size
        self.chance = Chance(seed or 0)
        self.scheduler = Scheduler(None if seed is None else Chance(seed))
        self.host = MemoryHost()
        self.graph = Graph(self.scheduler, self.host, Chance(1))
        if rules is not None:
            self.graph.rules = rules
        self.t0 = b"".join(bytes([sector * 7 % 251 + 1]) * 512 for sector in range(size // 512))
        self.host.write_all("/a", self.t0)
        self.add("a", driver="raw", discard="unmap", file={"driver": "file", "filename": "/a"})
        self._make_target(target)
        self.add("t", **target)
        if prepare is not None:
            prepare(self)
        self.cbw = self.add(
            "c", driver="copy-before-write", discard="unmap", file="a", target="t", **cbw_options
        )
        self.add("sa", driver="snapshot-access", discard="unmap", file="c")
        self.guest = self.backend("c", WRITER)
        self.reader = self.backend("sa", permissions.CONSISTENT_READ)

    def _make_target(self, target):
        self.host.write_all("/t", b"")
        file = self.add("tfile", driver="file", filename="/t")
        if target["driver"] == "qcow2":
            self.run(qcow2_create.create(self.graph, file, {"size": self.size}))
        else:
            self.run(file.truncate(self.size))
        file.monitor_owned = False
        self.run(self.graph.release(file))

    def run(self, coroutine):
        """The coroutine's result, with all else running too. A test that needs more than a second of virtual
        time hangs."""
        return self.scheduler.run_until(
            self.scheduler.spawn(coroutine, "test"), self.scheduler.now_ns + 100 * SECOND
        )

    def errno_of(self, request):
        return self.run(errno_of(request))

    def start(self, coroutine):
        return self.scheduler.spawn(coroutine, "started by the test")

    def add(self, node_name, **options):
        node = self.run(self.graph.open({"node-name": node_name, **options}))
        node.monitor_owned = True
        return node

    def backend(self, node_name, perm):
        backend = BlockBackend(self.graph, "", perm, permissions.ALL)
        backend.insert(self.graph.nodes[node_name])
        return backend

    def content(self):
        """What the source holds now."""
        return self.run(self.graph.nodes["a"].read(0, self.size))

    # -- random use
    async def play_guest(self, shadow, first, last, count, chance):
        """Random writes, zeroes and discards inside [first, last), noted in `shadow`."""
        for step in range(count):
            offset = first + chance.below((last - first) // 512) * 512
            length = min(512 * (1 + chance.below(160)), last - offset)
            kind = chance.below(4)
            payload = bytes(length) if kind < 2 else bytes([1 + (step * 31 + first // 512) % 255]) * length
            if kind == 0:
                await self.guest.discard(offset, length)
            elif kind == 1:
                await self.guest.write_zeroes(offset, length, chance.choose((0, MAY_UNMAP)))
            else:
                await self.guest.write(offset, payload)
            shadow[offset : offset + length] = payload

    async def read_point_in_time(self, reader, count, chance):
        """Random reads, each compared with the disk at T0."""
        for _ in range(count):
            offset = chance.below(self.size // 512) * 512
            length = min(512 * (1 + chance.below(300)), self.size - offset)
            assert await reader.read(offset, length) == self.t0[offset : offset + length], (offset, length)

    def play(self, reader):
        """Two guests that want one cluster in the middle both, and three readers, all at once."""
        shadow = bytearray(self.t0)
        middle = self.size // 1024 * 512 - 1024
        guests = [(0, middle), (middle, self.size)]
        tasks = [self.start(self.play_guest(shadow, *part, 12, self.chance.split())) for part in guests]
        tasks += [self.start(self.read_point_in_time(reader, 12, self.chance.split())) for _ in range(3)]
        for task in tasks:
            self.scheduler.run_until(task, SECOND)
        assert self.run(reader.read(0, self.size)) == self.t0
        assert self.content() == shadow
