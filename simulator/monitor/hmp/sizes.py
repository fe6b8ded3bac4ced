"""Sizes for people."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size_text(size_bytes: int) -> str:
    """Three significant digits and a unit, such as "1.5 MiB" (util/cutils.c:size_to_str)."""
    power = 0
    # Up to 999.5 of a unit is shown in it, so that no number has four digits.
    while power < len(_UNITS) - 1 and size_bytes * 2 >= 1999 << (10 * power):
        power += 1
    return f"{size_bytes / (1 << (10 * power)):.3g} {_UNITS[power]}"
