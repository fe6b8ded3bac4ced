"""A table of the snapshots in an image (bdrv_snapshot_dump, block/qapi.c, 7.2)."""

from __future__ import annotations

from simulator.monitor.hmp.dates import date_text
from simulator.monitor.hmp.sizes import size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


class Columns:
    """How a version lays them out (bdrv_snapshot_dump, block/qapi.c)."""

    def __init__(self, titles: str, layout: str, hour_digits: int, no_icount: str) -> None:
        self._titles = titles.split(",")
        self._layout, self._hour_digits, self._no_icount = layout + "\n", hour_digits, no_icount

    def head(self) -> str:
        return self._layout.format(*self._titles)

    def row(self, info: dict[str, Any], identifier: str) -> str:
        clock = f"{info['vm-clock-sec'] // 3600:0{self._hour_digits}}:{_clock(info)}"
        size, date = size_text(info["vm-state-size"]), date_text(info["date-sec"])
        icount = info.get("icount", self._no_icount)
        return self._layout.format(identifier, info["name"], size, date, clock, icount)


_OLD = Columns("ID,TAG,VM SIZE,DATE,VM CLOCK,ICOUNT", "{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}", 2, "")
_WIDE = Columns("ID,TAG,VM_SIZE,DATE,VM_CLOCK,ICOUNT", "{:<7} {:<16} {:>8} {:>19} {:>15} {:>10}", 4, "--")


def _clock(info: dict[str, Any]) -> str:
    seconds, nanoseconds = info["vm-clock-sec"], info["vm-clock-nsec"]
    return f"{seconds // 60 % 60:02}:{seconds % 60:02}.{nanoseconds // 1_000_000:03}"


def columns_of(machine: Machine) -> Columns:
    return _WIDE if machine.version.texts.snapshots_in_wide_columns else _OLD
