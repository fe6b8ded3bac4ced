"""Which of several unexpected arguments QEMU names: the one that GLib's hash table happens to hold first."""

from __future__ import annotations

from simulator.wire.qdict import in_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MASK32 = 0xFFFFFFFF
_UNUSED, _TOMBSTONE = 0, 1
_SMALLEST_SHIFT = 3
# The modulus for 2**shift slots: the largest prime below it (GLib 2.74, glib/ghash.c, prime_mod).
_PRIMES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521)


def _str_hash(key: bytes) -> int:
    value = 5381
    for byte in key:
        signed = byte - 256 if byte > 127 else byte
        value = (value * 33 + signed) & _MASK32
    return value if value > _TOMBSTONE else 2


class _GHashTable:
    """GLib's open-addressing table, as far as the order of its slots goes (GLib 2.74, glib/ghash.c)."""

    def __init__(self) -> None:
        self._set_shift(_SMALLEST_SHIFT)
        self.hashes = [_UNUSED] * self.size
        self.keys: list[str | None] = [None] * self.size
        self.live = self.occupied = 0

    def _set_shift(self, shift: int) -> None:
        self.size, self.modulus = 1 << shift, _PRIMES[shift]

    def _home(self, hashed: int) -> int:
        return ((hashed * 11) & _MASK32) % self.modulus

    def _find(self, key: str, hashed: int) -> int:
        slot, step, tombstone = self._home(hashed), 0, -1
        while self.hashes[slot] != _UNUSED:
            if self.hashes[slot] == hashed and self.keys[slot] == key:
                return slot
            if self.hashes[slot] == _TOMBSTONE and tombstone < 0:
                tombstone = slot
            step += 1
            slot = (slot + step) & (self.size - 1)
        return slot if tombstone < 0 else tombstone

    def insert(self, key: str) -> None:
        hashed = _str_hash(key.encode())
        slot = self._find(key, hashed)
        before = self.hashes[slot]
        self.hashes[slot], self.keys[slot] = hashed, key
        self.live += 1
        if before == _UNUSED:
            self.occupied += 1
            self._maybe_resize()

    def remove(self, key: str) -> None:
        slot = self._find(key, _str_hash(key.encode()))
        self.hashes[slot], self.keys[slot] = _TOMBSTONE, None
        self.live -= 1
        self._maybe_resize()

    def _maybe_resize(self) -> None:
        too_big = self.size > self.live * 4 and self.size > 1 << _SMALLEST_SHIFT
        if too_big or self.size <= self.occupied + self.occupied // 16:
            self._resize()

    def _resize(self) -> None:
        old_size = self.size
        self._set_shift(max(int(self.live * 1.333).bit_length(), _SMALLEST_SHIFT))
        if self.size > old_size:
            self.hashes += [_UNUSED] * (self.size - old_size)
            self.keys += [None] * (self.size - old_size)
        self._rehash(old_size)
        del self.hashes[self.size :], self.keys[self.size :]
        self.occupied = self.live

    def _rehash(self, old_size: int) -> None:
        """In place: an entry that lands on one not yet moved takes its slot, and that one moves next."""
        placed = [False] * max(old_size, self.size)
        for start in range(old_size):
            hashed, key = self.hashes[start], self.keys[start]
            if hashed <= _TOMBSTONE:
                self.hashes[start] = _UNUSED
                continue
            if placed[start]:
                continue
            self.hashes[start], self.keys[start] = _UNUSED, None
            while hashed > _TOMBSTONE:
                slot, step = self._home(hashed), 0
                while placed[slot]:
                    step += 1
                    slot = (slot + step) & (self.size - 1)
                placed[slot] = True
                evicted = self.hashes[slot], self.keys[slot]
                self.hashes[slot], self.keys[slot] = hashed, key
                hashed, key = evicted


def first_leftover(keys: Iterable[str], consumed: Iterable[str]) -> str | None:
    """The member that "is unexpected" names when `consumed` of `keys` were visited, in that order; None
    if all were.

    qapi/qobject-input-visitor.c:211-248, 7.2: the members go into a GLib table in QDict order, each
    visited one is removed, and the first slot in use is reported.
    """
    used = list(consumed)
    all_keys = list(keys)
    taken = dict.fromkeys(used)
    left = [key for key in all_keys if key not in taken]
    if len(left) <= 1:
        return left[0] if left else None
    table = _GHashTable()
    for key in in_order(all_keys):
        table.insert(key)
    for key in used:
        table.remove(key)
    return next(key for key in table.keys if key is not None)
