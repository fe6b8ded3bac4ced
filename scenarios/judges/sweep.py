"""Walks a history in the order of its clock and shows judges what each observation could have seen.

An observation is something that read bytes at a moment between its begin and its end: a guest's
read, a disk's image after the end, or all that clients read of one point in time (whose moment is
T, however late they read).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scenarios.judges.oracle import Disk, last_writers, timeline, uniform
from scenarios.run.history import ClientMap, ClientRead, FinalImage, GuestOp, History, PointEnded, PointInTime

SeeGuest = Callable[["GuestOp | FinalImage", Disk, int], None]
SeePoint = Callable[["Seen", dict[str, Disk], int], None]


class Seen:
    """What clients saw of one point in time."""

    def __init__(self, point: PointInTime) -> None:
        self.point = point
        self.looks: list[ClientRead | ClientMap] = []
        self.shows_the_disk_from: int | None = None


def sweep(history: History, see_guest: SeeGuest, see_point: SeePoint) -> None:
    """Calls one of the two for each observation when it ends, with the disks as they may be at that
    moment, and the begin of the oldest other observation that is still going on (see Disk)."""
    line = timeline(history)
    disks = line.disks
    moments: list[tuple[int, int, Any, Any]] = []
    for request, writer in line.begins:
        moments.append((request.begin, 0, request, writer))
    for seen in points(history):
        end = seen.point.end or seen.point.begin
        moments.append((seen.point.begin, 1, None, None))
        moments.append((end, 2, seen, seen.point.begin))
    for record in history.records:
        is_read = type(record) is GuestOp and record.kind == "read" and record.error is None
        if (is_read or type(record) is FinalImage) and record.end is not None:
            moments.append((record.begin, 1, None, None))
            moments.append((record.end, 3, record, record.begin))
    moments.sort(key=lambda moment: moment[:2])
    going_on: dict[int, None] = {}
    for tick, kind, what, more in moments:
        if kind == 0:
            disk = disks.get(what.disk)
            if disk is not None:
                earliest = next(iter(going_on), tick)
                disk.begin(more, what.offset, what.length, earliest)
            continue
        if kind == 1:
            going_on[tick] = None
            continue
        going_on.pop(more, None)
        earliest = next(iter(going_on), tick)
        if kind == 2:
            see_point(what, disks, earliest)
        elif what.disk in disks:
            see_guest(what, disks[what.disk], earliest)


def points(history: History) -> list[Seen]:
    """All points in time that came to be, with what was seen of them, in the history's order.

    Ending an overlay by "cancel" takes its job first; from then on its export shows the running disk, so what
    was read after that is not counted.
    """
    found: list[Seen] = []
    current: dict[str, Seen] = {}
    for record in history.records:
        if type(record) is PointInTime and record.error is None and record.end is not None:
            current[record.fleece_id] = Seen(record)
            found.append(current[record.fleece_id])
        elif type(record) is PointEnded and record.fleece_id in current:
            seen = current[record.fleece_id]
            if record.by == "cancel" and seen.point.method == "overlay":
                seen.shows_the_disk_from = record.begin
        elif type(record) in (ClientRead, ClientMap) and record.error is None:  # type: ignore[attr-defined]
            looking = current.get(record.fleece_id)  # type: ignore[attr-defined]
            if looking is not None and record.end is not None:
                looking.looks.append(record)  # type: ignore[arg-type]
    for seen in found:
        if seen.shows_the_disk_from is not None:
            limit = seen.shows_the_disk_from
            seen.looks = [each for each in seen.looks if (each.end or limit) < limit]
    return found


def settle_seen(seen: Seen, disks: dict[str, Disk], earliest: int) -> None:
    """What clients saw of ranges that nobody was writing at T is how those ranges have settled."""
    begin = seen.point.begin
    for look in seen.looks:
        if type(look) is not ClientRead or look.disk not in disks:
            continue
        disk = disks[look.disk]
        found = []
        for start, end, value in uniform(look.content):
            for low, high, writers in disk.writers.runs(start, end):
                if len(writers) == 1:
                    continue
                possible = last_writers(writers, begin)
                if len(possible) > 1 and all(each.end < begin for each in possible):
                    found.append((low, high, value, possible))
        for low, high, value, possible in found:
            if any(each.value == value for each in possible):
                disk.settle(low, high, value, possible, earliest)


def settle_guest(record: GuestOp | FinalImage, disk: Disk, earliest: int) -> None:
    """As settle_seen, for what the guest or the image after the end shows."""
    found = []
    for start, end, value in uniform(record.content):
        for low, high, writers in disk.writers.runs(start, end):
            if len(writers) == 1:
                continue
            possible = last_writers(writers, record.begin)
            if len(possible) > 1 and all(each.end < record.begin for each in possible):
                found.append((low, high, value, possible))
    for low, high, value, possible in found:
        if any(each.value == value for each in possible):
            disk.settle(low, high, value, possible, earliest)
