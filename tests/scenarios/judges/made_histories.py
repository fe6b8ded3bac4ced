"""Histories written by hand, for tests of judges: each method adds one record; the clock ticks by itself.

A request, a point in time or a read returns before the next begins, unless it is given `end=None`
and ended later by `returns`.
"""

from __future__ import annotations

from typing import Any

from scenarios.run.content import Run, join
from scenarios.run.history import (
    ClientMap,
    ClientRead,
    DiskAdded,
    FinalImage,
    GuestOp,
    History,
    MachineEnded,
    PointEnded,
    PointInTime,
    QmpEvent,
    QmpExchange,
    Record,
)

KIB = 1024
DISK_BYTES = 64 * KIB


def runs(*pieces: tuple[int, int, int]) -> list[Run]:
    """(start, end, byte) as a content."""
    return join((start, end - start, value) for start, end, value in pieces)


class Made:
    """A history of disks of 64 KiB that is added to."""

    def __init__(self, *disks: str, method: str = "overlay") -> None:
        self.history = History(scenario="made by hand", backend="none")
        self.method = method
        for disk in disks or ("vda",):
            self.add(DiskAdded, disk=disk, size=DISK_BYTES)

    def add(self, record_type: type[Record], /, in_flight: bool = False, **members: Any) -> Any:
        """A record that takes one tick, or is still in flight."""
        begin = self.history.tick()
        record = record_type(begin=begin, end=None if in_flight else self.history.tick(), **members)
        self.history.records.append(record)
        return record

    def returns(self, record: Any, **members: Any) -> None:
        record.end = self.history.tick()
        for name, value in members.items():
            setattr(record, name, value)

    def write(self, start: int, end: int, pattern: int, disk: str = "vda", **members: Any) -> Any:
        kind = members.pop("kind", "write")
        return self.add(
            GuestOp, disk=disk, kind=kind, offset=start, length=end - start, pattern=pattern, **members
        )

    def guest_reads(self, *pieces: tuple[int, int, int], disk: str = "vda", **members: Any) -> Any:
        start, end = pieces[0][0], pieces[-1][1]
        return self.add(
            GuestOp,
            disk=disk,
            kind="read",
            offset=start,
            length=end - start,
            content=runs(*pieces),
            **members,
        )

    def flush(self, disk: str = "vda") -> Any:
        return self.add(GuestOp, disk=disk, kind="flush")

    def point(self, fleece_id: str = "monday", *disks: str, **members: Any) -> Any:
        members.setdefault("method", self.method)
        return self.add(PointInTime, fleece_id=fleece_id, disks=list(disks or ("vda",)), **members)

    def ends(self, fleece_id: str = "monday", **members: Any) -> Any:
        return self.add(PointEnded, fleece_id=fleece_id, **members)

    def reads(
        self, *pieces: tuple[int, int, int], of: str = "monday", disk: str = "vda", **members: Any
    ) -> Any:
        start, end = pieces[0][0], pieces[-1][1]
        content = runs(*pieces)
        return self.add(
            ClientRead,
            fleece_id=of,
            disk=disk,
            client="own",
            offset=start,
            length=end - start,
            content=content,
            **members,
        )

    def maps(self, *extents: tuple[int, int, str], context: str = "allocation", of: str = "monday") -> Any:
        """(start, end, state)."""
        return self.add(
            ClientMap,
            fleece_id=of,
            disk="vda",
            client="own",
            context=context,
            extents=[(start, end - start, state) for start, end, state in extents],
        )

    def image(self, *pieces: tuple[int, int, int], disk: str = "vda", **members: Any) -> Any:
        members.setdefault("size", DISK_BYTES)
        members.setdefault("check_status", 0)
        return self.add(FinalImage, disk=disk, content=runs(*pieces), **members)

    def machine_ends(self, expected: bool = True, status: int = 0, stderr: str = "") -> Any:
        return self.add(MachineEnded, expected=expected, status=status, stderr=stderr)

    def command(self, command: str, step: str = "", **arguments: Any) -> Any:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.add(QmpExchange, command=command, arguments=named, returns={}, step=step)

    def event(self, name: str, **members: Any) -> Any:
        return self.add(QmpEvent, name=name, data=members)

    def job(self, *statuses: str, job: str = "j0") -> None:
        for status in statuses:
            self.event("JOB_STATUS_CHANGE", id=job, status=status)
