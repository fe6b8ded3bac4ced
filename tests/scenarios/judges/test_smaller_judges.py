"""nothing_left, expectations, maps, job_lifecycle, progress: what each must catch, and what is right."""

from __future__ import annotations

from typing import get_args

import pytest
from made_histories import DISK_BYTES, KIB, Made

from scenarios.judges import expectations, job_lifecycle, judge_all, judges, maps, nothing_left, progress
from scenarios.run.history import Missed, QmpExchange, Residue, ResidueKind, Unexpected

WHOLE_LIFE = ("created", "running", "paused", "running")


def explanations(judge, made):
    verdict = judge(made.history)
    assert verdict.outcome == ("invalid" if verdict.findings else "valid")
    assert all(finding.evidence for finding in verdict.findings)
    return [finding.explanation for finding in verdict.findings]


def test_every_judge_is_found_and_names_itself_as_its_file():
    assert {"point_in_time", "guest_intact", "nothing_left", "maps", "expectations", "job_lifecycle"} <= set(
        judges()
    )
    made = Made()
    assert [verdict.judge for verdict in judge_all(made.history)] == list(judges())


# ---------------------------------------------------------------- nothing_left


@pytest.mark.parametrize("kind", get_args(ResidueKind))
def test_a_leftover_of_each_kind(kind):
    made = Made()
    assert explanations(nothing_left.judge, made) == []
    made.add(Residue, kind=kind, name="forgotten", detail="of vda")
    assert explanations(nothing_left.judge, made) == [f"{kind} forgotten (of vda) is left"]


# ---------------------------------------------------------------- expectations


def test_an_expectation_that_did_not_hold():
    made = Made()
    made.add(Unexpected, verb="qmp", line=7, step="3", wanted="success", got="GenericError: no")
    assert explanations(expectations.judge, made) == [
        "step 3 (qmp, line 7): wanted success, got GenericError: no"
    ]


def test_a_deadline_that_passed():
    made = Made()
    made.add(Missed, waited_for="job j0 to be null", timeout_ns=10_000_000_000)
    assert explanations(expectations.judge, made) == ["waited 10 s for job j0 to be null"]


def test_a_machine_that_died():
    made = Made()
    made.machine_ends(status=-9)
    assert explanations(expectations.judge, made) == []
    made.machine_ends(expected=False, status=-6, stderr="Assertion `c' failed.")
    [words] = explanations(expectations.judge, made)
    assert "by signal 6" in words
    assert "Assertion `c' failed." in words


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize(
    "extents",
    [
        [],
        [(0, 4096, "data")],
        [(0, 4096, "data"), (8192, DISK_BYTES, "data")],
        [(512, DISK_BYTES, "data")],
        [(0, 8192, "data"), (4096, DISK_BYTES, "data")],
        [(0, DISK_BYTES + 1, "data")],
        [(0, 0, "data"), (0, DISK_BYTES, "data")],
    ],
)
def test_extents_that_do_not_tile_the_disk(extents):
    made = Made()
    made.point()
    made.maps(*extents)
    assert len(explanations(maps.judge, made)) == 1


def with_bitmap():
    made = Made()
    made.write(0, 4 * KIB, 0x11)
    made.command("block-dirty-bitmap-add", node="vda", name="b0")
    made.write(8 * KIB, 9 * KIB, 0x22)
    return made


CLEAN = ((0, DISK_BYTES, "clean"),)
DIRTY = ((0, 8 * KIB, "clean"), (8 * KIB, 12 * KIB, "dirty"), (12 * KIB, DISK_BYTES, "clean"))


def test_a_bitmap_that_names_what_was_written():
    made = with_bitmap()
    made.point()
    made.write(32 * KIB, 33 * KIB, 0x33)
    made.maps(*DIRTY, context="b0")
    assert explanations(maps.judge, made) == []


def test_a_bitmap_that_misses_a_write():
    made = with_bitmap()
    made.point()
    made.maps(*CLEAN, context="b0")
    assert explanations(maps.judge, made) == [
        "bitmap b0 calls 8192 to 9216 of vda clean, which the guest wrote"
    ]


def test_a_bitmap_that_misses_the_end_of_a_write():
    made = with_bitmap()
    made.write(11 * KIB, 13 * KIB, 0x33)
    made.point()
    made.maps(*DIRTY, context="b0")
    assert len(explanations(maps.judge, made)) == 1


@pytest.mark.parametrize("command", ["block-dirty-bitmap-clear", "block-dirty-bitmap-remove"])
def test_a_bitmap_that_was_cleared_or_removed_may_be_clean(command):
    made = with_bitmap()
    made.command(command, node="vda", name="b0")
    made.point()
    made.maps(*CLEAN, context="b0")
    assert explanations(maps.judge, made) == []


def test_a_bitmap_added_in_a_transaction():
    made = Made()
    add = {"type": "block-dirty-bitmap-add", "data": {"node": "vda", "name": "b0"}}
    made.command("transaction", actions=[add])
    made.write(0, 4 * KIB, 0x11)
    made.point()
    made.maps(*CLEAN, context="b0")
    assert len(explanations(maps.judge, made)) == 1


# ---------------------------------------------------------------- job_lifecycle


def cancelled():
    made = Made()
    made.job(*WHOLE_LIFE, "aborting")
    made.event("BLOCK_JOB_CANCELLED", device="j0")
    made.job("concluded", "null")
    return made


def test_whole_lives():
    made = cancelled()
    made.job(*WHOLE_LIFE, "waiting", "pending")
    made.event("BLOCK_JOB_COMPLETED", device="j0")
    made.job("concluded", "null")
    made.job("created", "aborting", "concluded", "null", job="aborted-by-its-transaction")
    made.command("blockdev-create", job_id="c0")
    made.job("created", "running", "waiting", "pending", "concluded", "null", job="c0")
    made.command("quit")
    made.machine_ends()
    assert explanations(job_lifecycle.judge, made) == []


