"""The two tables of a job's life, and every verb in every status that a job can be brought to."""

from __future__ import annotations

import pytest
from job_bench import MIB, Bench

from simulator.jobs.status import STATUSES, TRANSITIONS, VERBS

# job.c:59 and :74 of 7.2.22, a column a status:
#              U  C  R  P  Y  S  W  D  X  E  N
_MAY_FOLLOW = {
    "undefined": "01000000000",
    "created": "00100000101",
    "running": "00011010100",
    "paused": "00100000000",
    "ready": "00000110100",
    "standby": "00001000000",
    "waiting": "00000001100",
    "pending": "00000000110",
    "aborting": "00000000110",
    "concluded": "00000000001",
    "null": "00000000000",
}
_TAKES = {
    "cancel": "01111111000",
    "pause": "01111100000",
    "resume": "01111100000",
    "set-speed": "01111100000",
    "complete": "00001100000",
    "finalize": "00000001000",
    "dismiss": "00000000010",
}


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_a_status_may_follow_another(before: str, after: str) -> None:
    assert (after in TRANSITIONS[before]) == (_MAY_FOLLOW[before][STATUSES.index(after)] == "1")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("verb", _TAKES)
def test_a_status_takes_a_verb(status: str, verb: str) -> None:
    assert (status in VERBS[verb]) == (_TAKES[verb][STATUSES.index(status)] == "1")


def test_the_tables_have_no_other_rows() -> None:
    assert set(TRANSITIONS) == set(STATUSES)
    assert set(VERBS) == set(_TAKES)


def _job_in(status: str) -> Bench:
    """A bench with a job `j` in one of the statuses in which a command can find a backup."""
    bench = Bench()
    bench.add("s", size=4 * MIB)
    bench.add("t", size=4 * MIB)
    options = {
        "running": {"sync": "none"},
        "paused": {"sync": "none"},
        "pending": {"sync": "full", "auto_finalize": False},
        "concluded": {"sync": "full", "auto_dismiss": False},
    }[status]
    bench.call("blockdev-backup", device="s", target="t", job_id="j", **options)
    if status == "paused":
        bench.call("job-pause", id="j")
    assert bench.jobs.get("j").status == status
    bench.events()
    return bench


@pytest.mark.parametrize("status", ["running", "paused", "pending", "concluded"])
@pytest.mark.parametrize("verb", _TAKES)
def test_a_job_refuses_what_its_status_does_not_take(status: str, verb: str) -> None:
    bench = _job_in(status)
    takes = _TAKES[verb][STATUSES.index(status)] == "1"
    command, arguments = f"job-{verb}", {"id": "j"}
    if verb == "set-speed":
        command, arguments = "block-job-set-speed", {"device": "j", "speed": 1}
    refusal = f"Job 'j' in state '{status}' cannot accept command verb '{verb}'"
    if verb == "resume" and status != "paused":
        # Whether it was paused is asked before the table is.
        takes, refusal = False, "Can't resume a job that was not paused"
    if (verb, status) == ("pause", "paused"):
        takes, refusal = False, "Job is already paused"
    if takes:
        bench.call(command, **arguments)
    else:
        assert bench.error(command, **arguments) == refusal
        assert bench.events() == []
        assert bench.jobs.get("j").status == status
