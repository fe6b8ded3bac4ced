"""One scheduler: which task runs next, and what time it is. Virtual nanoseconds since power-on."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from simulator.engine.task import NO_TURN, Future, HostTurn, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
    from typing import Any

    from simulator.engine.chance import Chance


class Stuck(Exception):
    """Nothing can happen any more, yet something is waited for. str() lists who waits for what."""


def _wake(waiters: Iterable[Task]) -> None:
    for task in waiters:
        task.scheduler.make_ready(task)


class Timer:
    """A callback at a time; `cancel` is allowed at any moment."""

    __slots__ = ("callback", "when_ns")

    def __init__(self, when_ns: int, callback: Callable[[], None]) -> None:
        self.when_ns = when_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _TurnsOfOthers:
    """Of `most` turns, as many as others can use."""

    __slots__ = ("_most", "_ready")

    def __init__(self, ready: deque[Task], most: int) -> None:
        self._ready, self._most = ready, most

    def __await__(self) -> Generator[None, None, None]:
        for _ in range(self._most):
            if not self._ready:
                return
            yield None


class Scheduler:
    """Tasks run one at a time. Without `chance` the one that became ready first runs first; with it, the
    next one is drawn, so that a seed is an interleaving. Time moves only when no task is ready.

    `make_ready(task)` is called by futures; a task is in the line at most once because it waits for one thing
    at a time.
    """

    __slots__ = (
        "_ready", "_scheduled", "_serial", "_timers", "chance", "failed", "host_turn", "loop_turn",
        "make_ready", "now_ns",
    )  # fmt: skip

    def __init__(self, chance: Chance | None = None) -> None:
        self.chance = chance
        self.now_ns = 0
        self.host_turn = HostTurn()
        self.loop_turn = HostTurn()
        self.failed: list[Task] = []
        self._ready: deque[Task] = deque()
        self.make_ready: Callable[[Task], None] = self._ready.append
        self._timers: list[tuple[int, int, Timer]] = []
        self._serial = 0
        self._scheduled: Future | None = None

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        """Start a coroutine; it first runs when its turn comes."""
        task = Task(coroutine, name, self)
        self._ready.append(task)
        return task

    def enter(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        """Start a coroutine and run it at once up to its first wait, as qemu_coroutine_enter does."""
        task = Task(coroutine, name, self)
        task.step()
        return task

    def has_ready(self) -> bool:
        """Whether any task could run now, besides the one that asks."""
        return bool(self._ready or self.loop_turn.waiters or self.host_turn.waiters)

    def take_ready(self, owner: object) -> list[Task]:
        """Take the tasks of one owner out of the line."""
        ready = self._ready
        taken = [task for task in ready if task.scheduler is owner]
        for task in taken:
            ready.remove(task)
        return taken

    def turns(self, most: int) -> Awaitable[None]:
        """``await scheduler.turns(n)``: let the others run, until none of them is ready or it has been the
        asker's turn n times."""
        return _TurnsOfOthers(self._ready, most) if self._ready else NO_TURN

    def next_round(self) -> None:
        """Who waits for the main loop's next round gets a turn. Whoever asks for one from now on waits for
        the round after. The last to ask comes first: QEMU keeps what is to be done (BHs, util/async.c:161,
        7.2) in a stack."""
        waiters, self.loop_turn.waiters = self.loop_turn.waiters, []
        _wake(reversed(waiters))

    async def rescheduled(self) -> None:
        """aio_co_schedule: go on in the next round of the main loop. All that wait like this share one turn,
        that of the first, and come in the order in which they asked (co_schedule_bh_cb, util/async.c:524,
        7.2)."""
        if self._scheduled is None:
            self._scheduled = Future("the main loop")
            self.enter(self._run_scheduled(), "coroutines that were scheduled")
        await self._scheduled

    async def _run_scheduled(self) -> None:
        await self.loop_turn
        due, self._scheduled = self._scheduled, None
        assert due is not None
        # They are entered, before what else is to be done in this round.
        others = len(self._ready)
        due.set_result()
        self._ready.rotate(len(self._ready) - others)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Run `callback` at `when_ns` (now, if that has passed), in order of time, then of asking."""
        timer = Timer(when_ns, callback)
        self._serial += 1
        heappush(self._timers, (when_ns, self._serial, timer))
        return timer

    async def sleep(self, duration_ns: int) -> None:
        future = Future(f"sleep of {duration_ns} ns")
        self.call_at(self.now_ns + duration_ns, future.set_result)
        await future

    def next_timer_ns(self) -> int | None:
        """When the next timer is due, or None."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heappop(timers)
        return timers[0][0] if timers else None

    def run_ready(self) -> None:
        """Run until every task waits. Time stands still."""
        ready, chance, host, loop = self._ready, self.chance, self.host_turn, self.loop_turn
        in_round = False
        while ready or loop.waiters or host.waiters:
            if not ready and (in_round or (chance is None and not loop.waiters)):
                # A round of the main loop ends with the timers (aio_dispatch, util/aio-posix.c:418, 7.2), and
                # the host takes longer than a round.
                in_round = False
                self.fire_due()
            if loop.waiters and (chance is not None or not ready):
                self.next_round()
                in_round = chance is None
            if host.waiters and (chance is not None or not ready):
                # What is drawn by chance may be anything; else the host is slower than we are.
                waiters, host.waiters = host.waiters, []
                _wake(waiters)
            if chance is not None and len(ready) > 1:
                ready.rotate(-chance.below(len(ready)))
            ready.popleft().step()
            if self.failed:
                self._raise_failed()

    def _raise_failed(self) -> None:
        """A task that nobody awaits must not fail in silence: it is a defect of the simulator."""
        task = self.failed.pop(0)
        self.failed.clear()
        task.result()

    def advance_to(self, when_ns: int) -> None:
        """Let virtual time reach `when_ns`, running all that falls due on the way."""
        self.run_ready()
        while True:
            due_ns = self.next_timer_ns()
            if due_ns is None or due_ns > when_ns:
                break
            self._fire_next()
            self.run_ready()
        self.now_ns = max(self.now_ns, when_ns)

    def run_until(self, future: Future, limit_ns: int | None = None) -> Any:
        """Run until `future` is done and return its result; time jumps to the next timer when all wait.

        Raises Stuck if nothing is left that could finish it, or virtual time would pass `limit_ns`.
        """
        self.run_ready()
        while not future.done():
            due_ns = self.next_timer_ns()
            if due_ns is None:
                what = future.what or "what was asked for"
                raise Stuck(f"{what} can never happen: no task is ready, no timer is set")
            if limit_ns is not None and due_ns > limit_ns:
                raise Stuck(
                    f"{future.what or 'what was asked for'} has not happened by {limit_ns} ns of virtual time"
                )
            self._fire_next()
            self.run_ready()
        return future.result()

    def fire_due(self) -> None:
        """Once what is due by now, but nothing that is set meanwhile."""
        due = []
        while self._timers and self._timers[0][0] <= self.now_ns:
            due.append(heappop(self._timers)[2])
        for timer in due:
            self._fire(timer)

    def _fire_next(self) -> None:
        """All that are due at the next time at which any is: QEMU runs them in one go, before anything else
        that has become ready (timerlist_run_timers, util/qemu-timer.c:501, 7.2)."""
        self.now_ns = max(self.now_ns, self._timers[0][0])
        self.fire_due()

    def _fire(self, timer: Timer) -> None:
        callback = timer.callback
        if callback is not None:
            timer.callback = None
            callback()
