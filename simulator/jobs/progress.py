"""How far a job is (ProgressMeter, include/qemu/progress_meter.h, 7.2)."""

from __future__ import annotations


class Progress:
    """`current` of `total`, in bytes for block jobs, in steps of its own for others."""

    __slots__ = ("current", "total")

    def __init__(self) -> None:
        self.current = 0
        self.total = 0

    def work_done(self, amount: int) -> None:
        self.current += amount

    def set_remaining(self, remaining: int) -> None:
        self.total = self.current + remaining
