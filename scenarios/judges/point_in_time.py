"""Does every byte that any client reads equal the disk at its point in time T?

T lies between the begin and the end of the step that takes the point in time. What had returned
before is in it, what began after is not. A request in flight at T may be on either side, but as a
whole, on one side for every reader of that point in time, and on all disks: if it is in, so is
whatever had returned before it began (see cut.py). A later point in time holds what an earlier one
does. Two reads of a byte are equal. What a map calls zero is read as zero. Requests that overlapped
each other may have been applied in either order, but that stays so.
"""

from __future__ import annotations

from scenarios.judges.cut import Clause, TooManyError, clause_of, find_conflict, must_be_in
from scenarios.judges.interval_map import IntervalMap
from scenarios.judges.oracle import (
    Disk,
    Writer,
    last_writers,
    tell_writers,
    uniform,
    values_of,
    who_wrote,
)
from scenarios.judges.sweep import Seen, settle_guest, settle_seen, sweep
from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import ClientMap, ClientRead, History, PointInTime, Record

_NAME = "point_in_time"

Look = ClientRead | ClientMap
Sight = tuple[int, Look]


def judge(history: History) -> Verdict:
    """unknown if more requests were in flight at a T than the search goes through."""
    judging = _Judging(history)
    sweep(history, settle_guest, judging.see_point)
    if judging.findings:
        return Verdict(_NAME, "invalid", judging.findings)
    return Verdict(_NAME, "unknown" if judging.too_many else "valid", reason=judging.too_many)


