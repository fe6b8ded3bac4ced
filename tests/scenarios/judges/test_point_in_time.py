"""point_in_time: bugs that it must catch, each in a history of its own, and histories that are right."""

from __future__ import annotations

import pytest
from made_histories import DISK_BYTES, KIB, Made

from scenarios.judges.point_in_time import judge

CLUSTER = (0, 4 * KIB)


def findings(made):
    verdict = judge(made.history)
    assert verdict.judge == "point_in_time"
    assert verdict.outcome == ("invalid" if verdict.findings else "valid")
    return verdict.findings


def only(made):
    [finding] = findings(made)
    return finding


def prepared(*disks, **members):
    """0x11 before T, 0x22 after T."""
    made = Made(*disks, **members)
    made.write(*CLUSTER, 0x11)
    made.point()
    made.write(*CLUSTER, 0x22)
    return made


def test_what_was_there_at_t_is_right():
    made = prepared()
    made.reads((0, 4 * KIB, 0x11), (4 * KIB, DISK_BYTES, 0))
    assert findings(made) == []


def test_a_byte_written_after_t_has_leaked():
    made = prepared()
    made.reads((0, 1 * KIB, 0x11), (1 * KIB, 4 * KIB, 0x22))
    finding = only(made)
    assert "0x22 at 1024 to 4096 of vda" in finding.explanation
    assert "leaked" in finding.explanation
    assert [type(each).__name__ for each in finding.evidence] == [
        "PointInTime",
        "ClientRead",
        "GuestOp",
        "GuestOp",
    ]


def test_a_byte_overwritten_before_t_is_stale():
    made = Made()
    made.write(*CLUSTER, 0x10)
    made.write(*CLUSTER, 0x11)
    made.point()
    made.reads((0, 4 * KIB, 0x10))
    assert "stale" in only(made).explanation


def test_a_write_that_is_missing():
    made = prepared()
    made.reads((0, 4 * KIB, 0))
    assert "as if nothing had been written" in only(made).explanation


def test_a_byte_that_nobody_wrote():
    made = prepared()
    made.reads((0, 100, 0x11), (100, 101, 0x77), (101, 4 * KIB, 0x11))
    assert "0x77 at 100 to 101" in only(made).explanation


def test_bytes_that_are_not_uniform_are_looked_into():
    made = prepared()
    read = made.reads((0, 8, 0x11))
    read.content = [(0, 8, b"\x11\x11\x11\x22\x11\x11\x11\x11")]
    assert "0x22 at 3 to 4" in only(made).explanation


@pytest.mark.parametrize("side", [0x11, 0x22])
def test_a_write_in_flight_at_t_may_be_on_either_side(side):
    made = Made()
    made.write(*CLUSTER, 0x11)
    write = made.write(*CLUSTER, 0x22, in_flight=True)
    made.point()
    made.returns(write)
    made.reads((0, 4 * KIB, side))
    assert findings(made) == []


def test_a_write_in_flight_is_on_one_side_for_all_its_bytes():
    made = Made()
    made.write(*CLUSTER, 0x11)
    write = made.write(*CLUSTER, 0x22, in_flight=True)
    made.point()
    made.returns(write)
    made.reads((0, 1 * KIB, 0x11))
    made.reads((1 * KIB, 4 * KIB, 0x22))
    finding = only(made)
    assert "is in it and is not" in finding.explanation
    assert write in finding.evidence


def test_two_readers_that_see_different_sides():
    made = Made()
    made.write(*CLUSTER, 0x11)
    write = made.write(*CLUSTER, 0x22, in_flight=True)
    made.point()
    made.returns(write)
    first = made.reads((0, 4 * KIB, 0x11))
    second = made.reads((0, 1 * KIB, 0x22))
    finding = only(made)
    assert "is not one" in finding.explanation
    assert finding.evidence[1:] == [first, second]


def test_one_reader_whose_second_read_differs_after_the_guest_wrote():
    made = Made()
    made.point()
    made.reads((0, 4 * KIB, 0))
    made.write(*CLUSTER, 0x22)
    made.reads((0, 4 * KIB, 0x22))
    assert len(findings(made)) == 1


def cut_over_two_disks(first_is_in, second_is_in):
    """Both writes are in flight while the point in time is taken, the second after the first has returned."""
    made = Made("vda", "vdb")
    point = made.point("cut", "vda", "vdb", in_flight=True)
    made.write(*CLUSTER, 0x11)
    made.write(*CLUSTER, 0x22, disk="vdb")
    made.returns(point)
    made.reads((0, 4 * KIB, 0x11 if first_is_in else 0), of="cut")
    made.reads((0, 4 * KIB, 0x22 if second_is_in else 0), of="cut", disk="vdb")
    return made


@pytest.mark.parametrize("sides", [(False, False), (True, False), (True, True)])
def test_a_cut_over_two_disks(sides):
    assert findings(cut_over_two_disks(*sides)) == []


def test_no_cut_over_two_disks():
    finding = only(cut_over_two_disks(False, True))
    assert "no cut" in finding.explanation


def test_a_later_point_in_time_forgets_what_an_earlier_one_holds():
    made = Made()
    write = made.write(*CLUSTER, 0x11, in_flight=True)
    made.point("monday")
    made.point("tuesday")
    made.returns(write)
    made.reads((0, 4 * KIB, 0x11), of="monday")
    made.reads((0, 4 * KIB, 0), of="tuesday")
    assert "point in time tuesday lacks" in only(made).explanation


