"""A speed in bytes per second, kept in slices of time (include/qemu/ratelimit.h, 7.2)."""

from __future__ import annotations

SLICE_NS = 100_000_000


class RateLimit:
    """Without a speed (0) nothing is ever delayed."""

    __slots__ = ("_dispatched", "_quota", "_slice_end_ns", "_slice_start_ns")

    def __init__(self) -> None:
        self._quota = 0
        self._dispatched = 0
        self._slice_start_ns = 0
        self._slice_end_ns = 0

    def set_speed(self, bytes_per_s: int) -> None:
        self._quota = max(bytes_per_s * SLICE_NS // 1_000_000_000, 1) if bytes_per_s else 0

    def delay_ns(self, now_ns: int, length: int) -> int:
        """Account for `length` bytes; how long the next request must wait."""
        if not self._quota:
            return 0
        if self._slice_end_ns < now_ns:
            self._slice_start_ns = now_ns
            self._slice_end_ns = now_ns + SLICE_NS
            self._dispatched = 0
        self._dispatched += length
        if self._dispatched < self._quota:
            return 0
        self._slice_end_ns = self._slice_start_ns + self._dispatched * SLICE_NS // self._quota
        return self._slice_end_ns - now_ns
