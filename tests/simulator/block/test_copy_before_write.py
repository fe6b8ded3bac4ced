"""The copy-before-write filter: a reader of the point in time sees the disk as it was at T0, in any order of
events."""

from __future__ import annotations

import errno

import pytest
from fleecing_disk import CLUSTER, OVERLAY_TARGET, SECOND, WRITER, FleecingDisk, errno_of

from simulator.block import permissions
from simulator.block.bitmap import DirtyBitmap
from simulator.block.errors import QmpError
from simulator.block.rules import rules_of
from simulator.versions import load

SIZES = [4 * CLUSTER, 3 * CLUSTER + 1536]


@pytest.mark.parametrize("size", SIZES)
def test_readers_of_snapshot_access_see_t0(size):
    for seed in range(60):
        disk = FleecingDisk(size, seed)
        disk.play(disk.reader)
        assert disk.cbw.in_flight == 0
        assert all(not node.requests for node in disk.graph.nodes.values())


@pytest.mark.parametrize("size", SIZES)
def test_readers_of_an_overlay_of_the_running_disk_see_t0(size):
    for seed in range(40):
        disk = FleecingDisk(size, seed, OVERLAY_TARGET)
        disk.play(disk.backend("t", permissions.CONSISTENT_READ))


def failing_write(disk, number=errno.EIO):
    """Let every write to the target fail."""

    async def write(offset, payload, flags):
        raise OSError(number, "injected")

    disk.graph.nodes["t"].driver.write = write


def test_a_failing_target_breaks_the_guests_write_and_keeps_the_point_in_time():
    disk = FleecingDisk()
    failing_write(disk)
    assert disk.errno_of(disk.guest.write(0, b"x" * 512)) == errno.EIO
    assert disk.run(disk.reader.read(0, disk.size)) == disk.t0
    assert disk.content() == disk.t0


def test_break_snapshot_lets_the_guest_write_and_loses_the_point_in_time():
    disk = FleecingDisk(**{"on-cbw-error": "break-snapshot"})
    failing_write(disk)
    disk.run(disk.guest.write(0, b"x" * 512))
    assert disk.content() == b"x" * 512 + disk.t0[512:]
    # Not only where it failed: all of it.
    assert disk.errno_of(disk.reader.read(2 * CLUSTER, 512)) == errno.EACCES


@pytest.mark.parametrize("policy", ["break-guest-write", "break-snapshot"])
def test_a_slow_target_times_out(policy):
    disk = FleecingDisk(**{"on-cbw-error": policy, "cbw-timeout": 1})
    slow(disk, 3 * SECOND)
    guest = disk.start(errno_of(disk.guest.write(0, b"x" * 512)))
    disk.scheduler.advance_to(SECOND - 1)
    assert not guest.done()
    disk.scheduler.advance_to(SECOND)
    assert guest.result() == (errno.ETIMEDOUT if policy == "break-guest-write" else 0)
    # The copy goes on, and the filter is busy until it has ended.
    assert disk.cbw.in_flight == 1
    disk.scheduler.advance_to(3 * SECOND)
    assert disk.cbw.in_flight == 0


def test_a_version_keeps_the_time_limit_in_32_bits_of_nanoseconds():
    # block/copy-before-write.c:44, 7.2: 5 s are 5000000000 - 2^32 ns.
    disk = FleecingDisk(rules=rules_of(load("7.2")), **{"cbw-timeout": 5})
    slow(disk, 3 * SECOND)
    guest = disk.start(errno_of(disk.guest.write(0, b"x" * 512)))
    disk.scheduler.advance_to(705_032_703)
    assert not guest.done()
    disk.scheduler.advance_to(705_032_704)
    assert guest.result() == errno.ETIMEDOUT
    disk.scheduler.advance_to(4 * SECOND)


def test_a_version_answers_from_the_source_what_goes_beyond_a_copy():
    # util/hbitmap.c:334, 7.2. The real binary does the same: see the conformance tests of exports.
    disk = FleecingDisk(rules=rules_of(load("7.2")))
    disk.run(disk.guest.write(CLUSTER, b"x" * CLUSTER))
    assert disk.run(disk.reader.read(CLUSTER, CLUSTER)) == disk.t0[CLUSTER : 2 * CLUSTER]
    assert disk.run(disk.reader.read(CLUSTER, CLUSTER + 512)) == b"x" * CLUSTER + disk.t0[2 * CLUSTER :][:512]


def slow(disk, duration_ns):
    driver = disk.graph.nodes["t"].driver
    write = driver.write

    async def delayed(offset, payload, flags):
        await disk.scheduler.sleep(duration_ns)
        await write(offset, payload, flags)

    driver.write = delayed