class _Judging:
    """At most one finding for each disk of a point in time, and one for its cut."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.findings: list[Finding] = []
        self.too_many = ""
        # Requests that an earlier point in time was seen to hold, with when it ended and what showed it.
        self.held: dict[Writer, tuple[int, PointInTime, Clause]] = {}

    def see_point(self, seen: Seen, disks: dict[str, Disk], earliest: int) -> None:
        point = seen.point
        clauses: dict[tuple[tuple[Writer, ...], int], Clause] = {}
        for disk_name in point.disks:
            disk = disks.get(disk_name)
            if disk is None:
                continue
            looks = [each for each in seen.looks if each.disk == disk_name]
            sights, finding = _merge(point, disk, looks)
            finding = finding or self._check(point, disk_name, disk, sights, clauses)
            if finding is not None:
                self.findings.append(finding)
        self._check_cut(point, list(clauses.values()))
        settle_seen(seen, disks, earliest)

    def _check(
        self,
        point: PointInTime,
        name: str,
        disk: Disk,
        sights: list[tuple[int, int, Sight]],
        clauses: dict[tuple[tuple[Writer, ...], int], Clause],
    ) -> Finding | None:
        """Ranges that nothing in flight touches are checked at once; the others become clauses."""
        begin = point.begin
        for start, end, (value, look) in sights:
            for low, high, writers in disk.writers.runs(start, end):
                if len(writers) == 1 and writers[0].value == value and writers[0].end < begin:
                    continue
                if (writers, value) in clauses:
                    continue
                possible = last_writers(writers, begin)
                clause = clause_of(name, low, high, value, possible, look, begin)
                if value not in values_of(possible):
                    return self._wrong(point, clause)
                if clause.in_flight:
                    clauses[writers, value] = clause
        return None

    def _wrong(self, point: PointInTime, clause: Clause) -> Finding:
        origin = who_wrote(self.history, clause.disk, clause.start, clause.value)
        evidence: list[Record] = [point, clause.look]
        told = "which the guest never wrote there"
        if origin is not None:
            evidence.append(origin)
            newer = origin.begin > (point.end or point.begin)
            side = "after T: it has leaked in" if newer else "but overwrote before T: it is stale"
            told = f"which the guest's {origin.kind} of step {origin.step or '?'} wrote {side}"
        elif clause.value == 0:
            told = "as if nothing had been written"
        for writer in clause.writers:
            if writer.record is not None and writer.record is not origin:
                evidence.append(writer.record)
        where = _place(clause)
        words = f"{_who(clause.look)} of {point.fleece_id} finds 0x{clause.value:02x} {where}, {told};"
        return Finding(f"{words} at T it held {tell_writers(clause.writers)}", evidence)

    def _check_cut(self, point: PointInTime, clauses: list[Clause]) -> None:
        variables = {each for clause in clauses for each in clause.in_flight}
        known = {
            writer: True for writer in variables if writer in self.held and self.held[writer][0] < point.begin
        }
        try:
            conflict = find_conflict(clauses, {}, point.begin)
            if conflict is not None:
                self.findings.append(_explain(point, conflict.clauses))
                return
            conflict = find_conflict(clauses, known, point.begin) if known else None
            if conflict is not None:
                self.findings.append(self._forgotten(point, conflict.clauses))
                return
            for writer, clause in must_be_in(clauses, point.begin).items():
                self.held.setdefault(writer, (point.end or point.begin, point, clause))
        except TooManyError as error:
            self.too_many = f"point in time {point.fleece_id}: {error}"

    def _forgotten(self, point: PointInTime, clauses: list[Clause]) -> Finding:
        """An earlier point in time holds a request, this one does not."""
        for clause in clauses:
            for writer in clause.in_flight:
                if writer in self.held:
                    _, earlier, shown = self.held[writer]
                    it = tell_writers((writer,))
                    words = f"point in time {point.fleece_id} lacks {it}, which the earlier one"
                    words += f" {earlier.fleece_id} holds; it has 0x{clause.value:02x} {_place(clause)}"
                    writes: list[Record] = [writer.record] if writer.record else []
                    return Finding(words, [earlier, shown.look, point, clause.look, *writes])
        return _explain(point, clauses)


def _merge(
    point: PointInTime, disk: Disk, looks: list[Look]
) -> tuple[list[tuple[int, int, Sight]], Finding | None]:
    """What all clients saw, each range once; a finding if two of them saw different bytes."""
    seen: IntervalMap[Sight | None] = IntervalMap(disk.size, None)
    for look in looks:
        for start, end, value in _sights(look):
            if end > disk.size:
                words = (
                    f"{_who(look)} of {point.fleece_id} goes to {end}, but {look.disk} ends at {disk.size}"
                )
                return [], Finding(words, [point, look])
            pieces: list[tuple[int, int, Sight | None]] = []
            fresh = False
            for low, high, before in seen.runs(start, end):
                if before is not None and before[0] != value:
                    return [], _differ(point, low, high, before, (value, look))
                fresh = fresh or before is None
                pieces.append((low, high, before or (value, look)))
            if fresh:
                seen.replace(start, pieces)
    return [(low, high, each) for low, high, each in seen.runs(0, disk.size) if each is not None], None


def _sights(look: Look) -> list[tuple[int, int, int]]:
    """(start, end, byte) of what a client was told."""
    if type(look) is ClientRead:
        return list(uniform(look.content))
    assert type(look) is ClientMap
    zeroes = [each for each in look.extents if "zero" in each[2].split(",")]
    return [(offset, offset + length, 0) for offset, length, _ in zeroes]


def _differ(point: PointInTime, low: int, high: int, one: Sight, other: Sight) -> Finding:
    if one[1] is other[1]:
        words = f"{_who(one[1])} of {point.fleece_id} tells of {low} to {high} twice, and differently"
        return Finding(words, [point, one[1]])
    words = (
        f"point in time {point.fleece_id} is not one: {_who(one[1])} finds 0x{one[0]:02x}"
        f" at {low} to {high} of {one[1].disk}, {_who(other[1])} 0x{other[0]:02x}"
    )
    return Finding(words, [point, one[1], other[1]])


def _who(look: Look) -> str:
    kind = "read" if type(look) is ClientRead else "map"
    return f"{look.client} client's {kind} (step {look.step or '?'})"


def _place(clause: Clause) -> str:
    return f"at {clause.start} to {clause.end} of {clause.disk}"


def _explain(point: PointInTime, clauses: list[Clause]) -> Finding:
    """Why no side for the requests in flight at T explains what was seen."""
    evidence: list[Record] = [point]
    shared = [each for each in clauses[0].in_flight if all(each in other.in_flight for other in clauses[1:])]
    seen = "; ".join(f"0x{clause.value:02x} {_place(clause)}" for clause in clauses[:4])
    if len(clauses) == 1:
        why = f"could only hold {tell_writers(clauses[0].writers)}"
    elif shared:
        why = f"{tell_writers((shared[0],))} is in it and is not"
    else:
        why = "one request is in it, and another that had returned before that one began is not: no cut"
    for clause in clauses[:4]:
        evidence.append(clause.look)
        evidence += [each.record for each in clause.in_flight if each.record is not None]
    unique = list({id(each): each for each in evidence}.values())
    return Finding(f"point in time {point.fleece_id} is not one: {seen}; {why}", unique)
