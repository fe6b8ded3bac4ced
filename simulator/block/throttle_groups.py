"""Throttle groups: leaky buckets that several throttle nodes share.

Source: util/throttle.c and block/throttle-groups.c, 7.2. Levels are kept as exact integers (unit * ns), so
that a seed gives the same times everywhere.
"""

from __future__ import annotations

from collections import deque

from simulator.block.errors import QmpError
from simulator.engine.task import Future
from simulator.qapi.integers import UINT64_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.engine.scheduler import Scheduler, Timer

_NS = 1_000_000_000
VALUE_MAX = 1_000_000_000_000_000
_UINT_MAX = (1 << 32) - 1

BUCKETS = ("bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write")
_READ_BUCKETS = ("bps-total", "iops-total", "bps-read", "iops-read")
_WRITE_BUCKETS = ("bps-total", "iops-total", "bps-write", "iops-write")


class _Bucket:
    """`average` units a second; `most` in bursts (0: a tenth of a second's worth); `burst_s` seconds of
    bursts."""

    __slots__ = ("average", "burst_level", "burst_s", "level", "most")

    def __init__(self) -> None:
        self.average = self.most = 0
        self.burst_s = 1
        self.level = self.burst_level = 0  # units * 10^9

    def emptied(self) -> _Bucket:
        """One with the same limits."""
        bucket = _Bucket()
        bucket.average, bucket.most, bucket.burst_s = self.average, self.most, self.burst_s
        return bucket

    def leak(self, passed_ns: int) -> None:
        self.level = max(self.level - self.average * passed_ns, 0)
        if self.burst_s > 1:
            self.burst_level = max(self.burst_level - self.most * passed_ns, 0)

    def fill(self, billionths: int) -> None:
        """Account for that many billionths of a unit."""
        self.level += billionths
        if self.burst_s > 1:
            self.burst_level += billionths

    def wait_ns(self) -> int:
        if not self.average:
            return 0
        size = self.most * self.burst_s * _NS if self.most else self.average * _NS // 10
        extra = self.level - size
        if extra > 0:
            return extra // self.average
        if self.burst_s > 1:
            extra = self.burst_level - self.most * _NS // 10
            if extra > 0:
                return extra // self.most
        return 0


class Member:
    """A throttle node in its group. Index 0 is reads, 1 writes. `pending` counts the requests of the queue,
    and those that were let go and have not run yet."""

    __slots__ = ("disabled", "group", "pending", "queues", "timers")

    def __init__(self, group: ThrottleGroup) -> None:
        self.group = group
        self.disabled = 0  # drained sections
        self.queues: tuple[deque[Future], deque[Future]] = (deque(), deque())
        self.pending = [0, 0]
        self.timers: list[Timer | None] = [None, None]


# Members of ThrottleLimits.
LIMITS = frozenset(
    (*BUCKETS, *(f"{kind}{end}" for kind in BUCKETS for end in ("-max", "-max-length")), "iops-size")
)