def test_a_later_point_in_time_may_hold_more():
    made = Made()
    write = made.write(*CLUSTER, 0x11, in_flight=True)
    made.point("monday")
    made.point("tuesday")
    made.returns(write)
    made.reads((0, 4 * KIB, 0), of="monday")
    made.reads((0, 4 * KIB, 0x11), of="tuesday")
    assert findings(made) == []


def overlapping_writes(*, point_after):
    made = Made()
    one = made.write(*CLUSTER, 0x11, in_flight=True)
    other = made.write(*CLUSTER, 0x22, in_flight=True)
    made.returns(one)
    made.returns(other)
    made.point("monday")
    if point_after:
        made.point("tuesday")
    return made


@pytest.mark.parametrize("winner", [0x11, 0x22])
def test_overlapping_writes_may_be_ordered_either_way(winner):
    made = overlapping_writes(point_after=False)
    made.reads((0, 4 * KIB, winner))
    assert findings(made) == []


def test_the_order_of_overlapping_writes_stays_as_it_was_seen():
    made = overlapping_writes(point_after=True)
    made.reads((0, 4 * KIB, 0x11), of="monday")
    made.reads((0, 4 * KIB, 0x22), of="tuesday")
    assert "of tuesday" in only(made).explanation


def test_the_order_of_overlapping_writes_stays_as_the_guest_saw_it():
    made = overlapping_writes(point_after=False)
    made.guest_reads((0, 4 * KIB, 0x22))
    made.point("late")
    made.reads((0, 4 * KIB, 0x11), of="late")
    assert "of late" in only(made).explanation


@pytest.mark.parametrize("value", [0x11, 0x22])
def test_a_failed_write_may_have_happened_or_not(value):
    made = Made()
    made.write(*CLUSTER, 0x11)
    made.write(*CLUSTER, 0x22, error="EIO")
    made.point()
    made.reads((0, 4 * KIB, value))
    assert findings(made) == []


@pytest.mark.parametrize(
    ("kind", "value", "right"),
    [
        ("discard", 0x11, True),
        ("discard", 0, True),
        ("discard", 0x33, False),
        ("zero", 0, True),
        ("zero", 0x11, False),
    ],
)
def test_what_a_discard_or_a_zero_leaves(kind, value, right):
    made = Made()
    made.write(*CLUSTER, 0x11)
    made.write(*CLUSTER, 0, kind=kind)
    made.point()
    made.reads((0, 4 * KIB, value))
    assert (findings(made) == []) is right


def test_a_range_that_a_map_calls_zero_and_is_not():
    made = prepared()
    made.maps((0, 4 * KIB, "hole,zero"), (4 * KIB, DISK_BYTES, "hole,zero"))
    assert "map" in only(made).explanation


def test_a_hole_need_not_be_zero():
    made = prepared()
    made.maps((0, 4 * KIB, "hole"), (4 * KIB, DISK_BYTES, "zero"))
    assert findings(made) == []


def test_a_read_beyond_the_end():
    made = Made()
    made.point()
    made.reads((DISK_BYTES - 512, DISK_BYTES + 512, 0))
    assert f"ends at {DISK_BYTES}" in only(made).explanation


@pytest.mark.parametrize(
    ("method", "by", "counts"),
    [
        ("overlay", "cancel", False),
        ("overlay", "remove-export-hard", True),
        ("snapshot-access", "cancel", True),
    ],
)
def test_what_is_read_while_the_point_in_time_ends(method, by, counts):
    made = prepared(method=method)
    read = made.reads((0, 4 * KIB, 0x22), in_flight=True)
    made.ends(by=by)
    made.returns(read)
    assert (len(findings(made)) == 1) is counts


def test_the_same_id_again_is_another_point_in_time():
    made = prepared()
    made.reads((0, 4 * KIB, 0x11))
    made.ends()
    made.point()
    made.write(*CLUSTER, 0x33)
    made.reads((0, 4 * KIB, 0x22))
    assert findings(made) == []
    made.reads((0, 4 * KIB, 0x11))
    assert len(findings(made)) == 1


def test_reads_that_failed_and_points_that_were_refused_are_not_judged():
    made = prepared()
    made.reads((0, 4 * KIB, 0x77), error="EIO")
    made.point("never", error="Duplicate nodes")
    made.reads((0, 4 * KIB, 0x77), of="never")
    assert findings(made) == []


def test_what_no_flush_followed_may_be_gone_after_a_crash():
    for flushed, right in ((False, True), (True, False)):
        made = Made()
        made.write(*CLUSTER, 0x11)
        made.flush()
        made.write(*CLUSTER, 0x22)
        if flushed:
            made.flush()
        made.machine_ends(status=-9)
        made.point()
        made.reads((0, 4 * KIB, 0x11))
        assert (findings(made) == []) is right


def test_more_in_flight_than_can_be_searched_is_unknown():
    made = Made()
    writes = [made.write(*CLUSTER, number, in_flight=True) for number in range(1, 15)]
    made.point()
    for write in writes:
        made.returns(write)
    made.reads((0, 4 * KIB, 3))
    verdict = judge(made.history)
    assert (verdict.outcome, verdict.findings) == ("unknown", [])
    assert "14 requests in flight" in verdict.reason
