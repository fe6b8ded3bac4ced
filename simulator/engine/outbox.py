"""What leaves a machine, in order: events are values put here by lower layers and drained by the monitor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.engine.scheduler import Scheduler

    # (name, data, virtual time in nanoseconds)
    Event = tuple[str, dict[str, Any], int]


class Outbox:
    """Events in the order they were raised."""

    __slots__ = ("_clock", "events", "on_event")

    def __init__(self, clock: Scheduler) -> None:
        self._clock = clock
        self.events: list[Event] = []
        self.on_event: Callable[[], None] | None = None

    def emit(self, name: str, data: dict[str, Any]) -> None:
        self.events.append((name, data, self._clock.now_ns))
        if self.on_event is not None:
            self.on_event()

    def drain(self) -> list[Event]:
        """All events so far; the outbox is empty afterwards."""
        events, self.events = self.events, []
        return events
