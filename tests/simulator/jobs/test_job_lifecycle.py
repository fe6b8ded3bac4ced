"""Whatever commands come in whatever order and interleaving: every job lives by the table and leaves
nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from job_bench import MIB, Bench

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.engine.chance import Chance
from simulator.engine.task import interleave
from simulator.jobs.status import TRANSITIONS

JOBS = ("j0", "j1")
OUTCOMES = {"BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"}

backups = st.fixed_dictionaries(
    {
        "job-id": st.sampled_from(JOBS),
        "sync": st.sampled_from(["none", "full", "top", "incremental"]),
        "speed": st.sampled_from([0, 1, 256 * 1024]),
        "auto-finalize": st.booleans(),
        "auto-dismiss": st.booleans(),
    }
)
on_jobs = st.tuples(
    st.sampled_from(["cancel", "pause", "resume", "finalize", "dismiss", "complete"]), st.sampled_from(JOBS)
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("backup"), backups),
        st.tuples(st.just("both"), st.tuples(backups, st.booleans())),
        on_jobs,
        st.tuples(st.just("speed"), st.tuples(st.sampled_from(JOBS), st.sampled_from([0, 1, MIB]))),
        st.tuples(st.just("turns"), st.integers(1, 40)),
        st.tuples(st.just("time"), st.sampled_from([10**6, 10**8, 3 * 10**9])),
        st.tuples(st.just("drain"), st.none()),
    ),
    max_size=12,
)


def backup_on(disk: int, options: dict[str, Any]) -> dict[str, Any]:
    given = {**options, "device": f"s{disk}", "target": f"t{disk}"}
    if given["sync"] == "incremental":
        given["bitmap"] = "b"
    return given


async def run_step(bench: Bench, step: tuple[str, Any]) -> None:
    """One step; a refusal is a legal outcome of each."""
    kind, what = step
    if kind == "turns":
        for _ in range(what):
            await interleave()
    elif kind == "time":
        await bench.scheduler.sleep(what)
    elif kind == "drain":
        async with bench.graph.drained_all():
            await interleave()
    elif kind == "backup":
        await bench.command("blockdev-backup", backup_on(JOBS.index(what["job-id"]), what))
    elif kind == "both":
        options, grouped = what
        actions = [
            {"type": "blockdev-backup", "data": {**backup_on(disk, options), "job-id": JOBS[disk]}}
            for disk in (0, 1)
        ]
        properties = {"completion-mode": "grouped" if grouped else "individual"}
        await bench.command("transaction", {"actions": actions, "properties": properties})
    elif kind == "speed":
        await bench.command("block-job-set-speed", {"device": what[0], "speed": what[1]})
    else:
        await bench.command(f"job-{kind}", {"id": what})


def check_lives(events: list[tuple[str, dict[str, Any], int]]) -> None:
    """Each job from created to null by the table, with one outcome if it ever ran."""
    statuses: dict[str, list[str]] = {}
    outcomes: dict[str, int] = {}
    for name, members, _ in events:
        job_id = members.get("id", members.get("device"))
        assert isinstance(job_id, str)
        if name == "JOB_STATUS_CHANGE":
            if members["status"] == "created":
                statuses[job_id], outcomes[job_id] = ["undefined"], 0
            assert members["status"] in TRANSITIONS[statuses[job_id][-1]]
            statuses[job_id].append(members["status"])
            if members["status"] == "null":
                assert outcomes[job_id] == ("running" in statuses[job_id])
        elif name in OUTCOMES:
            outcomes[job_id] += 1
            assert statuses[job_id][-1] in ("pending", "aborting")
    assert all(life[-1] == "null" for life in statuses.values())


@settings(max_examples=300, deadline=None)
@given(steps=steps, seed=st.none() | st.integers(0, 2**32))
def test_every_job_lives_by_the_table_and_leaves_nothing(
    steps: list[tuple[str, Any]], seed: int | None
) -> None:
    bench = Bench()
    guests = []
    for disk in (0, 1):
        source = bench.raw(f"s{disk}")
        bench.run(source.write(0, b"\x01" * MIB))
        bench.raw(f"t{disk}")
        bench.call("block-dirty-bitmap-add", node=f"s{disk}", name="b")
        guest = BlockBackend(bench.graph, "", permissions.WRITE, permissions.ALL)
        guest.insert(source)
        guests.append(guest)
    nodes = list(bench.graph.nodes)
    bench.scheduler.chance = Chance(seed) if seed is not None else None

    async def guest_writes() -> None:
        for number in range(60):
            await guests[number % 2].write(number * 4096, bytes([number]) * 512)

    async def all_steps() -> None:
        for step in steps:
            with suppress(QmpError):
                await run_step(bench, step)
        await bench.jobs.cancel_all()

    guest_task = bench.scheduler.spawn(guest_writes(), "guest")
    steps_task = bench.scheduler.spawn(all_steps(), "steps")
    bench.scheduler.run_until(steps_task)
    bench.scheduler.run_until(guest_task)
    bench.scheduler.run_ready()
    check_lives(bench.outbox.events)
    assert bench.jobs.by_age == []
    assert list(bench.graph.nodes) == nodes
    for node in bench.graph.nodes.values():
        assert (node.in_flight, node.quiesce_count, node.op_blockers) == (0, 0, [])
        assert all(not bitmap.busy and bitmap.name is not None for bitmap in node.bitmaps)
    assert [guest.node for guest in guests] == [bench.graph.nodes["s0"], bench.graph.nodes["s1"]]
