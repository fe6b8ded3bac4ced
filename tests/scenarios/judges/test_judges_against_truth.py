"""The oracle's judges against something plainer still.

`truth` runs a little world where every request takes effect at one moment between its begin and its
end: whatever is seen in it must be valid. `exists_a_cut` tries all possible cuts of a history one
after the other: on histories whose reads are made up, the judge must say the same.
"""

from __future__ import annotations

from itertools import product

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from made_histories import Made

from scenarios.judges.guest_intact import judge as judge_guest
from scenarios.judges.point_in_time import judge as judge_points
from scenarios.run.content import runs_of

DISKS = ("vda", "vdb")
UNITS = 6  # bytes that are written and looked at
MOST_AT_ONCE = 4


def read_into(record, payload):
    record.offset, record.length, record.content = 0, UNITS, runs_of(bytes(payload))


def new_write(draw, made, number):
    start = draw(st.integers(0, UNITS - 1))
    end = draw(st.integers(start + 1, UNITS))
    kind = draw(st.sampled_from(("write", "write", "write", "zero")))
    pattern = number if kind == "write" else 0
    return made.write(start, end, pattern, disk=draw(st.sampled_from(DISKS)), kind=kind, in_flight=True)


class World:
    """The truth. `moments`: what is in flight, and what is to happen at its moment."""

    def __init__(self):
        self.made = Made(*DISKS)
        self.bytes = {disk: bytearray(UNITS) for disk in DISKS}
        self.waiting = []
        self.happened = []
        self.taken = {}
        self.points = 0

    def begin(self, draw, number):
        what = draw(st.sampled_from(("write", "write", "point", "guest-read")))
        if what == "write":
            record = new_write(draw, self.made, number)
            self.waiting.append((record, lambda: self.apply(record)))
        elif what == "point":
            self.points += 1
            name = f"p{self.points}"
            record = self.made.point(name, *DISKS, in_flight=True)
            self.waiting.append((record, lambda: self.taken.update({name: self.copy()})))
        else:
            disk = draw(st.sampled_from(DISKS))
            record = self.made.guest_reads((0, UNITS, 0), disk=disk, in_flight=True)
            self.waiting.append((record, lambda: read_into(record, self.bytes[disk])))

    def apply(self, record):
        for index in range(record.offset, record.offset + record.length):
            self.bytes[record.disk][index] = record.pattern

    def copy(self):
        return {disk: bytes(content) for disk, content in self.bytes.items()}

    def step(self, draw, number):
        choices = ["begin"] if len(self.waiting) + len(self.happened) < MOST_AT_ONCE else []
        choices += ["happen"] * bool(self.waiting) + ["return"] * bool(self.happened)
        returned = [name for name in self.taken if any(p.fleece_id == name for p in self.done_points())]
        choices += ["read"] * bool(returned)
        choice = draw(st.sampled_from(choices))
        if choice == "begin":
            self.begin(draw, number)
        elif choice == "happen":
            record, act = self.waiting.pop(draw(st.integers(0, len(self.waiting) - 1)))
            act()
            self.happened.append(record)
        elif choice == "return":
            self.made.returns(self.happened.pop(draw(st.integers(0, len(self.happened) - 1))))
        else:
            name, disk = draw(st.sampled_from(returned)), draw(st.sampled_from(DISKS))
            read_into(self.made.reads((0, UNITS, 0), of=name, disk=disk), self.taken[name][disk])

    def done_points(self):
        return [
            each for each in self.made.history.records if hasattr(each, "method") and each.end is not None
        ]

    def finish(self):
        for record, act in self.waiting:
            act()
            self.happened.append(record)
        for record in self.happened:
            self.made.returns(record)
        for name, content in self.taken.items():
            for disk in DISKS:
                read_into(self.made.reads((0, UNITS, 0), of=name, disk=disk), content[disk])
        for disk in DISKS:
            self.made.image((0, UNITS, 0), disk=disk).content = runs_of(bytes(self.bytes[disk]))


@st.composite
def truth(draw):
    world = World()
    for number in range(1, draw(st.integers(4, 30))):
        world.step(draw, number)
    world.finish()
    return world.made


@given(truth())
@settings(max_examples=300, deadline=None)
def test_what_truly_happened_is_valid(made):
    for judge in (judge_points, judge_guest):
        verdict = judge(made.history)
        assert verdict.findings == []
        assert verdict.outcome == "valid"


