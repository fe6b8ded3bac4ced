"""HMP: snapshots, of both kinds (block/monitor/block-hmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.internal_snapshots import holder_to_write, listed
from simulator.block.tops import tops
from simulator.monitor import vm_snapshots
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.dispatch import same_as
from simulator.monitor.hmp.snapshot_table import columns_of

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


async def info_snapshots(machine: Machine, arguments: Arguments) -> str:
    """hmp_info_snapshots, block/monitor/block-hmp-cmds.c:899, 7.2: those of the disk that would have the
    machine's state are on all disks, or are not."""
    included = vm_snapshots.disks(machine, None)
    state_node = next((node for node in included if holder_to_write(node)), None)
    if state_node is None:
        version = machine.version
        text = version.reword("no block device can store vmstate for snapshot")
        return f"{version.texts.hmp_drive_prefix}{text}\n"
    try:
        candidates = listed(state_node)
    except OSError as error:
        return f"bdrv_snapshot_list: error {-(error.errno or 0)}\n"
    found = [(node.drive_name(), _infos(node)) for node in tops(machine.graph) if holder_to_write(node)]
    if not any(infos for _, infos in found):
        return "There is no snapshot available.\n"
    columns = columns_of(machine)
    names = [{info["name"] for info in _infos(node)} for node in included]
    everywhere = [info for info in candidates if all(info["name"] in known for known in names)]
    text = "List of snapshots present on all disks:\n"
    if everywhere:
        text += columns.head() + "".join(columns.row(info, "--") for info in everywhere)
    else:
        text += "None\n"
    shown = [info["name"] for info in everywhere]
    for name, infos in found:
        rest = [info for info in infos if info["name"] not in shown]
        if rest:
            text += f"\nList of partial (non-loadable) snapshots on '{name}':\n"
            text += columns.head() + "".join(columns.row(info, info["id"]) for info in rest)
    return text


def _infos(node: Node) -> list[dict[str, Any]]:
    try:
        return listed(node)
    except OSError:
        return []


async def savevm(machine: Machine, arguments: Arguments) -> str:
    await vm_snapshots.save(machine, arguments.get("name"), None, None, overwrite=True)
    return ""


async def loadvm(machine: Machine, arguments: Arguments) -> str:
    await vm_snapshots.load(machine, arguments["name"], None, None)
    return ""


async def delvm(machine: Machine, arguments: Arguments) -> str:
    await vm_snapshots.delete(machine, arguments["name"], None)
    return ""


COMMANDS = {
    "snapshot_blkdev": ("reuse:-n,device:B,snapshot-file:s?,format:s?", snapshot_blkdev),
    "snapshot_blkdev_internal": ("device:B,name:s", same_as("blockdev-snapshot-internal-sync")),
    "snapshot_delete_blkdev_internal": (
        "device:B,name:s,id:s?",
        same_as("blockdev-snapshot-delete-internal-sync"),
    ),
    "savevm": ("name:s?", savevm),
    "loadvm": ("name:s", loadvm),
    "delvm": ("name:s", delvm),
    "info snapshots": ("", info_snapshots),
}
