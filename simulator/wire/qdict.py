"""The order in which QEMU walks an object's members (qobject/qdict.c, 7.2).

It is the order of a hash table of 512 buckets, and it shows: which of two wrong members an error
names, and how replies are printed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_BUCKETS = 512
_MASK = 0xFFFFFFFF
_known: dict[str, int] = {}
_KNOWN_MAX = 4096
_known_orders: dict[tuple[str, ...], list[str]] = {}


def bucket(name: str) -> int:
    """The bucket of a key: the hash of gdbm over its UTF-8 bytes."""
    number = _known.get(name)
    if number is None:
        encoded = name.encode("utf-8").replace(b"\0", b"\xc0\x80")
        value = 0x238F13AF * len(encoded) & _MASK
        for index, byte in enumerate(encoded):
            value = value + (byte << index * 5 % 24) & _MASK
        number = (1103515243 * value + 12345 & _MASK) % _BUCKETS
        if len(_known) < _KNOWN_MAX:
            _known[name] = number
    return number


def in_order(names: Iterable[str]) -> list[str]:
    """Keys, given in the order of their insertion, as QEMU walks them. A later key comes first in
    its bucket.
    """
    ordered = list(names)
    if len(ordered) > 1:
        ordered.reverse()
        ordered.sort(key=bucket)
    return ordered


def ordered(value: Any) -> Any:
    """JSON with all members of all objects as QEMU prints them. Raises RecursionError where it is nested too
    deeply."""
    kind = type(value)
    if kind is dict:
        names = tuple(value)
        order = _known_orders.get(names)
        if order is None:
            order = in_order(names)
            if len(_known_orders) < _KNOWN_MAX:
                _known_orders[names] = order
        return {name: ordered(value[name]) for name in order}
    if kind is list or kind is tuple:
        return [ordered(each) for each in value]
    return value
