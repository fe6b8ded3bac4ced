"""HMP: snapshots, of both kinds (block/monitor/block-hmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.dispatch import same_as
from simulator.monitor.hmp.image_info import size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def snapshot_blkdev(machine: Machine, arguments: Arguments) -> str:
    if "snapshot-file" not in arguments:
        raise QmpError("Parameter 'snapshot-file' is missing")
    given = {name: value for name, value in arguments.items() if name != "reuse"}
    given["mode"] = "existing" if "reuse" in arguments else "absolute-paths"
    await handlers()["blockdev-snapshot-sync"](machine, given)
    return ""


def _disks(machine: Machine) -> list[tuple[str, Node]]:
    """The nodes that hold snapshots: of drives by their names, then those of the monitor (bdrv_first)."""
    found = [(name, backend.node) for name, backend in machine.graph.backends.items() if backend.node]
    used = [node for _, node in found]
    found += [("", node) for node in machine.graph.nodes.values() if node.monitor_owned and node not in used]
    return [(name, node) for name, node in found if node.driver.holds_snapshots]


async def info_snapshots(machine: Machine, arguments: Arguments) -> str:
    disks = _disks(machine)
    if not disks:
        version = machine.version
        text = version.reword("no block device can store vmstate for snapshot")
        return f"{version.texts.hmp_drive_prefix}{text}\n"
    lists = [node.driver.snapshot_infos() for _, node in disks]
    if not any(lists):
        return "There is no snapshot available.\n"
    columns = _WIDE if machine.version.texts.snapshots_in_wide_columns else _OLD
    names = [{info["name"] for info in infos} for infos in lists]
    everywhere = [info for info in lists[0] if all(info["name"] in known for known in names)]
    text = "List of snapshots present on all disks:\n"
    if everywhere:
        text += columns.head() + "".join(columns.row(info, "--") for info in everywhere)
    else:
        text += "None\n"
    shown = [info["name"] for info in everywhere]
    for (name, _), infos in zip(disks, lists, strict=True):
        rest = [info for info in infos if info["name"] not in shown]
        if rest:
            text += f"\nList of partial (non-loadable) snapshots on '{name}':\n"
            text += columns.head() + "".join(columns.row(info, info["id"]) for info in rest)
    return text


class _Columns:
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


_OLD = _Columns("ID,TAG,VM SIZE,DATE,VM CLOCK,ICOUNT", "{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}", 2, "")
_WIDE = _Columns("ID,TAG,VM_SIZE,DATE,VM_CLOCK,ICOUNT", "{:<7} {:<16} {:>8} {:>19} {:>15} {:>10}", 4, "--")


def _clock(info: dict[str, Any]) -> str:
    seconds, nanoseconds = info["vm-clock-sec"], info["vm-clock-nsec"]
    return f"{seconds // 60 % 60:02}:{seconds % 60:02}.{nanoseconds // 1_000_000:03}"


def date_text(seconds: int) -> str:
    """In universal time, as there is no other here. Years are counted from March, so that the leap day is
    their last."""
    days, rest = divmod(seconds, 86400)
    era, day = divmod(days + 719468, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day_of_month = day_of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    year += era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{day_of_month:02} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


COMMANDS = {
    "snapshot_blkdev": ("reuse:-n,device:B,snapshot-file:s?,format:s?", snapshot_blkdev),
    "snapshot_blkdev_internal": ("device:B,name:s", same_as("blockdev-snapshot-internal-sync")),
    "snapshot_delete_blkdev_internal": (
        "device:B,name:s,id:s?",
        same_as("blockdev-snapshot-delete-internal-sync"),
    ),
    "info snapshots": ("", info_snapshots),
}
