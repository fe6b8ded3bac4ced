"""The tasks of one machine on a scheduler that others share, so that the machine can be killed or stopped
alone."""

from __future__ import annotations

from functools import partial

from simulator.engine.task import Future, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from simulator.engine.chance import Chance
    from simulator.engine.scheduler import Scheduler, Timer
    from simulator.engine.task import HostTurn

# Ended tasks are forgotten when this many have come since the last look.
_SWEEP = 256


class Domain:
    """Looks like a scheduler of its own to the machine; time, order and chance are the shared one's."""

    __slots__ = ("_held", "_shared", "_sweep_at", "_tasks", "_timers", "dead", "failed", "make_ready")

    def __init__(self, shared: Scheduler) -> None:
        self._shared = shared
        self._tasks: list[Task] = []
        self._timers: list[Timer] = []
        self._sweep_at = _SWEEP
        self._held: list[Callable[[], None]] | None = None
        self.dead = False
        # What tasks ask of their scheduler.
        self.make_ready = shared.make_ready
        self.failed = shared.failed

    @property
    def now_ns(self) -> int:
        return self._shared.now_ns

    @property
    def chance(self) -> Chance | None:
        return self._shared.chance

    @property
    def host_turn(self) -> HostTurn:
        return self._shared.host_turn

    @property
    def loop_turn(self) -> HostTurn:
        return self._shared.loop_turn

    async def rescheduled(self) -> None:
        await self._shared.rescheduled()

    def next_round(self) -> None:
        self._shared.next_round()

    def fire_due(self) -> None:
        self._shared.fire_due()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        task = Task(coroutine, name, self)  # type: ignore[arg-type]
        self.make_ready(task)
        return self._keep(task)

    def enter(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        task = Task(coroutine, name, self)  # type: ignore[arg-type]
        task.step()
        return self._keep(task)

    def has_ready(self) -> bool:
        return self._shared.has_ready()

    def turns(self, most: int) -> Awaitable[None]:
        return self._shared.turns(most)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        timer = self._shared.call_at(when_ns, callback)
        self._timers.append(timer)
        if len(self._timers) >= self._sweep_at:
            self._sweep()
        return timer

    async def sleep(self, duration_ns: int) -> None:
        future = Future(f"sleep of {duration_ns} ns")
        self.call_at(self.now_ns + duration_ns, future.set_result)
        await future

    def next_timer_ns(self) -> int | None:
        return self._shared.next_timer_ns()

    def _keep(self, task: Task) -> Task:
        if self.dead:
            # Its own first step has ended the domain.
            task.kill()
        elif not task.done():
            self._tasks.append(task)
            if len(self._tasks) >= self._sweep_at:
                self._sweep()
        return task

    def _sweep(self) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._timers = [timer for timer in self._timers if timer.callback is not None]
        self._sweep_at = 2 * max(len(self._tasks), len(self._timers)) + _SWEEP

    def stop(self) -> None:
        """Hold every task and every timer's callback where they are, as SIGSTOP does a process; time goes on.
        What reaches into the machine from outside must come by `when_it_runs`."""
        held: list[Callable[[], None]] = []
        self._held = held

        def hold(task: Task) -> None:
            held.append(lambda: self._shared.make_ready(task))

        self.make_ready = hold
        for task in self._shared.take_ready(self):
            hold(task)
        for timer in self._timers:
            if timer.callback is not None:
                timer.callback = partial(self.when_it_runs, timer.callback)

    def go_on(self) -> None:
        """What became ready or due meanwhile comes in the order in which it did."""
        held, self._held = self._held or [], None
        self.make_ready = self._shared.make_ready
        for each in held:
            each()

    def when_it_runs(self, callback: Callable[[], None]) -> None:
        """Call it now, or, while the domain is stopped, in its order once it goes on."""
        if self._held is None:
            callback()
        else:
            self._held.append(callback)

    def kill(self) -> None:
        """End every task where it stands and forget its timers."""
        self.dead = True
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.kill()
        self._tasks.clear()
        self._timers.clear()
