"""What each byte of a disk may hold at a moment, from the guest's requests alone: plainer than any
block layer.

A request takes effect at once, at some moment between its begin and its end. So of two requests where one had
returned before the other began, the second one's bytes stay; of two that overlap in time, either's
may. For each range the oracle keeps the requests that may have been the last to write it: its
writers.

A request is *sure* if its bytes must be there after it: writes and zeroes that succeeded. A discard
may leave the old bytes or zeroes, a failed or unanswered request the old bytes or its own, each
byte for itself. After a crash the same is true of whatever no flush followed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from scenarios.judges.interval_map import IntervalMap
from scenarios.run.content import Run
from scenarios.run.history import DiskAdded, GuestOp, History, MachineEnded

NEVER = 1 << 62


class Writer:
    """A request that may have written a range last. `lost_at`: the crash that may have undone it,
    or NEVER."""

    __slots__ = ("begin", "end", "lost_at", "record", "succeeded", "sure", "value")

    def __init__(
        self, begin: int, end: int, value: int, sure: bool, record: GuestOp | None, succeeded: bool = True
    ) -> None:
        self.begin, self.end, self.value, self.sure, self.record = begin, end, value, sure, record
        self.succeeded = succeeded
        self.lost_at = NEVER

    def is_sure(self, now: int) -> bool:
        return self.sure and now < self.lost_at


Writers = tuple[Writer, ...]
NOBODY = Writer(-1, -1, 0, True, None)


def last_writers(writers: Writers, now: int) -> Writers:
    """Those that are not overwritten by a sure request that had returned by `now`."""
    if len(writers) == 1:
        return writers
    return tuple(
        one
        for one in writers
        if not any(one.end < other.begin and other.end < now and other.is_sure(now) for other in writers)
    )


class Disk:
    """One disk's writers, advanced request by request in the order of their begins.

    `last_crash`: until then overwritten requests are kept unless a flush has made that final, as a
    crash may bring them back. `earliest`: the begin of the oldest observation that is still going
    on, or the present; what was overwritten by then is forgotten.
    """

    def __init__(self, size: int, last_crash: int) -> None:
        self.size = size
        self.writers: IntervalMap[Writers] = IntervalMap(size, (NOBODY,))
        self._last_crash = last_crash

    def begin(self, writer: Writer, offset: int, length: int, earliest: int) -> None:
        """A request begins."""
        pieces = []
        for start, end, writers in self.writers.runs(offset, offset + length):
            after = earliest > self._last_crash
            kept = last_writers(writers, earliest) if after else _durable(writers, earliest)
            pieces.append((start, end, (*kept, writer)))
        self.writers.replace(offset, pieces)

    def settle(self, start: int, end: int, value: int, writers: Writers, earliest: int) -> None:
        """It has been seen which of several possible bytes a range holds while nobody was writing
        it: so it stays.

        Nothing is done where an observation still goes on that may have been before that, or a
        crash may still come.
        """
        last = max(each.end for each in writers)
        if last >= earliest or earliest <= self._last_crash:
            return
        record = next((each.record for each in reversed(writers) if each.value == value), None)
        seen = Writer(max(each.begin for each in writers), last, value, True, record)
        self.writers.replace(start, [(start, end, (seen,))])


def _durable(writers: Writers, now: int) -> Writers:
    """As last_writers, but only what no crash can undo overwrites anything."""
    return tuple(
        one
        for one in writers
        if not any(
            one.end < other.begin and other.end < now and other.sure and other.lost_at == NEVER
            for other in writers
        )
    )


class Timeline(NamedTuple):
    """`begins`: each write-like request with its writer, by begin. `sizes` of the disks in bytes."""

    begins: list[tuple[GuestOp, Writer]]
    disks: dict[str, Disk]


def timeline(history: History) -> Timeline:
    """Disks as they are at the start, and all that is going to be written to them."""
    requests = [each for each in history.records if type(each) is GuestOp]
    deaths = sorted(each.begin for each in history.records if type(each) is MachineEnded)
    crashes = sorted(
        each.begin
        for each in history.records
        if type(each) is MachineEnded and not (each.expected and each.status == 0)
    )
    begins = []
    for request in requests:
        if request.kind in ("write", "zero", "discard") and request.length > 0:
            begins.append((request, _writer(request, deaths)))
    begins.sort(key=lambda pair: pair[0].begin)
    if crashes:
        _mark_lost(begins, requests, crashes, deaths)
    disks = {
        each.disk: Disk(each.size, crashes[-1] if crashes else -1)
        for each in history.records
        if type(each) is DiskAdded
    }
    return Timeline(begins, disks)


def _writer(request: GuestOp, deaths: Sequence[int]) -> Writer:
    """What never returned can take effect until the machine ends."""
    end, succeeded = request.end, request.error is None and request.end is not None
    if end is None:
        index = bisect_left(deaths, request.begin)
        end = deaths[index] if index < len(deaths) else NEVER
    value = request.pattern if request.kind == "write" else 0
    return Writer(request.begin, end, value, succeeded and request.kind != "discard", request, succeeded)


def _mark_lost(
    begins: Sequence[tuple[GuestOp, Writer]],
    requests: Sequence[GuestOp],
    crashes: Sequence[int],
    deaths: Sequence[int],
) -> None:
    """A request is safe once a flush that began after its end has succeeded, or the machine has
    ended orderly."""
    orderly = [tick for tick in deaths if tick not in crashes]
    flushes: dict[str, list[tuple[int, int]]] = {}
    for request in requests:
        if request.kind == "flush" and request.error is None and request.end is not None:
            flushes.setdefault(request.disk, []).append((request.begin, request.end))
    for each in flushes.values():
        each.sort()
    for request, writer in begins:
        index = bisect_left(crashes, writer.begin)
        if index == len(crashes) or writer.end >= crashes[index]:
            continue
        crash = crashes[index]
        mine = flushes.get(request.disk, [])
        later = mine[bisect_left(mine, (writer.end, 0)) :]
        safe = any(end < crash for _, end in later) or any(writer.end < tick < crash for tick in orderly)
        if not safe:
            writer.lost_at = crash


def uniform(runs: Sequence[Run]) -> Iterator[tuple[int, int, int]]:
    """(start, end, byte) of a content; runs of mixed bytes are taken apart."""
    for offset, length, value in runs:
        if isinstance(value, int):
            yield offset, offset + length, value
            continue
        at = offset
        for byte, group in groupby(value):
            count = sum(1 for _ in group)
            yield at, at + count, byte
            at += count


def values_of(writers: Writers) -> list[int]:
    """The bytes that they would leave, each once."""
    return list(dict.fromkeys(each.value for each in writers))


def tell_writer(writer: Writer) -> str:
    """Such as "0x11 (guest's write, step 4)"."""
    if writer.record is None:
        return "0x00 (never written)"
    where = f", step {writer.record.step}" if writer.record.step else ""
    failed = f", which failed with {writer.record.error}" if writer.record.error else ""
    return f"0x{writer.value:02x} (guest's {writer.record.kind}{where}{failed})"


def tell_writers(writers: Writers) -> str:
    return " or ".join(dict.fromkeys(map(tell_writer, writers)))


def who_wrote(history: History, disk: str, offset: int, value: int) -> GuestOp | None:
    """The last request anywhere in the history that would put that byte there; None if there is none."""
    for record in reversed(history.records):
        if type(record) is GuestOp and record.disk == disk and record.kind in ("write", "zero", "discard"):
            pattern = record.pattern if record.kind == "write" else 0
            if record.offset <= offset < record.offset + record.length and pattern == value:
                return record
    return None
