"""The order in which QEMU walks an object's children: that of GLib's hash table of strings.

Source: glib/ghash.c of GLib 2.66 and later: open addressing, quadratic probing, removed entries that stay as
tombstones until the table is made anew. QAPI's lists of what was walked (qom-list, query-memdev) are built
from the end, so they are backwards.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SMALLEST_SHIFT = 3
# The largest prime below each power of two, from 2^3 on (prime_mod).
_PRIMES = (7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521)
_MULTIPLIER = 11
_MASK = 0xFFFFFFFF
_UNUSED, _TOMBSTONE, _FIRST_REAL = 0, 1, 2


def _hash(name: str) -> int:
    """g_str_hash, of signed bytes; the two values that mark free places are moved up."""
    value = 5381
    for byte in name.encode():
        value = value * 33 + (byte - 256 if byte > 127 else byte) & _MASK
    return max(value, _FIRST_REAL)


class ChildTable(dict[str, "Any"]):
    """Children by name. Walked as a dict it is in the order of their coming; `in_qom_order` is QEMU's."""

    def __init__(self) -> None:
        super().__init__()
        self._shift = _SMALLEST_SHIFT
        self._hashes = [_UNUSED] * (1 << self._shift)
        self._names = [""] * (1 << self._shift)
        self._occupied = 0  # tombstones, too

    def in_qom_order(self) -> list[tuple[str, Any]]:
        """(name, child), backwards as QAPI's lists are."""
        places = range(len(self._hashes) - 1, -1, -1)
        names = [self._names[place] for place in places if self._hashes[place] >= _FIRST_REAL]
        return [(name, self[name]) for name in names]

    def __setitem__(self, name: str, child: Any) -> None:
        if name not in self:
            super().__setitem__(name, child)
            self._insert(name)
        else:
            super().__setitem__(name, child)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        place = self._place_of(name)
        # QEMU removes through an iterator, which never makes the table smaller (object_property_del_child).
        self._hashes[place], self._names[place] = _TOMBSTONE, ""

    def _start(self, hashed: int) -> int:
        return (hashed * _MULTIPLIER & _MASK) % _PRIMES[self._shift - _SMALLEST_SHIFT]

    def _place_of(self, name: str) -> int:
        place, step = self._start(_hash(name)), 0
        while self._names[place] != name:
            step += 1
            place = place + step & len(self._hashes) - 1
        return place

    def _insert(self, name: str) -> None:
        hashed = _hash(name)
        place, step, tombstone = self._start(hashed), 0, -1
        while self._hashes[place] != _UNUSED:
            if self._hashes[place] == _TOMBSTONE and tombstone < 0:
                tombstone = place
            step += 1
            place = place + step & len(self._hashes) - 1
        if tombstone >= 0:
            place = tombstone
        self._hashes[place], self._names[place] = hashed, name
        if tombstone < 0:
            self._occupied += 1
            self._resize_if_needed()

    def _resize_if_needed(self) -> None:
        size = len(self._hashes)
        if (size > len(self) * 4 and size > 1 << _SMALLEST_SHIFT) or size <= (
            self._occupied + self._occupied // 16
        ):
            self._resize()

    def _resize(self) -> None:
        """In place: who is in the way of another moves on to its own new place (g_hash_table_resize)."""
        self._shift = max(_SMALLEST_SHIFT, int(len(self) * 1.333).bit_length())
        old, size = len(self._hashes), 1 << self._shift
        self._hashes += [_UNUSED] * max(0, size - old)
        self._names += [""] * max(0, size - old)
        is_new = [False] * max(size, old)
        for at in range(old):
            hashed, name = self._hashes[at], self._names[at]
            if hashed < _FIRST_REAL:
                self._hashes[at] = _UNUSED
                continue
            if is_new[at]:
                continue
            self._hashes[at], self._names[at] = _UNUSED, ""
            while hashed >= _FIRST_REAL:
                place, step = self._start(hashed), 0
                while is_new[place]:
                    step += 1
                    place = place + step & size - 1
                is_new[place] = True
                moved = self._hashes[place], self._names[place]
                self._hashes[place], self._names[place] = hashed, name
                hashed, name = moved
        del self._hashes[size:], self._names[size:]
        self._occupied = len(self)
