"""guest_intact: bugs that it must catch, each in a history of its own, and histories that are right."""

from __future__ import annotations

import pytest
from made_histories import DISK_BYTES, KIB, Made

from scenarios.judges.guest_intact import judge

CLUSTER = (0, 4 * KIB)


def findings(made):
    verdict = judge(made.history)
    assert verdict.outcome == ("invalid" if verdict.findings else "valid")
    return verdict.findings


def written():
    made = Made()
    made.write(*CLUSTER, 0x11)
    made.write(1 * KIB, 2 * KIB, 0x22)
    return made


RIGHT = ((0, 1 * KIB, 0x11), (1 * KIB, 2 * KIB, 0x22), (2 * KIB, 4 * KIB, 0x11), (4 * KIB, DISK_BYTES, 0))


def test_what_was_written_is_right():
    made = written()
    made.guest_reads(*RIGHT)
    made.image(*RIGHT)
    assert findings(made) == []


def test_a_write_that_is_lost():
    made = written()
    made.image((0, 4 * KIB, 0x11), (4 * KIB, DISK_BYTES, 0))
    [finding] = findings(made)
    assert "0x11 at 1024 to 2048 of vda" in finding.explanation
    assert "0x22 (guest's write" in finding.explanation
    assert len(finding.evidence) == 3


def test_a_write_that_appears_on_the_wrong_disk():
    made = Made("vda", "vdb")
    made.write(*CLUSTER, 0x11)
    made.image((0, 4 * KIB, 0x11), disk="vdb")
    assert "never wrote" in findings(made)[0].explanation


def test_a_guest_that_reads_old_bytes():
    made = written()
    made.guest_reads((0, 4 * KIB, 0x11))
    assert "guest's read" in findings(made)[0].explanation


def test_a_guest_that_reads_zeroes():
    made = written()
    made.guest_reads((0, 1 * KIB, 0))
    assert "as if nothing had been written" in findings(made)[0].explanation


@pytest.mark.parametrize("value", [0x11, 0x22])
def test_a_read_that_a_write_overlaps_may_see_either(value):
    made = Made()
    made.write(*CLUSTER, 0x11)
    read = made.guest_reads((0, 4 * KIB, value), in_flight=True)
    made.write(*CLUSTER, 0x22)
    made.returns(read)
    assert findings(made) == []


def test_a_byte_that_changes_between_two_reads():
    made = Made()
    one = made.write(*CLUSTER, 0x11, in_flight=True)
    other = made.write(*CLUSTER, 0x22, in_flight=True)
    made.returns(other)
    made.returns(one)
    made.guest_reads((0, 4 * KIB, 0x11))
    made.image((0, 4 * KIB, 0x22))
    assert len(findings(made)) == 1


def test_a_byte_that_differs_from_what_a_client_saw():
    made = Made()
    one = made.write(*CLUSTER, 0x11, in_flight=True)
    other = made.write(*CLUSTER, 0x22, in_flight=True)
    made.returns(other)
    made.returns(one)
    made.point()
    made.reads((0, 4 * KIB, 0x11))
    made.image((0, 4 * KIB, 0x22))
    assert len(findings(made)) == 1


@pytest.mark.parametrize(
    ("status", "crashed", "right"),
    [
        (0, False, True),
        (3, False, False),
        (3, True, True),
        (2, True, False),
        (2, False, False),
        (1, False, False),
    ],
)
def test_the_image_must_pass_its_check(status, crashed, right):
    made = written()
    made.image(*RIGHT, check_status=status, check_output="2 errors were found", crashed=crashed)
    found = findings(made)
    assert (found == []) is right
    assert right or "2 errors were found" in found[0].explanation


def test_an_image_of_another_size():
    made = written()
    made.image(*RIGHT, size=DISK_BYTES - 512)
    assert f"not {DISK_BYTES}" in findings(made)[0].explanation


@pytest.mark.parametrize(
    ("flushed", "value", "right"),
    [
        (False, 0x11, True),
        (False, 0x22, True),
        (False, 0x33, False),
        (True, 0x11, False),
        (True, 0x22, True),
    ],
)
def test_after_a_crash_what_was_flushed_is_there(flushed, value, right):
    made = Made()
    made.write(*CLUSTER, 0x11)
    made.flush()
    made.write(*CLUSTER, 0x22)
    if flushed:
        made.flush()
    made.machine_ends(status=-9)
    made.image((0, 4 * KIB, value), crashed=True)
    assert (findings(made) == []) is right


def test_a_crash_may_lose_each_sector_for_itself():
    made = Made()
    made.write(*CLUSTER, 0x22)
    made.machine_ends(status=-9)
    made.image((0, 512, 0), (512, 1024, 0x22), (1024, 4 * KIB, 0), crashed=True)
    assert findings(made) == []


def test_an_orderly_end_loses_nothing():
    made = Made()
    made.write(*CLUSTER, 0x11)
    made.machine_ends()
    made.machine_ends(status=-9)
    made.image((0, 4 * KIB, 0))
    assert len(findings(made)) == 1


def test_what_was_seen_after_a_crash_stays():
    made = Made()
    made.write(*CLUSTER, 0x11)
    made.machine_ends(status=-9)
    made.guest_reads((0, 4 * KIB, 0))
    made.image((0, 4 * KIB, 0x11))
    assert len(findings(made)) == 1


@pytest.mark.parametrize("value", [0, 0x11])
def test_a_write_that_never_returned_may_have_happened_or_not(value):
    made = Made()
    made.write(*CLUSTER, 0x11, in_flight=True)
    made.machine_ends(status=-9)
    made.image((0, 4 * KIB, value), crashed=True)
    assert findings(made) == []


def test_nothing_to_judge_by_is_unknown():
    verdict = judge(written().history)
    assert verdict.outcome == "unknown"


@pytest.mark.parametrize(("status", "outcome"), [(-9, "valid"), (0, "invalid")])
def test_what_leaked_at_a_death_is_still_there_after_an_orderly_end(status, outcome):
    """qcow2 does not take it back when it is opened again."""
    made = written()
    made.machine_ends(status=status)
    made.machine_ends()
    made.image(*RIGHT, check_status=3, check_output="1 leaked cluster was found on the image")
    assert judge(made.history).outcome == outcome
