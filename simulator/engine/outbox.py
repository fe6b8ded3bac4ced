"""What leaves a machine, in order: events are values put here by lower layers and drained by the monitor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.engine.scheduler import Scheduler

    # (name, data, virtual time in nanoseconds)
    Event = tuple[str, dict[str, Any], int]


# Events of which the next leaves no sooner than this after the last (monitor_qapi_event_conf,
# monitor/monitor.c, 7.2), and the member that tells those apart that do not wait for each other.
_LIMITED: dict[str, tuple[int, str]] = {
    "QUORUM_FAILURE": (1_000_000_000, ""),
    "QUORUM_REPORT_BAD": (1_000_000_000, "node-name"),
}


class Outbox:
    """Events in the order they were raised. Of those that are limited the newest waits; others are lost."""

    __slots__ = ("_clock", "_waiting", "events", "on_event")

    def __init__(self, clock: Scheduler) -> None:
        self._clock = clock
        self.events: list[Event] = []
        self.on_event: Callable[[], None] | None = None
        self._waiting: dict[tuple[str, Any], Event | None] = {}  # while their time is not up

    def emit(self, name: str, data: dict[str, Any]) -> None:
        event = (name, data, self._clock.now_ns)
        if name not in _LIMITED:
            self._put(event)
            return
        pause_ns, member = _LIMITED[name]
        key = name, data.get(member)
        if key in self._waiting:
            self._waiting[key] = event
        else:
            self._put(event)
            self._pause(key, pause_ns)

    def _put(self, event: Event) -> None:
        self.events.append(event)
        if self.on_event is not None:
            self.on_event()

    def _pause(self, key: tuple[str, Any], pause_ns: int) -> None:
        self._waiting[key] = None
        self._clock.call_at(self._clock.now_ns + pause_ns, lambda: self._time_is_up(key, pause_ns))

    def _time_is_up(self, key: tuple[str, Any], pause_ns: int) -> None:
        event = self._waiting.pop(key)
        if event is not None:
            self._put(event)
            self._pause(key, pause_ns)

    def drain(self) -> list[Event]:
        """All events so far; the outbox is empty afterwards."""
        events, self.events = self.events, []
        return events
