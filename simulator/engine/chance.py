"""The one source of chance: SplitMix64, so that a 64-bit seed is a whole run on any Python."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    T = TypeVar("T")

_MASK = (1 << 64) - 1


class Chance:
    """A stream of choices drawn from a seed (0 .. 2^64 - 1). Equal seeds give equal streams."""

    __slots__ = ("_state", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed & _MASK
        self._state = self.seed

    def next64(self) -> int:
        """The next 64 bits (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
        2014)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """A number in 0 .. bound - 1. The bias of the modulus is below 2^-32 for the bounds used here."""
        return self.next64() % bound

    def choose(self, items: Sequence[T]) -> T:
        """One of a non-empty sequence."""
        return items[self.below(len(items))]

    def split(self) -> Chance:
        """An independent stream, so that drawing more for one purpose does not move another."""
        return Chance(self.next64())
