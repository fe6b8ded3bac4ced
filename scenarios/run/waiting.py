"""What steps that run side by side wait for each other with, on any loop: only the session's own
sleep is used.

Nothing here can wait for ever on its own: who holds a turn or the gate gives it back when its step ends, and
every request that a step waits for has a deadline of its session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scenarios.backends.interface import DeadlinePassed, Session

_LOOK_AGAIN_NS = 200_000
_DRAIN_NS = 60_000_000_000


class Turn:
    """One at a time, in the order of asking."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue: list[object] = []

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        ticket = object()
        self._queue.append(ticket)
        try:
            while self._queue[0] is not ticket:
                await self._session.sleep(_LOOK_AGAIN_NS)
            yield
        finally:
            self._queue.remove(ticket)


class Gate:
    """Where the guest's requests pass: while it is held, new ones wait."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._holders = 0
        self._inside = 0

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Around one request of the guest."""
        while self._holders:
            await self._session.sleep(_LOOK_AGAIN_NS)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def held(self, drained: bool = False) -> AsyncIterator[None]:
        """No request of the guest begins meanwhile; `drained`: nor is one in flight. Raises
        DeadlinePassed."""
        self._holders += 1
        try:
            until_ns = self._session.now_ns() + _DRAIN_NS
            while drained and self._inside:
                if self._session.now_ns() > until_ns:
                    raise DeadlinePassed("the guest's requests in flight to end", _DRAIN_NS)
                await self._session.sleep(_LOOK_AGAIN_NS)
            yield
        finally:
            self._holders -= 1
