"""HMP: drives and nodes (block/monitor/block-hmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.block import backend_limits, describe, permissions
from simulator.block.backend import BlockBackend
from simulator.block.drive import INTERFACES, tree_options
from simulator.block.errors import QmpError
from simulator.monitor import qemu_io
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp import image_info
from simulator.monitor.hmp.dispatch import same_as
from simulator.monitor.hmp.parser import HmpError, told_of_flags
from simulator.qapi import qemu_opts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_AVERAGES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
_LIMITS = (
    *("bps", "bps_rd", "bps_wr", "bps_max", "bps_rd_max", "bps_wr_max", "iops", "iops_rd", "iops_wr"),
    *("iops_max", "iops_rd_max", "iops_wr_max", "iops_size"),
)
_THROTTLE_ARGUMENTS = "device:B," + ",".join(f"{name}:l" for name in _AVERAGES)
_STATISTICS = (
    *("rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns"),
    *("rd_total_time_ns", "flush_total_time_ns", "rd_merged", "wr_merged", "idle_time_ns"),
)


async def info_block(machine: Machine, arguments: Arguments) -> str:
    wanted = arguments.get("device")
    verbose = "verbose" in arguments
    printed = ""
    if "nodes" not in arguments:
        for position, info in enumerate(await handlers()["query-block"](machine, {})):
            if wanted is None or info["device"] == wanted:
                printed += ("\n" if position else "") + _block_info(
                    machine, info, info.get("inserted"), verbose
                )
    if (wanted is not None or "nodes" in arguments) and not printed:
        for position, node in enumerate(await handlers()["query-named-block-nodes"](machine, {})):
            if wanted is None or node["node-name"] == wanted:
                printed += ("\n" if position else "") + _block_info(machine, None, node, verbose)
    return printed


async def info_blockstats(machine: Machine, arguments: Arguments) -> str:
    lines = []
    if machine.version.texts.blockstats_in_columns:
        drives = await handlers()["query-blockstats"](machine, {})
        return "\n".join(in_columns(info["device"], info["stats"]) for info in drives)
    for info in await handlers()["query-blockstats"](machine, {}):
        counted = " ".join(f"{name}={info['stats'].get(name, 0)}" for name in _STATISTICS)
        lines.append(f"{info['device']}: {counted}\n")
    return "".join(lines)


def in_columns(name: str, counted: dict[str, Any]) -> str:
    """As 11.1 prints it: observed."""
    text = f"{name}: idle_time_ns={counted.get('idle_time_ns', 0)}\n"
    text += f"{'bytes':>31} {'operations':>16} {'total_time_ns':>24} {'merged':>10}\n"
    for title, kind in (("Read: ", "rd"), ("Write:", "wr")):
        text += f"{title} {counted[f'{kind}_bytes']:>24} {counted[f'{kind}_operations']:>16}"
        text += f" {counted[f'{kind}_total_time_ns']:>24} {counted[f'{kind}_merged']:>10}\n"
    operations, spent_ns = counted["flush_operations"], counted["flush_total_time_ns"]
    return text + f"Flush: {'':>24} {operations:>16} {spent_ns:>24}\n"


def _block_info(
    machine: Machine, info: dict[str, Any] | None, inserted: dict[str, Any] | None, verbose: bool
) -> str:
    node_name = inserted.get("node-name") if inserted else None
    if info is not None and info["device"]:
        head = info["device"] + (f" ({node_name})" if node_name else "")
    else:
        head = node_name or (info or {}).get("qdev") or "<anonymous>"
    if inserted is None:
        text = f"{head}: [not inserted]\n"
    else:
        marks = ", read-only" if inserted["ro"] else ""
        marks += "" if inserted.get("active", True) else ", inactive"
        text = f"{head}: {inserted['file']} ({inserted['drv']}{marks})\n"
    if info is not None:
        if "qdev" in info:
            text += f"    Attached to:      {info['qdev']}\n"
        if info.get("removable"):
            lock = "" if info["locked"] else "not "
            tray = "open" if info.get("tray_open") else "closed"
            text += f"    Removable device: {lock}locked, tray {tray}\n"
    if inserted is None:
        return text
    return text + _inserted(inserted) + (_images(machine, inserted["image"]) if verbose else "")


def _inserted(inserted: dict[str, Any]) -> str:
    cache = inserted["cache"]
    mode = "writeback" if cache["writeback"] else "writethrough"
    mode += (", direct" if cache["direct"] else "") + (", ignore flushes" if cache["no-flush"] else "")
    text = f"    Cache mode:       {mode}\n"
    if inserted.get("backing_file"):
        depth = inserted["backing_file_depth"]
        text += f"    Backing file:     {inserted['backing_file']} (chain depth: {depth})\n"
    if inserted["detect_zeroes"] != "off":
        text += f"    Detect zeroes:    {inserted['detect_zeroes']}\n"
    if any(inserted[name] for name in _AVERAGES):
        shown = " ".join(f"{name}={inserted.get(name, 0)}" for name in _LIMITS)
        text += f"    I/O throttling:   {shown} group={inserted['group']}\n"
    return text


def _images(machine: Machine, image: dict[str, Any]) -> str:
    """The image and all that it is backed by."""
    text = "\nImages:\n"
    while True:
        text += image_info.describe(machine, image)
        if "backing-image" not in image:
            return text
        image = image["backing-image"]


async def run_qemu_io(machine: Machine, arguments: Arguments) -> str:
    """qemu-io [-d] DEVICE "COMMAND": output goes to the machine's standard output, as QEMU's does."""
    device, command = arguments["device"], arguments["command"]
    if "qdev" in arguments:
        return await _on_backend(machine, machine.slots.disk_of(device).backend, command)
    backend = machine.graph.backends.get(device)
    if backend is not None:
        return await _on_backend(machine, backend, command)
    local = BlockBackend(machine.graph, "", 0, permissions.ALL)
    node = machine.graph.lookup("", device)
    local.iothread = node.iothread
    await machine.graph.changing()
    local.insert(node)
    try:
        return await _on_backend(machine, local, command)
    finally:
        await local.remove()


async def _on_backend(machine: Machine, backend: BlockBackend, command: str) -> str:
    async def print_when_done(work: Coroutine[Any, Any, str]) -> None:
        machine.print(await work)

    def print_later(work: Coroutine[Any, Any, str]) -> None:
        machine.scheduler.enter(print_when_done(work), "qemu-io request")

    try:
        printed, complained = await qemu_io.run(backend, command, print_later)
    except QmpError as error:
        # The permission that the command needs cannot be had.
        return f"{error.console_text}\n"
    machine.print(printed)
    if complained:
        machine.warn(complained.rstrip("\n"))
    return _info_for_monitor(machine, backend) if command.split()[:1] in (["info"], ["i"]) else ""


def _info_for_monitor(machine: Machine, backend: BlockBackend) -> str:
    """What a driver knows of its image is printed where qemu-io's info was asked for
    (bdrv_image_info_specific_dump)."""
    known = describe.image_info(backend.node).get("format-specific") if backend.node is not None else None
    if not known or not known["data"]:
        return ""
    head = "Format specific information:\n" if machine.version.texts.qemu_io_heads_info else ""
    return head + image_info.members(known["data"])


async def set_io_throttle(machine: Machine, arguments: Arguments) -> str:
    """What is no drive is the id of a device."""
    given = dict(arguments)
    if given["device"] not in machine.graph.backends:
        given["id"] = given.pop("device")
    await handlers()["block_set_io_throttle"](machine, given)
    return ""


async def drive_add(machine: Machine, arguments: Arguments) -> str:
    text = arguments["opts"]
    try:
        opts = qemu_opts.parse(text) if "node" in arguments else machine.drives.parse(text)
    except qemu_opts.OptionError as error:
        raise HmpError(f"{error.desc}\n{error.hint}".rstrip("\n")) from None
    told = told_of_flags(machine, opts)
    try:
        if "node" in arguments:
            await _add_node(machine, opts)
            return "".join(told)
        interface, identifier = await machine.drives.add(
            machine.schema, opts, report=lambda text: told.append(f"{text}\n")
        )
    except QmpError as error:
        text = machine.version.reword(error.console_text)
        raise HmpError("".join(told) + machine.version.texts.hmp_drive_prefix + text) from None
    if interface != "none":
        await _drive_del(machine, identifier)
        refusal = f"Can't hot-add drive to type {INTERFACES.index(interface)}"
        raise HmpError("".join(told) + machine.version.texts.hmp_drive_prefix + refusal)
    return "".join(told) + "OK\n"


async def _add_node(machine: Machine, opts: qemu_opts.QemuOpts) -> None:
    given = opts.to_dict()
    if "node-name" not in given:
        raise QmpError("'node-name' needs to be specified")
    node = await machine.graph.open(tree_options(machine.graph, machine.schema, given, own=frozenset()))
    node.monitor_owned = True


async def drive_del(machine: Machine, arguments: Arguments) -> str:
    try:
        await _drive_del(machine, arguments["id"])
    except QmpError as error:
        return f"{machine.version.texts.hmp_drive_prefix}{error.console_text}\n"
    return ""


async def _drive_del(machine: Machine, identifier: str) -> None:
    if identifier in machine.graph.nodes:
        await handlers()["blockdev-del"](machine, {"node-name": identifier})
        return
    backend = machine.graph.backends.get(identifier)
    if backend is None:
        raise QmpError(f"Device '{identifier}' not found")
    node = backend.node
    if node is not None:
        machine.graph.check_operation(node, "drive-del")
        await backend.remove()
    del machine.graph.backends[identifier]
    backend.name = ""
    # Nobody could handle its errors any more (blk_set_on_error, hmp_drive_del).
    backend.keeps_io_status = False
    machine.drives.free_place(identifier)
    if not backend.device_id:
        backend_limits.leave(backend)
        machine.drives.forget(identifier)


COMMANDS = {
    "block_set_io_throttle": (_THROTTLE_ARGUMENTS, set_io_throttle),
    "info block": ("nodes:-n,verbose:-v,device:B?", info_block),
    "info blockstats": ("", info_blockstats),
    "block_resize": ("device:B,size:o", same_as("block_resize")),
    "qemu-io": ("qdev:-d,device:B,command:s", run_qemu_io),
    "drive_add": ("node:-n,pci_addr:s,opts:s", drive_add),
    "drive_del": ("id:B", drive_del),
}