class ThrottleGroup:
    """An object of type throttle-group. `users` are its members; it cannot be deleted while it has some."""

    __slots__ = (
        "_armed",
        "_buckets",
        "_last_leak_ns",
        "_operation_bytes",
        "_scheduler",
        "_tokens",
        "goes_with_members",
        "members",
        "name",
    )

    type_name = "throttle-group"

    def __init__(self, scheduler: Scheduler, name: str, properties: dict[str, Any]) -> None:
        """`properties` as of object-add: `limits` and x-bps-total, ... Raises QmpError."""
        self.name = name
        self.goes_with_members = False  # one that nobody made as an object
        self._scheduler = scheduler
        self._buckets = {kind: _Bucket() for kind in BUCKETS}
        self._operation_bytes = 0
        for key, value in properties.items():
            if key.startswith("x-"):
                if value < 0:
                    raise QmpError("Property values cannot be negative")
                if key.endswith("-max-length") and value > _UINT_MAX:
                    # In these words.
                    raise QmpError(f"{key} value must be in therange [0, {_UINT_MAX}]")
                self._set(key[2:], value)
        for key, value in properties.get("limits", {}).items():
            self._set(key, value)
        self._check()
        self._last_leak_ns = scheduler.now_ns
        self.members: list[Member] = []  # newest first
        self._tokens: list[Member | None] = [None, None]
        self._armed = [False, False]

    # -- limits
    def _set(self, key: str, value: int) -> None:
        if key == "iops-size":
            self._operation_bytes = value & UINT64_MAX
        elif key.endswith("-max-length"):
            if value > _UINT_MAX:
                raise QmpError(f"{key} value must be in the range [0, {_UINT_MAX}]")
            self._buckets[key.removesuffix("-max-length")].burst_s = value & _UINT_MAX
        elif key.endswith("-max"):
            self._buckets[key.removesuffix("-max")].most = value & UINT64_MAX
        else:
            self._buckets[key].average = value & UINT64_MAX

    def set_limits(self, limits: dict[str, int]) -> None:
        """New values for those given; all that has been counted so far is forgotten. Requests that wait do so
        until their time by the old limits. Raises QmpError and changes nothing
        (throttle_group_set_limits)."""
        before, operation_bytes = self._buckets, self._operation_bytes
        self._buckets = {kind: bucket.emptied() for kind, bucket in before.items()}
        try:
            for key, value in limits.items():
                self._set(key, value)
            self._check()
        except QmpError:
            self._buckets, self._operation_bytes = before, operation_bytes
            raise
        self._last_leak_ns = self._scheduler.now_ns

    def limits(self) -> dict[str, int]:
        """All of them, as ThrottleLimits."""
        limits = {"iops-size": self._operation_bytes}
        for kind, bucket in self._buckets.items():
            limits |= {
                kind: bucket.average,
                f"{kind}-max": bucket.most,
                f"{kind}-max-length": bucket.burst_s,
            }
        return limits

    def _check(self) -> None:
        """throttle_is_valid. Raises QmpError."""
        buckets = self._buckets
        for unit in ("bps", "iops"):
            total, read, write = (buckets[f"{unit}-{kind}"] for kind in ("total", "read", "write"))
            if (total.average and (read.average or write.average)) or (
                total.most and (read.most or write.most)
            ):
                raise QmpError(
                    "bps/iops/max total values and read/write values cannot be used at the same time"
                )
        if self._operation_bytes and not any(
            buckets[f"iops-{k}"].average for k in ("total", "read", "write")
        ):
            raise QmpError("iops size requires an iops value to be set")
        for bucket in buckets.values():
            problem = _problem(bucket)
            if problem:
                raise QmpError(problem)

    @property
    def limits_anything(self) -> bool:
        return any(bucket.average for bucket in self._buckets.values())

    # -- members
    def join(self) -> Member:
        member = Member(self)
        self._tokens = [token or member for token in self._tokens]
        self.members.insert(0, member)
        return member

    def leave(self, member: Member) -> None:
        """A member without requests goes."""
        for kind, token in enumerate(self._tokens):
            if token is member:
                following = self._after(member)
                self._tokens[kind] = None if following is member else following
        self.members.remove(member)

    def _after(self, member: Member) -> Member:
        at = self.members.index(member) + 1
        return self.members[at] if at < len(self.members) else self.members[0]

    # -- requests
    async def pass_through(self, member: Member, length: int, is_write: bool) -> None:
        """Wait for the request's turn, account for it, and let the next one come."""
        kind = int(is_write)
        token = self._next_token(member, kind)
        if self._must_wait(token, kind) or member.pending[kind]:
            future = Future("a throttle group's limit")
            member.queues[kind].append(future)
            member.pending[kind] += 1
            await future
            member.pending[kind] -= 1
        self._account(kind, length)
        self._schedule_next(member, kind)

    def _account(self, kind: int, length: int) -> None:
        operations = _NS
        if self._operation_bytes and length > self._operation_bytes:
            operations = length * _NS // self._operation_bytes
        for name in _WRITE_BUCKETS if kind else _READ_BUCKETS:
            self._buckets[name].fill(length * _NS if name.startswith("bps") else operations)

    def _wait_ns(self, kind: int) -> int:
        now_ns = self._scheduler.now_ns
        passed_ns, self._last_leak_ns = now_ns - self._last_leak_ns, now_ns
        if passed_ns > 0:
            for bucket in self._buckets.values():
                bucket.leak(passed_ns)
        return max(self._buckets[name].wait_ns() for name in (_WRITE_BUCKETS if kind else _READ_BUCKETS))

    def _next_token(self, member: Member, kind: int) -> Member:
        """Who is next, round robin over the members with requests waiting."""
        if member.pending[kind] and member.disabled:
            return member
        start = self._tokens[kind]
        assert start is not None
        token = self._after(start)
        while token is not start and not token.pending[kind]:
            token = self._after(token)
        return member if token is start and not token.pending[kind] else token

    def _must_wait(self, member: Member, kind: int) -> bool:
        """Whether a request must wait; then a timer of the group is set."""
        if member.disabled:
            return False
        if self._armed[kind]:
            return True
        wait_ns = self._wait_ns(kind)
        if wait_ns:
            self._arm(member, kind, wait_ns)
            self._tokens[kind] = member
        return bool(wait_ns)

    def _arm(self, member: Member, kind: int, wait_ns: int) -> None:
        self._armed[kind] = True
        when_ns = self._scheduler.now_ns + wait_ns
        member.timers[kind] = self._scheduler.call_at(when_ns, lambda: self._timer_fired(member, kind))

    def _timer_fired(self, member: Member, kind: int) -> None:
        self._armed[kind] = False
        member.timers[kind] = None
        self._restart(member, kind)

    def _restart(self, member: Member, kind: int) -> None:
        if not self._let_one_go(member, kind):
            self._schedule_next(member, kind)

    @staticmethod
    def _let_one_go(member: Member, kind: int) -> bool:
        queue = member.queues[kind]
        if not queue:
            return False
        queue.popleft().set_result()
        return True

    def _schedule_next(self, member: Member, kind: int) -> None:
        token = self._next_token(member, kind)
        if not token.pending[kind] or self._must_wait(token, kind):
            return
        if self._let_one_go(member, kind):
            token = member
        else:
            self._arm(token, kind, 0)
        self._tokens[kind] = token

    # -- drains
    def drained_begin(self, member: Member) -> None:
        """The member's waiting requests go at once, those under way must be able to end."""
        member.disabled += 1
        if member.disabled == 1:
            self.restart(member)

    def restart(self, member: Member) -> None:
        """Look anew at what waits, as limits or the member have changed (throttle_group_restart_tgm)."""
        for kind in (0, 1):
            timer = member.timers[kind]
            if timer is not None:
                timer.cancel()
                self._timer_fired(member, kind)
            else:
                self._restart(member, kind)

    @staticmethod
    def drained_end(member: Member) -> None:
        member.disabled -= 1


def _problem(bucket: _Bucket) -> str:
    if bucket.average > VALUE_MAX or bucket.most > VALUE_MAX:
        return f"bps/iops/max values must be within [0, {VALUE_MAX}]"
    if not bucket.burst_s:
        return "the burst length cannot be 0"
    if bucket.burst_s > 1 and not bucket.most:
        return "burst length set without burst rate"
    if bucket.most and bucket.burst_s > VALUE_MAX // bucket.most:
        return "burst length too high for this burst rate"
    if bucket.most and not bucket.average:
        return "bps_max/iops_max require corresponding bps/iops values"
    if bucket.most and bucket.most < bucket.average:
        return "bps_max/iops_max cannot be lower than bps/iops"
    return ""
