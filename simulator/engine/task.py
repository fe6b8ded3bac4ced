"""Coroutines and what they wait for. No loop, no clock: engine/scheduler.py runs these.

A coroutine gives up control in two ways only: it awaits a `Future` that is not done, or it awaits
`interleave()`, which marks a place where another task may come first. QEMU's block layer yields at the same
places.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from typing import Any, TypeVar

    from simulator.engine.scheduler import Scheduler

    T = TypeVar("T")


class Killed(BaseException):
    """Thrown into a task whose machine is gone. Not an Exception: no driver may swallow it."""


class Future:
    """A value that is not there yet. `what` names it in a report of tasks that wait for ever."""

    __slots__ = ("_done", "_error", "_value", "waiters", "what")

    def __init__(self, what: str = "") -> None:
        self.what = what
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.waiters: list[Task] = []

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        """The value, or raises the exception it was finished with. Only once done."""
        if not self._done:
            raise AssertionError(f"{self.what or 'future'}: asked for its result before it was done")
        if self._error is not None:
            raise self._error
        return self._value

    def set_result(self, value: Any = None) -> None:
        if self._done:
            raise AssertionError(f"{self.what or 'future'}: finished twice")
        self._done, self._value = True, value
        waiters = self.waiters
        if waiters:
            self.waiters = []
            for task in waiters:
                task.scheduler.make_ready(task)

    def enter_waiters(self) -> None:
        """Done, and who waits for it runs at once, for a caller that gives up control itself now
        (aio_co_wake in a coroutine, util/async.c:617, 7.2)."""
        waiters, self.waiters = self.waiters, []
        self.set_result()
        for task in waiters:
            task.step()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self.set_result()

    def __await__(self) -> Generator[Future, None, Any]:
        if not self._done:
            yield self
        return self.result()


class _Turns(tuple[None, ...]):
    """Awaited: go to the end of the line, once for each item. It is a tuple because the iterator of one gives
    up control without a frame of Python's."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __await__(self) -> Generator[None, None, None]: ...
    else:
        __await__ = tuple.__iter__


_ONE_TURN = _Turns((None,))
NO_TURN = _Turns()  # for what must be awaited and never waits


def interleave() -> _Turns:
    """``await interleave()``: another task may run here."""
    return _ONE_TURN


class HostTurn:
    """``await scheduler.host_turn``: what a thread of the host does is over only when no task is ready, as
    QEMU sees it end in a later round of its main loop. ``await scheduler.loop_turn``: the next round itself.
    """

    __slots__ = ("waiters", "what")

    def __init__(self) -> None:
        self.what = "the host, or the main loop"
        self.waiters: list[Task] = []

    def __await__(self) -> Generator[HostTurn, None, None]:
        yield self


class Task(Future):
    """A running coroutine; as a future it is done when the coroutine ends, with its value or exception."""

    __slots__ = ("_ends_itself", "coroutine", "name", "scheduler", "waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], name: str, scheduler: Scheduler) -> None:
        # What Future.__init__ does, without another call: every request makes tasks.
        self.what = name
        self._done = False
        self._value = self._error = None
        self.waiters = []
        self.coroutine = coroutine
        self.name = name
        self.scheduler = scheduler
        self.waits_for: Future | HostTurn | None = None
        self._ends_itself = False  # it was killed while it ran: by what it did itself

    def step(self) -> None:
        """Run until the coroutine gives up control or ends; nothing if it was killed meanwhile."""
        if self._done:
            return
        self.waits_for = None
        try:
            awaited = self.coroutine.send(None)
        except StopIteration as stop:
            self.set_result(stop.value)
        except Exception as error:
            unheard = not self.waiters
            self.set_exception(error)
            if unheard:
                self.scheduler.failed.append(self)
        else:
            if awaited is None:
                self.scheduler.make_ready(self)
            else:
                self.waits_for = awaited
                awaited.waiters.append(self)
            if self._ends_itself:
                self.kill()

    def kill(self) -> None:
        """End the coroutine where it stands; its `finally` clauses run, and must not wait."""
        if self.done():
            return
        if self.waits_for is not None and self in self.waits_for.waiters:
            self.waits_for.waiters.remove(self)
        try:
            self.coroutine.throw(Killed())
        except (Killed, StopIteration):
            pass
        except ValueError as error:  # it is this task that ends all of them
            if "already executing" not in str(error):
                raise
            self._ends_itself = True
            return
        self.set_result(None)


class WaitQueue:
    """Tasks waiting for a condition that somebody else makes true (QEMU's CoQueue)."""

    __slots__ = ("_sleepers", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self._sleepers: list[Future] = []

    def __len__(self) -> int:
        return len(self._sleepers)

    async def wait(self) -> None:
        """Until woken. The condition must be looked at again: it may have changed meanwhile."""
        future = Future(self.what)
        self._sleepers.append(future)
        try:
            await future
        except Killed:
            if future in self._sleepers:
                self._sleepers.remove(future)
            raise

    def wake_all(self) -> None:
        sleepers = self._sleepers
        if sleepers:
            self._sleepers = []
            for future in sleepers:
                future.set_result()

    def wake_one(self) -> None:
        if self._sleepers:
            self._sleepers.pop(0).set_result()


class Lock(WaitQueue):
    """Mutual exclusion between tasks, first come first served (QEMU's CoMutex)."""

    __slots__ = ("_held",)

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._held = False

    @property
    def locked(self) -> bool:
        return self._held

    async def __aenter__(self) -> None:
        while self._held:
            await self.wait()
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        self.wake_one()


def finish_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait, and return its value; one that waits is an error."""
    try:
        while True:
            awaited = coroutine.send(None)
            if awaited is not None and not isinstance(awaited, HostTurn):
                coroutine.close()
                raise AssertionError(f"had to wait for {awaited.what or 'something'}")
    except StopIteration as stop:
        value: T = stop.value
        return value