def test_the_table_is_qemus():
    """As a matrix, in the order of QAPI's JobStatus: rows and columns of JobSTT."""
    order = [
        "undefined",
        "created",
        "running",
        "paused",
        "ready",
        "standby",
        "waiting",
        "pending",
        "aborting",
        "concluded",
        "null",
    ]
    moves = ["".join("1" if other in job_lifecycle.NEXT[one] else "0" for other in order) for one in order]
    assert moves == [
        "01000000000",
        "00100000101",
        "00011010100",
        "00100000000",
        "00000110100",
        "00001000000",
        "00000001100",
        "00000000110",
        "00000000010",  # and aborting to aborting, which is never announced
        "00000000001",
        "00000000000",
    ]


STATUSES = tuple(job_lifecycle.NEXT)


@pytest.mark.parametrize(
    ("one", "other"),
    [(one, other) for one in STATUSES for other in STATUSES if one not in ("undefined", "null")],
)
def test_every_move_is_judged_by_the_table(one, other):
    made = Made()
    made.job("created")
    made.history.records[-1].data["status"] = one
    made.job(other)
    told = f"job j0 goes from {one} to {other}, which no job may"
    assert (told in explanations(job_lifecycle.judge, made)) is (other not in job_lifecycle.NEXT[one])


def test_a_job_that_ends_twice():
    made = Made()
    made.job(*WHOLE_LIFE, "aborting")
    made.event("BLOCK_JOB_CANCELLED", device="j0")
    made.event("BLOCK_JOB_COMPLETED", device="j0")
    made.job("concluded", "null")
    assert explanations(job_lifecycle.judge, made) == ["job j0 ends twice"]


def test_a_job_that_never_says_how_it_ended():
    made = Made()
    made.job(*WHOLE_LIFE, "aborting", "concluded", "null")
    assert "neither completed nor been cancelled" in explanations(job_lifecycle.judge, made)[0]


def test_a_job_that_ends_after_it_was_concluded():
    made = Made()
    made.job("created", "aborting", "concluded")
    made.event("BLOCK_JOB_CANCELLED", device="j0")
    made.job("null")
    assert explanations(job_lifecycle.judge, made) == ["job j0 ends after it was concluded"]


def test_a_job_that_ends_and_never_started():
    made = Made()
    made.job("created", "aborting")
    made.event("BLOCK_JOB_CANCELLED", device="j0")
    made.job("concluded", "null")
    assert explanations(job_lifecycle.judge, made) == ["job j0 ends and has never started"]


def test_a_job_that_is_still_there_at_the_end():
    made = Made()
    made.job(*WHOLE_LIFE)
    made.command("quit")
    made.machine_ends()
    assert explanations(job_lifecycle.judge, made) == [
        "job j0 is still running when the machine was told to quit"
    ]
    made.history.leaves = ["job:j0"]
    assert explanations(job_lifecycle.judge, made) == []


@pytest.mark.parametrize("end", ["crash", "quit"])
def test_a_job_that_the_machines_end_has_taken(end):
    made = Made()
    made.job(*WHOLE_LIFE)
    if end == "quit":
        made.command("quit", step="4")
        made.machine_ends()
    else:
        made.machine_ends(status=-9)
    made.job("created", "running", job="j0")
    made.event("BLOCK_JOB_COMPLETED", device="j0")
    made.history.leaves = ["job:j0"]
    assert explanations(job_lifecycle.judge, made) == []


# ---------------------------------------------------------------- progress


def asked(made, *values, command="query-jobs", job="j0"):
    name, offset = ("id", "current-progress") if command == "query-jobs" else ("device", "offset")
    for value in values:
        made.returns(made.command(command), returns=[{name: job, offset: value}])


def test_progress_that_grows_or_stands():
    made = Made()
    made.job("created", "running")
    asked(made, 0, 512, 512, 4096)
    # Block jobs and events are told of by themselves, and other jobs too.
    asked(made, 1024, 8192, command="query-block-jobs")
    asked(made, 0, 1, job="j1")
    made.event("BLOCK_JOB_READY", device="j0", offset=2048, len=8192)
    made.event("BLOCK_JOB_COMPLETED", device="j0", offset=8192, len=8192)
    assert explanations(progress.judge, made) == []


@pytest.mark.parametrize("command", ["query-jobs", "query-block-jobs"])
def test_progress_that_goes_back(command):
    made = Made()
    made.job("created", "running")
    asked(made, 512, 4096, 1024, 8192, command=command)
    assert explanations(progress.judge, made) == ["job j0 was at 4096, and goes back to 1024"]


def test_an_event_that_goes_back():
    made = Made()
    made.event("BLOCK_JOB_READY", device="j0", offset=2048, len=8192)
    made.event("BLOCK_JOB_COMPLETED", device="j0", offset=1024, len=8192)
    assert explanations(progress.judge, made) == ["job j0 was at 2048, and goes back to 1024"]


@pytest.mark.parametrize("how", ["the job is made again", "the machine ends"])
def test_progress_that_begins_again(how):
    made = Made()
    asked(made, 4096)
    if how == "the machine ends":
        made.machine_ends()
    else:
        made.job("created", "running")
    asked(made, 0)
    assert explanations(progress.judge, made) == []


def test_two_queries_at_once_may_be_answered_in_any_order():
    made = Made()
    first = made.add(QmpExchange, in_flight=True, command="query-jobs")
    asked(made, 4096)
    made.returns(first, returns=[{"id": "j0", "current-progress": 1024}])
    assert explanations(progress.judge, made) == []
