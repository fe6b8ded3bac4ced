"""Streams, commits and mirrors under a guest that writes all the while, in any interleaving.

The disk shows what the guest wrote, and a mirror is the same as its source.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_bench import Bench

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.node import Node
from simulator.engine.chance import Chance
from simulator.jobs.rules import JobRules
from simulator.jobs.status import VERBS

CLUSTER = 4096
CLUSTERS = 48
SIZE = CLUSTER * CLUSTERS

MS = 1_000_000
CHANGES = ("created", "running", "paused", "ready", "standby")
WRITE_BLOCKING = {"type": "mirror", "copy-mode": "write-blocking"}
# (offset, length, byte, milliseconds until the next one)
Writes = list[tuple[int, int, int, int]]

writes = st.lists(
    st.tuples(
        st.integers(0, SIZE // 512 - 1),
        st.integers(1, 40),
        st.integers(1, 255),
        st.sampled_from([0, 0, 1, 40]),
    ).map(lambda drawn: (drawn[0] * 512, min(drawn[1] * 512, SIZE - drawn[0] * 512), *drawn[2:])),
    max_size=12,
)
runs = st.fixed_dictionaries({
    "layers": st.lists(writes, min_size=3, max_size=3),
    "wanted": writes,
    "seed": st.integers(0, 2**32),
    "speed": st.sampled_from([0, SIZE, SIZE * 4]),
    "is_patient": st.booleans(),
})  # fmt: skip


class Disk:
    """A chain base <- mid <- top of small clusters with a guest on it, and what must be read there."""

    def __init__(self, layers: list[Writes], rules: JobRules | None = None) -> None:
        self.bench = Bench(rules)
        self.held = bytearray(SIZE)
        below: str | None = None
        for name, layer in zip(("base", "mid", "top"), layers, strict=True):
            node = self.image(name, below)
            for offset, length, value, _ in layer:
                self.bench.run(node.write(offset, bytes([value]) * length))
                self.held[offset : offset + length] = bytes([value]) * length
            below = name
        self.guest = BlockBackend(
            self.bench.graph, "", permissions.WRITE | permissions.CONSISTENT_READ, permissions.ALL
        )
        self.guest.insert(self.bench.graph.nodes["top"])

    def image(self, name: str, backing: str | None) -> Node:
        bench = self.bench
        bench.raw(f"{name}-file", 0)
        options = {"driver": "qcow2", "file": f"{name}-file", "size": SIZE, "cluster-size": CLUSTER}
        bench.call("blockdev-create", job_id="make", options=options)
        assert bench.jobs.get("make").error is None
        bench.call("job-dismiss", id="make")
        return bench.add(name, driver="qcow2", size=None, file=f"{name}-file", backing=backing)

    async def guest_writes(self, wanted: Writes) -> None:
        for offset, length, value, pause_ms in wanted:
            payload = bytes([value]) * length
            await self.guest.write(offset, payload)
            self.held[offset : offset + length] = payload
            await self.bench.scheduler.sleep(pause_ms * MS)

    def run(
        self,
        command: str,
        arguments: dict[str, Any],
        drawn: dict[str, Any],
        change_after_ms: int | None = None,
    ) -> None:
        """The job and the guest at once; the job is completed as soon as it is ready, or if `is_patient`,
        after the guest's last write. After `change_after_ms` a mirror is told to take the guest's writes."""
        bench = self.bench
        bench.scheduler.chance = Chance(drawn["seed"])

        async def job() -> None:
            await bench.command(command, {"job-id": "j", "speed": drawn["speed"], **arguments})
            if change_after_ms is not None:
                await bench.scheduler.sleep(change_after_ms * MS)
                if (changed := bench.jobs.find("j")) is not None and changed.status in CHANGES:
                    await bench.command("block-job-change", {"id": "j", **WRITE_BLOCKING})
            while (found := bench.jobs.find("j")) is not None:
                if found.status == "ready" and (written.done() or not drawn["is_patient"]):
                    await bench.command("job-complete", {"id": "j"})
                await bench.scheduler.sleep(MS)

        written = bench.scheduler.spawn(self.guest_writes(drawn["wanted"]), "guest")
        bench.scheduler.run_until(bench.scheduler.spawn(job(), "job"))
        bench.scheduler.run_until(written)

    def check(self) -> None:
        assert self.bench.run(self.guest.read(0, SIZE)) == bytes(self.held)
        for node in self.bench.graph.nodes.values():
            assert (node.in_flight, node.quiesce_count, len(node.requests)) == (0, 0, 0)
            assert not any(edge.frozen for edge in node.children.values())
        assert self.bench.jobs.by_age == []


@pytest.mark.parametrize("arguments", [{}, {"base-node": "base"}], ids=["all", "part"])
@settings(max_examples=40, deadline=None)
@given(drawn=runs)
def test_a_stream_changes_nothing(arguments: dict[str, Any], drawn: dict[str, Any]) -> None:
    disk = Disk(drawn["layers"])
    disk.run("block-stream", {"device": "top", **arguments}, drawn)
    disk.check()
    top = disk.bench.graph.nodes["top"]
    assert top.backing is (disk.bench.graph.nodes["base"] if arguments else None)


@settings(max_examples=40, deadline=None)
@given(drawn=runs)
def test_a_commit_changes_nothing(drawn: dict[str, Any]) -> None:
    disk = Disk(drawn["layers"])
    disk.run("block-commit", {"device": "top", "top-node": "mid"}, drawn)
    disk.check()
    assert disk.bench.graph.nodes["top"].backing is disk.bench.graph.nodes["base"]


@settings(max_examples=40, deadline=None)
@given(drawn=runs)
def test_an_active_commit_puts_all_into_the_base(drawn: dict[str, Any]) -> None:
    disk = Disk(drawn["layers"])
    disk.run("block-commit", {"device": "top"}, drawn)
    disk.check()
    assert disk.guest.node is disk.bench.graph.nodes["base"]


@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
@settings(max_examples=40, deadline=None)
@given(drawn=runs, granularity=st.sampled_from([512, 4096, 65536]))
def test_a_mirror_is_the_same(copy_mode: str, drawn: dict[str, Any], granularity: int) -> None:
    disk = Disk(drawn["layers"])
    target = disk.image("target", None)
    arguments = {
        "device": "top", "target": "target", "sync": "full", "copy-mode": copy_mode,
        "granularity": granularity,
    }  # fmt: skip
    disk.run("blockdev-mirror", arguments, drawn)
    disk.check()
    assert disk.guest.node is target


@settings(max_examples=60, deadline=None)
@given(
    drawn=runs,
    granularity=st.sampled_from([512, 4096, 65536]),
    change_after_ms=st.sampled_from([0, 1, 20, 100]),
)
def test_a_mirror_that_changes_its_copy_mode_is_the_same(
    drawn: dict[str, Any], granularity: int, change_after_ms: int
) -> None:
    disk = Disk(drawn["layers"], JobRules(verbs={**VERBS, "change": CHANGES}))
    target = disk.image("target", None)
    arguments = {"device": "top", "target": "target", "sync": "full", "granularity": granularity}
    disk.run("blockdev-mirror", arguments, drawn, change_after_ms)
    disk.check()
    assert disk.guest.node is target


def test_a_mirror_that_takes_writes_is_actively_synced_once_it_has_noticed() -> None:
    """block/mirror.c:1098@10.0: in its next turn, and not any more after a write that it has only noted."""
    bench = Bench(JobRules(verbs={**VERBS, "change": CHANGES}, shows_actively_synced=True))
    source, target = bench.raw("s"), bench.raw("t")
    guest = BlockBackend(bench.graph, "", permissions.WRITE, permissions.ALL)
    guest.insert(source)
    bench.call("blockdev-mirror", device="s", target="t", sync="full", job_id="j")

    def synced() -> bool:
        bench.run(bench.scheduler.sleep(200 * MS))
        (shown,) = bench.call("query-block-jobs")
        return bool(shown["actively-synced"])

    assert not synced()
    bench.call("block-job-change", id="j", type="mirror", copy_mode="write-blocking")
    assert synced()
    bench.run(guest.write(0, b"\x11" * 65536))
    bench.run(guest.write_zeroes(4096, 8192, 0))
    assert bench.call("query-block-jobs")[0]["actively-synced"]
    wanted = b"\x11" * 4096 + bytes(8192) + b"\x11" * (65536 - 12288)
    assert bench.run(target.read(0, 65536)) == bench.run(source.read(0, 65536)) == wanted
    refusal = bench.error("block-job-change", id="j", type="mirror", copy_mode="background")
    assert refusal == "Change to copy mode 'background' is not implemented"
    bench.call("block-job-cancel", device="j")
