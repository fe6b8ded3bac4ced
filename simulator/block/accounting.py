"""What a backend counts of the requests of its device.

Source: block/accounting.c and util/timed-average.c, 7.2. It is the device that counts, not the backend:
requests of jobs, NBD clients and of most of qemu-io's commands are not among them.
"""

from __future__ import annotations

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    from simulator.engine.scheduler import Scheduler

    _Result = TypeVar("_Result")

READ, WRITE, FLUSH, UNMAP = "rd", "wr", "flush", "unmap"
ZONE_APPEND = "zone_append"  # in some versions
KINDS = (READ, WRITE, FLUSH, UNMAP)
_TIMED = (READ, WRITE, FLUSH)
_NS_PER_S = 1_000_000_000


class Accounting:
    """Counters by kind of request; all start at zero and nothing sets them back."""

    __slots__ = (
        "_last_access_ns",
        "_scheduler",
        "account_failed",
        "account_invalid",
        "bytes",
        "failed",
        "histograms",
        "intervals",
        "invalid",
        "operations",
        "total_time_ns",
    )

    def __init__(self, scheduler: Scheduler, accounts: bool) -> None:
        """`accounts`: invalid and failed requests, too, count as such that the device was in use."""
        self._scheduler = scheduler
        self.account_invalid = self.account_failed = accounts
        self._last_access_ns: int | None = None
        self.bytes = dict.fromkeys(KINDS, 0)
        self.operations = dict.fromkeys(KINDS, 0)
        self.failed = dict.fromkeys(KINDS, 0)
        self.invalid = dict.fromkeys(KINDS, 0)
        self.total_time_ns = dict.fromkeys(KINDS, 0)
        self.histograms: dict[str, Histogram] = {}
        self.intervals: list[Interval] = []  # newest first

    async def count(self, kind: str, length: int, request: Coroutine[Any, Any, _Result]) -> _Result:
        """Await the request and count it. Raises what it raises."""
        begun_ns = self._scheduler.now_ns
        try:
            result = await request
        except OSError:
            self.failed[kind] += 1
            self._account_time(kind, begun_ns, self.account_failed)
            raise
        self.bytes[kind] += length
        self.operations[kind] += 1
        self._account_time(kind, begun_ns, True)
        return result

    def _account_time(self, kind: str, begun_ns: int, is_access: bool) -> None:
        now_ns = self._scheduler.now_ns
        latency_ns = now_ns - begun_ns
        if kind in self.histograms:
            self.histograms[kind].add(latency_ns)
        if is_access:
            self.total_time_ns[kind] += latency_ns
            self._last_access_ns = now_ns
            for interval in self.intervals:
                interval.latency_of(kind).add(now_ns, latency_ns)

    def count_invalid(self, kind: str) -> None:
        """A request that could not be made."""
        self.invalid[kind] += 1
        if self.account_invalid:
            self._last_access_ns = self._scheduler.now_ns

    def add_interval(self, length_s: int) -> None:
        """Of -drive stats-intervals."""
        self.intervals.insert(0, Interval(self._scheduler.now_ns, length_s))

    def set_histogram(self, kind: str, boundaries_ns: list[int]) -> bool:
        """Count from zero, in the bins that these make. False, and nothing is done, unless each is greater
        than the one before it, and than 0."""
        before = [0, *boundaries_ns]
        if any(left >= right for left, right in zip(before, boundaries_ns, strict=False)):
            return False
        self.histograms[kind] = Histogram(boundaries_ns)
        return True

    def describe(self, with_zone_append: bool) -> dict[str, Any]:
        """Members of BlockDeviceStats. No device here appends to zones."""
        described: dict[str, Any] = {}
        for kind in (*KINDS, ZONE_APPEND) if with_zone_append else KINDS:
            described[f"{kind}_operations"] = self.operations.get(kind, 0)
            described[f"{kind}_total_time_ns"] = self.total_time_ns.get(kind, 0)
            described[f"failed_{kind}_operations"] = self.failed.get(kind, 0)
            described[f"invalid_{kind}_operations"] = self.invalid.get(kind, 0)
            if kind != FLUSH:
                described[f"{kind}_bytes"] = self.bytes.get(kind, 0)
                described[f"{kind}_merged"] = 0  # each request goes alone
        if self._last_access_ns is not None:
            described["idle_time_ns"] = self._scheduler.now_ns - self._last_access_ns
        described["account_invalid"] = self.account_invalid
        described["account_failed"] = self.account_failed
        # As QEMU lists them: it turns the order round once more.
        described["timed_stats"] = [
            interval.describe(self._scheduler.now_ns, with_zone_append)
            for interval in reversed(self.intervals)
        ]
        for kind, histogram in self.histograms.items():
            described[f"{kind}_latency_histogram"] = histogram.describe()
        return described


