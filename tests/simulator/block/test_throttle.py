"""Throttled nodes: when a request goes through, computed by hand from util/throttle.c's leaky bucket."""

from __future__ import annotations

from fleecing_disk import SECOND

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.graph import Graph
from simulator.block.memory_host import MemoryHost
from simulator.block.throttle_groups import ThrottleGroup
from simulator.engine.chance import Chance
from simulator.engine.scheduler import Scheduler


class Throttled:
    """`count` throttle nodes in one group, each with a user."""

    def __init__(self, count=1, **limits):
        self.scheduler = Scheduler()
        self.graph = Graph(self.scheduler, MemoryHost(), Chance(1))
        self.group = ThrottleGroup(
            self.scheduler, "g", {"limits": {k.replace("_", "-"): v for k, v in limits.items()}}
        )
        self.graph.throttle_groups["g"] = self.group
        self.users = []
        self.done_ns = []
        for _ in range(count):
            options = {
                "driver": "throttle",
                "throttle-group": "g",
                "file": {"driver": "null-co", "size": 1 << 30},
            }
            node = self.scheduler.run_until(self.scheduler.spawn(self.graph.open(options), "open"))
            user = BlockBackend(
                self.graph, "", permissions.CONSISTENT_READ | permissions.WRITE, permissions.ALL
            )
            user.insert(node)
            self.users.append(user)

    def write(self, length, user=0):
        self._start(self.users[user].write(0, bytes(length)))

    def read(self, length):
        self._start(self.users[0].read(0, length))

    def _start(self, request):
        async def timed():
            await request
            self.done_ns.append(self.scheduler.now_ns)

        self.scheduler.spawn(timed(), "request")
        self.scheduler.run_ready()

    def until(self, when_ns):
        self.scheduler.advance_to(when_ns)
        return self.done_ns


def test_bytes_beyond_a_tenth_of_a_seconds_worth_wait():
    disk = Throttled(bps_total=1000)
    # The first fills the bucket to 1000 of 100; the next waits until it has leaked to 100: 900 bytes at 1000
    # a second.
    disk.write(1000)
    disk.write(50)
    assert disk.until(0) == [0]
    assert disk.until(899_999_999) == [0]
    assert disk.until(900_000_000) == [0, 900_000_000]


def test_reads_and_writes_have_limits_of_their_own():
    disk = Throttled(bps_write=1000)
    disk.write(1000)
    disk.write(1)
    disk.read(1 << 20)
    disk.read(1 << 20)
    assert disk.until(0) == [0, 0, 0]
    assert disk.until(SECOND) == [0, 0, 0, 900_000_000]


def test_operations_are_counted_by_size():
    disk = Throttled(iops_total=10, iops_size=512)
    # 1024 bytes are two operations: one more than the bucket takes, a tenth of a second too early for the
    # next.
    disk.write(1024)
    disk.write(512)
    disk.write(512)
    assert disk.until(SECOND) == [0, 100_000_000, 200_000_000]


def test_members_of_a_group_take_turns():
    disk = Throttled(count=2, iops_total=10)
    order = []
    for number in range(4):
        user = number % 2

        async def timed(user=user):
            await disk.users[user].write(0, bytes(512))
            order.append((user, disk.scheduler.now_ns))

        disk.scheduler.spawn(timed(), "request")
    disk.until(SECOND)
    assert order == [(0, 0), (1, 0), (0, 100_000_000), (1, 200_000_000)]


def test_a_drained_section_lets_all_waiting_requests_go():
    disk = Throttled(bps_total=1)
    disk.write(1000)
    disk.write(1000)
    disk.write(1000)
    node = disk.users[0].node

    async def drain():
        async with disk.graph.drained(node):
            pass

    disk.scheduler.run_until(disk.scheduler.spawn(drain(), "drain"), 1)
    assert disk.done_ns == [0, 0, 0]


def test_no_limit_is_no_wait():
    disk = Throttled()
    for _ in range(5):
        disk.write(1 << 20)
    assert disk.until(0) == [0] * 5
