"""`event`: an event that has come since the last one of its name that was asked for, or that comes
in time."""

from __future__ import annotations

from typing import Any

from scenarios.language.steps import Event
from scenarios.run.execution import Execution, Where
from scenarios.run.steps.qmp import difference


async def run(x: Execution, event: Event, where: Where) -> None:
    """Raises DeadlinePassed."""
    wanted = x.named(event.data)
    events = x.session.events
    since = x.event_from.get(event.name, 0)
    old = {id(each) for each in events[:since]}

    def matches(each: dict[str, Any]) -> bool:
        is_it = each["event"] == event.name and id(each) not in old
        return is_it and difference(wanted, each.get("data", {}), "$") is None

    what = f"event {event.name}" + (f" with {wanted}" if wanted else "")
    found = await x.wait_event(matches, what, event.within)
    events = x.session.events
    x.event_from[event.name] = next(i for i, each in enumerate(events) if each is found) + 1