class Histogram:
    """How many requests took how long: as many bins as boundaries and one."""

    __slots__ = ("_bins", "_boundaries_ns")

    def __init__(self, boundaries_ns: list[int]) -> None:
        self._boundaries_ns = boundaries_ns
        self._bins = [0] * (len(boundaries_ns) + 1)

    def add(self, latency_ns: int) -> None:
        self._bins[bisect_right(self._boundaries_ns, latency_ns)] += 1

    def describe(self) -> dict[str, Any]:
        """BlockLatencyHistogramInfo."""
        return {"boundaries": list(self._boundaries_ns), "bins": list(self._bins)}


class Interval:
    """Latencies of about the last `length_s` seconds."""

    __slots__ = ("_latencies", "_length_s")

    def __init__(self, now_ns: int, length_s: int) -> None:
        self._length_s = length_s
        self._latencies = {kind: TimedAverage(now_ns, length_s * _NS_PER_S) for kind in (*KINDS, ZONE_APPEND)}

    def latency_of(self, kind: str) -> TimedAverage:
        return self._latencies[kind]

    def describe(self, now_ns: int, with_zone_append: bool) -> dict[str, Any]:
        """BlockDeviceTimedStats."""
        described: dict[str, Any] = {"interval_length": self._length_s}
        for kind in (*_TIMED, ZONE_APPEND) if with_zone_append else _TIMED:
            latencies, elapsed_ns = self._latencies[kind].read(now_ns)
            described[f"min_{kind}_latency_ns"] = latencies.least
            described[f"max_{kind}_latency_ns"] = latencies.most
            described[f"avg_{kind}_latency_ns"] = latencies.sum // (latencies.count or 1)
            if kind != FLUSH:
                described[f"avg_{kind}_queue_depth"] = latencies.sum / (elapsed_ns or 1)
        return described


class TimedAverage:
    """Two windows of time, half of one apart, into which every value goes; the older one is read. Windows are
    longer than what was asked for by a third, so that what is read is on average as old as that."""

    __slots__ = ("_expirations_ns", "_period_ns", "_windows")

    def __init__(self, now_ns: int, period_ns: int) -> None:
        self._period_ns = period_ns * 4 // 3
        self._expirations_ns = [now_ns + self._period_ns // 2, now_ns + self._period_ns]
        self._windows = [Window(), Window()]

    def _expire(self, now_ns: int) -> None:
        for window, expiration_ns in enumerate(self._expirations_ns):
            if expiration_ns <= now_ns:
                self._windows[window] = Window()
                elapsed_ns = (now_ns - expiration_ns) % self._period_ns
                self._expirations_ns[window] = now_ns + self._period_ns - elapsed_ns

    def add(self, now_ns: int, value: int) -> None:
        self._expire(now_ns)
        for window in self._windows:
            window.add(value)

    def read(self, now_ns: int) -> tuple[Window, int]:
        """(the older window, how long it has been open in ns)."""
        self._expire(now_ns)
        older = self._expirations_ns.index(min(self._expirations_ns))
        return self._windows[older], self._period_ns - (self._expirations_ns[older] - now_ns)


class Window:
    __slots__ = ("count", "least", "most", "sum")

    def __init__(self) -> None:
        self.least = self.most = self.sum = self.count = 0

    def add(self, value: int) -> None:
        self.least = min(self.least, value) if self.count else value
        self.most = max(self.most, value)
        self.sum += value
        self.count += 1