@given(truth(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_byte_that_was_never_there_is_found(made, data):
    seen = [each for each in made.history.records if getattr(each, "content", None)]
    assume(seen)
    record = data.draw(st.sampled_from(seen))
    index = data.draw(st.integers(0, len(record.content) - 1))
    offset, length, _ = record.content[index]
    record.content[index] = (offset, length, 0xEE)
    by_client = type(record).__name__ == "ClientRead"
    verdict = (judge_points if by_client else judge_guest)(made.history)
    assert verdict.outcome == "invalid"
    assert any(record in finding.evidence for finding in verdict.findings)


# ---------------------------------------------------------------- made-up reads, all cuts tried


def state_after(writes, disk):
    content = bytearray(UNITS)
    for write in writes:
        if write.disk == disk:
            for index in range(write.offset, write.offset + write.length):
                content[index] = write.pattern
    return bytes(content)


def cuts(writes, point):
    """Sets of writes (as tuples of bool) that a point in time may hold."""
    for held in product((False, True), repeat=len(writes)):
        ok = True
        for write, is_in in zip(writes, held, strict=True):
            ok = ok and (is_in or not write.end < point.begin) and (not is_in or write.begin < point.end)
            if is_in:
                ok = ok and all(
                    other_in for other, other_in in zip(writes, held, strict=True) if other.end < write.begin
                )
        if ok:
            yield held


def fits(writes, held, disks_seen):
    kept = [write for write, is_in in zip(writes, held, strict=True) if is_in]
    return all(state_after(kept, disk) == content for disk, content in disks_seen.items())


def exists_a_cut(writes, points, seen):
    """Whether each point in time can be a cut that shows what was seen, a later one holding all of
    an earlier."""
    possible = [
        [held for held in cuts(writes, each) if fits(writes, held, seen[each.fleece_id])] for each in points
    ]
    return any(
        all(
            not one.end < other.begin or all(not a or b for a, b in zip(held, other_held, strict=True))
            for one, held in zip(points, chosen, strict=True)
            for other, other_held in zip(points, chosen, strict=True)
        )
        for chosen in product(*possible)
    )


@st.composite
def lanes(draw, most_points):
    """A guest lane a disk, so that no two writes of one disk overlap in time; points in time in between."""
    made = Made(*DISKS)
    lanes_now = {}
    points, open_points = [], []
    number = 0
    for _ in range(draw(st.integers(4, 22))):
        choice = draw(st.sampled_from((*DISKS, "point")))
        if choice == "point":
            if open_points and draw(st.booleans()):
                made.returns(open_points.pop())
            elif len(points) < most_points:
                open_points.append(made.point(f"p{len(points)}", *DISKS, in_flight=True))
                points.append(open_points[-1])
        elif choice in lanes_now:
            made.returns(lanes_now.pop(choice))
        elif number < 6:
            number += 1
            start = draw(st.integers(0, 1))
            lanes_now[choice] = made.write(
                start, draw(st.integers(start + 1, 2)), number, disk=choice, in_flight=True
            )
    for record in (*lanes_now.values(), *open_points):
        made.returns(record)
    return made, points


def writes_of(made):
    return [each for each in made.history.records if type(each).__name__ == "GuestOp"]


@given(lanes(most_points=1), st.data())
@settings(max_examples=400, deadline=None)
def test_one_point_in_time_is_judged_as_by_trying_all_cuts(lanes_and_points, data):
    made, points = lanes_and_points
    assume(points)
    compare(made, points, data)


@given(lanes(most_points=2), st.data())
@settings(max_examples=400, deadline=None)
def test_two_points_in_time_are_judged_as_by_trying_all_cuts(lanes_and_points, data):
    made, points = lanes_and_points
    assume(len(points) == 2)
    compare(made, points, data)


def compare(made, points, data):
    writes = writes_of(made)
    seen = {}
    for point in points:
        seen[point.fleece_id] = {}
        for disk in DISKS:
            mine = [write for write in writes if write.disk == disk]
            count = data.draw(st.integers(0, len(mine)))
            seen[point.fleece_id][disk] = content = state_after(mine[:count], disk)
            read_into(made.reads((0, UNITS, 0), of=point.fleece_id, disk=disk), content)
    expected = exists_a_cut(writes, points, seen)
    event("a cut exists" if expected else "no cut exists")
    verdict = judge_points(made.history)
    assert (verdict.outcome == "valid") is expected, verdict
