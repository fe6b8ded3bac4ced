"""A request to copy clusters, and the tasks that it may have at once (block/block-copy.c, block/aio_task.c,
7.2)."""

from __future__ import annotations

from collections import deque

from simulator.engine.task import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WORKERS = 64


class BlockCopyCall:
    """One request to copy a range, under way or finished. `error` is what it failed with."""

    __slots__ = (
        "cancelled", "error", "error_is_read", "finished", "ignore_ratelimit", "length", "max_chunk",
        "max_workers", "offset", "on_finished", "sleeping",
    )  # fmt: skip

    def __init__(
        self, offset: int, length: int, ignore_ratelimit: bool, max_workers: int, max_chunk: int,
        on_finished: Callable[[], None] | None,
    ) -> None:  # fmt: skip
        self.offset, self.length = offset, length
        self.ignore_ratelimit = ignore_ratelimit
        self.max_workers, self.max_chunk = max_workers, max_chunk
        self.on_finished = on_finished
        self.finished = False
        self.cancelled = False
        self.error: OSError | None = None
        self.error_is_read = False
        self.sleeping: Future | None = None

    def kick(self) -> None:
        """End the sleep of a call that its speed limit holds up: the limit has changed."""
        if self.sleeping is not None and not self.sleeping.done():
            self.sleeping.set_result()

    def cancel(self) -> None:
        """Start no further chunk; those under way finish, and then the call is finished."""
        self.cancelled = True
        self.kick()


class CopyPool:
    """At most `limit` chunks at once (block/aio_task.c)."""

    __slots__ = ("_waiting", "busy", "error", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.busy = 0
        self.error: OSError | None = None
        self._waiting: deque[Future] = deque()

    def leave(self, error: OSError | None) -> None:
        self.busy -= 1
        if error is not None and self.error is None:
            self.error = error
        if self._waiting:
            self._waiting.popleft().enter_waiters()

    async def wait_slot(self) -> None:
        while self.busy >= self.limit:
            await self._wait_one()

    async def wait_all(self) -> None:
        while self.busy:
            await self._wait_one()

    async def _wait_one(self) -> None:
        future = Future("a chunk of a copy to finish")
        self._waiting.append(future)
        await future
