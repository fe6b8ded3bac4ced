"""HMP: snapshots of disks, in files of their own and inside images (block/monitor/block-hmp-cmds.c, 7.2)."""

from __future__ import annotations

from time import localtime, strftime

from simulator.block.errors import QmpError
from simulator.jobs.internal_snapshots import can_snapshot, holder
from simulator.monitor.dispatch import handlers
from simulator.monitor.commands.nodes import drives_of
from simulator.monitor.hmp.image_info import size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2_snapshots import Snapshot
    from simulator.block.node import Node
    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def snapshot_blkdev(machine: Machine, arguments: Arguments) -> str:
    if "snapshot-file" not in arguments:
        raise QmpError("Parameter 'snapshot-file' is missing")
    given = {key: arguments[key] for key in ("device", "snapshot-file", "format") if key in arguments}
    given["mode"] = "existing" if "reuse" in arguments else "absolute-paths"
    await handlers()["blockdev-snapshot-sync"](machine, given)
    return ""


async def snapshot_blkdev_internal(machine: Machine, arguments: Arguments) -> str:
    await handlers()["blockdev-snapshot-internal-sync"](machine, arguments)
    return ""


async def snapshot_delete_blkdev_internal(machine: Machine, arguments: Arguments) -> str:
    await handlers()["blockdev-snapshot-delete-internal-sync"](machine, arguments)
    return ""


async def info_snapshots(machine: Machine, arguments: Arguments) -> str:
    """Those that all disks have go by their names; the rest is told of each disk."""
    disks = [(name, node) for name, node in _disks(machine) if not node.read_only]
    able = [(name, _snapshots(node)) for name, node in disks if can_snapshot(node)]
    if not able:
        version = machine.version
        text = version.reword("no block device can store vmstate for snapshot")
        return f"{version.texts.hmp_drive_prefix}{text}\n"
    if not any(snapshots for _, snapshots in able):
        return "There is no snapshot available.\n"
    everywhere = [
        each
        for each in able[0][1]
        if all(any(other.name == each.name for other in _snapshots(node)) for _, node in disks)
    ]
    text = "List of snapshots present on all disks:\n"
    text += _table(machine, [("--", each) for each in everywhere]) if everywhere else "None\n"
    names = {each.name for each in everywhere}
    for name, snapshots in able:
        left = [(each.id, each) for each in snapshots if each.name not in names]
        if left:
            text += f"\nList of partial (non-loadable) snapshots on '{name}':\n" + _table(machine, left)
    return text


def _disks(machine: Machine) -> list[tuple[str, Node]]:
    """(device or "", node) of all that drives and the monitor hold."""
    found: dict[Node, str] = {}
    for backend, _ in drives_of(machine):
        if backend.node is not None:
            found.setdefault(backend.node, backend.name)
    for node in machine.graph.nodes.values():
        if node.monitor_owned:
            found.setdefault(node, "")
    return [(name, node) for node, name in found.items()]


def _snapshots(node: Node) -> list[Snapshot]:
    driver = holder(node)
    return driver.snapshots if driver is not None else []


def _table(machine: Machine, rows: list[tuple[str, Snapshot]]) -> str:
    """bdrv_snapshot_dump, block/qapi.c:664. What is taken in here has no processors' state."""
    texts = machine.version.texts
    lines = [texts.snapshot_head]
    for shown_id, each in rows:
        seconds, milliseconds = divmod(each.vm_clock_ns // 10**6, 1000)
        clock = texts.snapshot_clock.format(seconds // 3600, seconds // 60 % 60, seconds % 60, milliseconds)
        made = strftime("%Y-%m-%d %H:%M:%S", localtime(each.made_ns // 10**9))
        fields = shown_id, each.name, size_text(0), made, clock, texts.snapshot_no_icount
        lines.append(texts.snapshot_row.format(*fields))
    return "".join(f"{line}\n" for line in lines)


COMMANDS = {
    "info snapshots": ("", info_snapshots),
    "snapshot_blkdev": ("reuse:-n,device:B,snapshot-file:s?,format:s?", snapshot_blkdev),
    "snapshot_blkdev_internal": ("device:B,name:s", snapshot_blkdev_internal),
    "snapshot_delete_blkdev_internal": ("device:B,name:s,id:s?", snapshot_delete_blkdev_internal),
}
