"""What a backup copies, when, and how fast: against a plain list of clusters."""

from __future__ import annotations

from typing import Any

import pytest
from job_bench import MIB, Bench

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.node import Node
from simulator.jobs.rules import JobRules

CLUSTER = 65536
SIZE = 4 * MIB


def guest_on(bench: Bench, node: Node) -> BlockBackend:
    """A writer, as a guest's disk is."""
    guest = BlockBackend(bench.graph, "", permissions.WRITE | permissions.CONSISTENT_READ, permissions.ALL)
    guest.insert(node)
    return guest


def content(bench: Bench, node: Node) -> bytes:
    payload = bench.run(node.read(0, node.size_bytes))
    assert isinstance(payload, bytes)
    return payload


def patterned(bench: Bench, name: str, size_bytes: int = SIZE) -> tuple[Node, bytes]:
    """A raw node each of whose clusters holds its own number, and what it holds."""
    payload = b"".join(bytes([number % 251 + 1]) * CLUSTER for number in range(-(-size_bytes // CLUSTER)))[
        :size_bytes
    ]
    node = bench.raw(name, size_bytes)
    bench.run(node.write(0, payload))
    return node, payload


@pytest.mark.parametrize("size_bytes", [SIZE, SIZE - 512, 512, CLUSTER + 512])
def test_a_full_backup_is_the_source(size_bytes: int) -> None:
    bench = Bench()
    _, payload = patterned(bench, "s", size_bytes)
    target = bench.raw("t", size_bytes)
    bench.call("blockdev-backup", device="s", target="t", sync="full", job_id="j")
    assert bench.events()[-4:] == ["j pending", "COMPLETED j", "j concluded", "j null"]
    assert content(bench, target) == payload


def test_the_copy_is_of_the_moment_the_job_was_made() -> None:
    """A guest overwrites every third cluster while a slow job copies; the target never sees it."""
    bench = Bench()
    source, payload = patterned(bench, "s")
    target = bench.raw("t", SIZE)
    guest = guest_on(bench, source)
    bench.call("blockdev-backup", device="s", target="t", sync="full", job_id="j", speed=MIB)
    for cluster in range(0, SIZE // CLUSTER, 3):
        bench.run(guest.write(cluster * CLUSTER + 100, b"\xff" * 1000))
    assert bench.jobs.get("j").status == "running"
    bench.scheduler.advance_to(bench.scheduler.now_ns + 60 * 10**9)
    assert bench.jobs.find("j") is None
    assert content(bench, target) == payload
    now = bytearray(payload)
    for cluster in range(0, SIZE // CLUSTER, 3):
        now[cluster * CLUSTER + 100 : cluster * CLUSTER + 1100] = b"\xff" * 1000
    assert content(bench, source) == bytes(now)


def test_speed_is_kept_in_virtual_time() -> None:
    bench = Bench()
    bench.add("s", size=64 * MIB)
    bench.add("t", size=64 * MIB)
    start_ns = bench.scheduler.now_ns
    bench.call("blockdev-backup", device="s", target="t", sync="full", job_id="j", speed=8 * MIB)
    job = bench.jobs.get("j")
    for second in range(1, 7):
        bench.scheduler.advance_to(start_ns + second * 10**9)
        # A slice may begin with a whole chunk beyond its quota.
        assert abs(job.progress.current - second * 8 * MIB) <= 2 * MIB
    bench.scheduler.advance_to(start_ns + 9 * 10**9)
    assert bench.jobs.find("j") is None


def test_a_paused_job_stands_still_until_resumed() -> None:
    bench = Bench()
    bench.add("s", size=64 * MIB)
    bench.add("t", size=64 * MIB)
    bench.call("blockdev-backup", device="s", target="t", sync="full", job_id="j", speed=8 * MIB)
    bench.scheduler.advance_to(10**9)
    bench.call("job-pause", id="j")
    job = bench.jobs.get("j")
    before = job.progress.current
    bench.scheduler.advance_to(100 * 10**9)
    assert job.progress.current == before > 0
    bench.call("job-resume", id="j")
    bench.scheduler.advance_to(110 * 10**9)
    assert bench.jobs.find("j") is None


@pytest.mark.parametrize("mode", ["on-success", "always"])
def test_an_incremental_backup_copies_the_dirty_clusters_and_the_next_one_what_came_after(mode: str) -> None:
    bench = Bench()
    source, _ = patterned(bench, "s")
    target = bench.raw("t", SIZE)
    bench.call("block-dirty-bitmap-add", node="s", name="b", granularity=CLUSTER)
    bench.run(source.write(3 * CLUSTER, b"\x77" * CLUSTER))
    bench.call(
        "blockdev-backup", device="s", target="t", sync="bitmap", bitmap="b", bitmap_mode=mode, job_id="j"
    )
    expected = bytearray(SIZE)
    expected[3 * CLUSTER : 4 * CLUSTER] = b"\x77" * CLUSTER
    assert content(bench, target) == bytes(expected)
    bench.run(source.write(9 * CLUSTER, b"\x78" * 10))
    assert [bitmap.count_bytes for bitmap in source.bitmaps if bitmap.name == "b"] == [CLUSTER]


def fleece(bench: Bench) -> tuple[Node, BlockBackend, bytes]:
    """(target above the source, guest on the filter's other side, content at the point in time)."""
    source, payload = patterned(bench, "s")
    guest = guest_on(bench, source)
    file = {"driver": "file", "filename": "/t"}
    bench.call("blockdev-create", job_id="c", options={"driver": "file", "filename": "/t", "size": 0})
    bench.call("job-dismiss", id="c")
    bench.call("blockdev-create", job_id="c", options={"driver": "qcow2", "file": file, "size": SIZE})
    bench.call("job-dismiss", id="c")
    target = bench.add("t", driver="qcow2", size=None, file=file, backing="s")
    return target, guest, payload


def test_fleecing_shows_the_moment_it_began_and_lets_go_when_cancelled() -> None:
    bench = Bench()
    target, guest, payload = fleece(bench)
    nodes = list(bench.graph.nodes)
    bench.call("blockdev-backup", device="s", target="t", sync="none", job_id="j")
    bench.run(guest.write(5 * CLUSTER - 100, b"\xee" * 200))
    bench.run(guest.write(SIZE - 512, b"\xee" * 512))
    assert content(bench, target) == payload
    bench.call("job-cancel", id="j")
    assert list(bench.graph.nodes) == nodes
    assert guest.node is bench.graph.nodes["s"]
    for node in bench.graph.nodes.values():
        blocked = [reason for reason, _ in node.op_blockers]
        assert blocked in ([], ["node is used as backing hd of 't'"])


def test_block_job_complete_ends_fleecing_in_the_dialect_of_the_rfc_only() -> None:
    bench = Bench(JobRules(complete_ends_fleecing=True))
    target, guest, payload = fleece(bench)
    bench.call("blockdev-backup", device="s", target="t", sync="none", job_id="j")
    bench.run(guest.write(0, b"\xee" * 512))
    assert content(bench, target) == payload
    bench.events()
    bench.call("block-job-complete", device="j")
    assert bench.events() == ["j waiting", "j pending", "COMPLETED j", "j concluded", "j null"]
    assert guest.node is bench.graph.nodes["s"]
    refusal = "Job 'j' in state 'running' cannot accept command verb 'complete'"
    bench.call("blockdev-backup", device="s", target="t", sync="full", job_id="j", speed=1)
    assert bench.error("block-job-complete", device="j") == refusal
    plain = Bench()
    fleece(plain)
    plain.call("blockdev-backup", device="s", target="t", sync="none", job_id="j")
    assert plain.error("block-job-complete", device="j") == refusal


def test_drive_backup_to_a_drive_is_of_the_rfc_only() -> None:
    arguments: dict[str, Any] = {
        "device": "s",
        "target": "target0",
        "mode": "drive",
        "sync": "none",
        "job_id": "j",
    }
    bench = Bench(JobRules(target_by_device=True))
    target, guest, payload = fleece(bench)
    drive = BlockBackend(bench.graph, "target0", permissions.CONSISTENT_READ, permissions.ALL)
    drive.insert(target)
    bench.graph.backends["target0"] = drive
    bench.call("drive-backup", **arguments)
    bench.run(guest.write(0, b"\xee" * 512))
    assert content(bench, target) == payload
    assert bench.error("drive-backup", **{**arguments, "target": "zork"}).startswith(
        "Cannot find device='zork'"
    )


@pytest.mark.parametrize("keeps", [True, False])
def test_a_refused_image_lets_the_source_go_unless_the_version_forgets(keeps: bool) -> None:
    """blockdev.c:1735,1834,1881@5.2: what drained the source is noted too late for the clean-up."""
    bench = Bench(JobRules(refused_image_keeps_drained=keeps))
    source = bench.raw("s")
    drive = {"device": "s", "sync": "full", "format": "raw", "mode": "existing", "job_id": "j"}
    assert "No such file" in bench.error("drive-backup", target="/none", **drive)
    assert source.quiesce_count == int(keeps)
    # What is refused once there is an image is let go in every version.
    bench.host.write_all("/small", b"")
    assert bench.error("drive-backup", target="/small", **drive).endswith("different sizes")
    assert source.quiesce_count == int(keeps)


@pytest.mark.parametrize("discards", [True, False])
def test_what_is_copied_is_discarded_in_the_source_when_asked(discards: bool) -> None:
    """block/block-copy.c:611@10.0: chunk by chunk, once it is in the target."""
    bench = Bench()
    source, payload = patterned(bench, "s")
    source.discard_unmap = source.children["file"].node.discard_unmap = True
    target = bench.raw("t", SIZE)
    bench.call("blockdev-backup", device="s", target="t", sync="full", job_id="j", discard_source=discards)
    assert bench.events()[-1] == "j null"
    assert content(bench, target) == payload
    assert content(bench, source) == (bytes(SIZE) if discards else payload)
