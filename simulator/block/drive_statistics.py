"""Options of a drive that say what is counted of its requests (parse_stats_intervals and account_get_opt in
blockdev.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.qapi.truth import TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.accounting import Accounting

_PREFIX = "stats-intervals."
_MOST_SECONDS = (1 << 32) - 1


def take_intervals(given: dict[str, str]) -> list[str]:
    """Values of stats-intervals.0, stats-intervals.1 ..., which are options no more then. Raises QmpError."""
    intervals: list[str] = []
    while f"{_PREFIX}{len(intervals)}" in given:
        intervals.append(given.pop(f"{_PREFIX}{len(intervals)}"))
    for name in given:
        if name.startswith(_PREFIX):
            raise QmpError(f"Invalid option {name}")
    return intervals


def set_up(accounting: Accounting, given: dict[str, str], intervals: list[str]) -> None:
    """Of a drive that has a medium: one without ignores them. Raises QmpError."""
    for name in ("invalid", "failed"):
        setattr(accounting, f"account_{name}", given.get(f"stats-account-{name}", "on") in TRUE)
    for text in intervals:
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_SECONDS):
            raise QmpError(f"Invalid interval length: {text}")
        accounting.add_interval(int(text))