def test_a_guests_write_waits_for_a_read_of_what_it_overwrites():
    disk = FleecingDisk()
    driver = disk.graph.nodes["a"].driver
    read = driver.read

    async def delayed(offset, length):
        await disk.scheduler.sleep(SECOND)
        return await read(offset, length)

    driver.read = delayed
    reading = disk.start(disk.reader.read(0, 512))
    disk.scheduler.run_ready()
    driver.read = read
    guest = disk.start(disk.guest.write(0, b"x" * 512))
    elsewhere = disk.start(disk.guest.write(CLUSTER, b"y" * 512))
    disk.scheduler.run_ready()
    assert elsewhere.done()
    assert not guest.done()
    disk.scheduler.advance_to(SECOND)
    assert reading.result() == disk.t0[:512]
    assert guest.done()


def test_discard_through_snapshot_access_ends_reading_and_copying_of_whole_clusters():
    disk = FleecingDisk()
    writer = disk.backend("sa", WRITER)
    disk.run(writer.discard(512, 2 * CLUSTER))
    assert disk.errno_of(disk.reader.read(CLUSTER + 512, 512)) == errno.EACCES
    assert disk.run(disk.reader.read(0, CLUSTER)) == disk.t0[:CLUSTER]
    assert disk.run(disk.reader.read(2 * CLUSTER, CLUSTER)) == disk.t0[2 * CLUSTER : 3 * CLUSTER]
    disk.run(disk.guest.write(CLUSTER, b"x" * CLUSTER))
    assert disk.run(disk.graph.nodes["t"].read(CLUSTER, CLUSTER)) == bytes(CLUSTER)


def test_snapshot_access_refuses_writes():
    disk = FleecingDisk()
    writer = disk.backend("sa", WRITER)
    for coroutine in (writer.write(0, b"x" * 512), writer.write_zeroes(0, 512)):
        assert disk.errno_of(coroutine) == errno.ENOTSUP


def test_snapshot_access_over_another_node_opens_and_fails_to_read():
    disk = FleecingDisk()
    disk.add("other", driver="snapshot-access", file="t")
    reader = disk.backend("other", permissions.CONSISTENT_READ)
    assert disk.errno_of(reader.read(0, 512)) == errno.ENOTSUP


def mark_second_cluster(disk):
    DirtyBitmap(disk.graph.nodes["a"], "b", CLUSTER).set(CLUSTER, CLUSTER)


def test_a_bitmap_limits_what_is_kept_and_readable():
    disk = FleecingDisk(prepare=mark_second_cluster, bitmap={"node": "a", "name": "b"})
    disk.run(disk.guest.write(0, b"x" * disk.size))
    assert disk.run(disk.reader.read(CLUSTER, CLUSTER)) == disk.t0[CLUSTER : 2 * CLUSTER]
    assert disk.run(disk.graph.nodes["t"].read(0, CLUSTER)) == bytes(CLUSTER)
    for offset in (0, CLUSTER - 512, 2 * CLUSTER - 512):
        assert disk.errno_of(disk.reader.read(offset, 1024)) == errno.EACCES


def test_the_filter_shuts_out_writers_below_it_once_it_has_a_parent():
    disk = FleecingDisk()
    with pytest.raises(QmpError) as refused:
        disk.backend("a", WRITER)
    assert refused.value.desc == (
        "Permission conflict on node 'a': permissions 'write' are both required by an unnamed block device "
        "(uses node 'a' as 'root' child) and unshared by node 'c' (uses node 'a' as 'file' child)."
    )


def test_closing_the_filter_leaves_no_bitmap():
    disk = FleecingDisk()
    assert len(disk.graph.nodes["a"].bitmaps) == 1
    for backend in (disk.guest, disk.reader):
        disk.run(backend.remove())
    for name in ("sa", "c"):
        node = disk.graph.nodes[name]
        node.monitor_owned = False
        disk.run(disk.graph.release(node))
    assert disk.graph.nodes["a"].bitmaps == []
    assert [name for name in disk.graph.nodes if not name.startswith("#")] == ["a", "t"]


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (65535, "min-cluster-size needs to be a power of 2"),
        (1 << 63, "min-cluster-size too large: 9223372036854775808 > 9223372036854775807"),
    ],
)
def test_least_clusters_that_cannot_be(asked, refusal):
    disk = FleecingDisk()
    for name in ("source", "copy"):
        disk.add(name, driver="null-co", size=disk.size)
    options = {"driver": "copy-before-write", "file": "source", "target": "copy", "min-cluster-size": asked}
    with pytest.raises(QmpError) as caught:
        disk.run(disk.graph.open(options))
    # As answered by QEMU 10.0.13 and 11.1.3.
    assert caught.value.desc == f"Cannot create block-copy-state: {refusal}"
