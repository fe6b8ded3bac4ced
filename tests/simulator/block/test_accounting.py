"""Latencies of the last seconds: what is read are the values of one stretch of time that ends now."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulator.block.accounting import TimedAverage

PERIOD_NS = 3000
STEPS = st.lists(st.tuples(st.integers(0, 3 * PERIOD_NS), st.integers(0, 100)), min_size=1, max_size=30)


@given(STEPS)
def test_a_window_holds_what_came_in_it(steps: list[tuple[int, int]]) -> None:
    now_ns, average = 0, TimedAverage(0, PERIOD_NS)
    came: list[tuple[int, int]] = []
    for passed_ns, value in steps:
        now_ns += passed_ns
        average.add(now_ns, value)
        came.append((now_ns, value))
        window, open_for_ns = average.read(now_ns)
        inside = [each for at_ns, each in came if at_ns >= now_ns - open_for_ns]
        assert (window.least, window.most) == (min(inside), max(inside))
        assert (window.sum, window.count) == (sum(inside), len(inside))
        assert PERIOD_NS * 2 // 3 <= open_for_ns <= PERIOD_NS * 4 // 3


def test_nothing_came() -> None:
    window, _ = TimedAverage(0, PERIOD_NS).read(10 * PERIOD_NS)
    assert (window.least, window.most, window.sum, window.count) == (0, 0, 0, 0)
