"""The tasks of one machine on a scheduler that others share, so that the machine can be killed alone."""

from __future__ import annotations

from simulator.engine.task import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from simulator.engine.chance import Chance
    from simulator.engine.scheduler import Scheduler, Timer
    from simulator.engine.task import HostTurn, Task

# Ended tasks are forgotten when this many have come since the last look.
_SWEEP = 256


class Domain:
    """Looks like a scheduler of its own to the machine; time, order and chance are the shared one's."""

    __slots__ = ("_shared", "_sweep_at", "_tasks", "_timers", "dead")

    def __init__(self, shared: Scheduler) -> None:
        self._shared = shared
        self._tasks: list[Task] = []
        self._timers: list[Timer] = []
        self._sweep_at = _SWEEP
        self.dead = False

    @property
    def now_ns(self) -> int:
        return self._shared.now_ns

    @property
    def chance(self) -> Chance | None:
        return self._shared.chance

    @property
    def host_turn(self) -> HostTurn:
        return self._shared.host_turn

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        return self._keep(self._shared.spawn(coroutine, name))

    def enter(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        return self._keep(self._shared.enter(coroutine, name))

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
        if not task.done():
            self._tasks.append(task)
            if len(self._tasks) >= self._sweep_at:
                self._sweep()
        return task

    def _sweep(self) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._timers = [timer for timer in self._timers if timer.callback is not None]
        self._sweep_at = 2 * max(len(self._tasks), len(self._timers)) + _SWEEP

    def kill(self) -> None:
        """End every task where it stands and forget its timers."""
        self.dead = True
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.kill()
        self._tasks.clear()
        self._timers.clear()
