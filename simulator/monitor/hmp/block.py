"""HMP: drives and nodes (block/monitor/block-hmp-cmds.c, 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.drive import INTERFACES
from simulator.block.errors import QmpError
from simulator.monitor import qemu_io
from simulator.monitor.commands import nodes
from simulator.monitor.hmp.parser import HmpError, next_word, take_flags, words_of
from simulator.qapi import keyval, qemu_opts
from simulator.qapi.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from simulator.machine import Machine


async def info_block(machine: Machine, rest: str) -> str:
    flags, words = take_flags(words_of(rest), "nv")
    device = words[0] if words else None
    printed: list[str] = []
    if "n" not in flags:
        for info in await nodes.query_block(machine, {}):
            if device is None or info["device"] == device:
                printed.append(_block_info(info, info.get("inserted")))
    if (device is not None or "n" in flags) and not printed:
        for node in await nodes.query_named_block_nodes(machine, {}):
            if device is None or node["node-name"] == device:
                printed.append(_block_info(None, node))
    return "\n".join(printed)


def _block_info(info: dict[str, Any] | None, inserted: dict[str, Any] | None) -> str:
    node_name = inserted.get("node-name") if inserted else None
    if info is not None and info["device"]:
        head = info["device"] + (f" ({node_name})" if node_name else "")
    else:
        head = node_name or (info or {}).get("qdev") or "<anonymous>"
    if inserted is None:
        text = f"{head}: [not inserted]\n"
    else:
        marks = ", read-only" if inserted["ro"] else ""
        text = f"{head}: {inserted['file']} ({inserted['drv']}{marks})\n"
    if info is not None:
        if "qdev" in info:
            text += f"    Attached to:      {info['qdev']}\n"
        if info.get("removable"):
            lock = "" if info["locked"] else "not "
            tray = "open" if info.get("tray_open") else "closed"
            text += f"    Removable device: {lock}locked, tray {tray}\n"
    return text if inserted is None else text + _inserted(inserted)


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
    return text


async def run_qemu_io(machine: Machine, rest: str) -> str:
    """qemu-io [-d] DEVICE "COMMAND": output goes to the machine's standard output, as QEMU's does."""
    flags, words = take_flags(words_of(rest), "d")
    if len(words) < 2:
        raise HmpError('qemu-io: string expected\nTry "help qemu-io" for more information')
    device, command = words[0], " ".join(words[1:])
    if "d" in flags:
        found = machine.devices.find(device)
        if found is None:
            raise QmpError(f"Device '{device}' not found", "DeviceNotFound")
        if not found.is_backend_path(device):
            raise QmpError("Device does not have a block device backend")
        return await _on_backend(machine, found.backend, command)
    backend = machine.graph.backends.get(device)
    if backend is not None:
        return await _on_backend(machine, backend, command)
    local = BlockBackend(machine.graph, "", 0, permissions.ALL)
    local.insert(machine.graph.lookup("", device))
    try:
        return await _on_backend(machine, local, command)
    finally:
        await local.remove()


async def _on_backend(machine: Machine, backend: BlockBackend, command: str) -> str:
    async def print_when_done(work: Coroutine[Any, Any, str]) -> None:
        machine.print(await work)

    def print_later(work: Coroutine[Any, Any, str]) -> None:
        machine.scheduler.enter(print_when_done(work), "qemu-io request")

    printed, complained = await qemu_io.run(backend, command, print_later)
    machine.print(printed)
    if complained:
        machine.warn(complained.rstrip("\n"))
    return ""


async def drive_add(machine: Machine, rest: str) -> str:
    flags, words = take_flags(words_of(rest), "n")
    if machine.version.dialect.drive_add_without_slot and len(words) == 1:
        words = ["0", *words]
    if len(words) != 2:
        raise HmpError('drive_add: string expected\nTry "help drive_add" for more information')
    if "n" in flags:
        await nodes.blockdev_add(machine, _node_options(machine, words[1]))
        return ""
    try:
        opts = machine.drives.parse(words[1])
    except qemu_opts.OptionError as error:
        raise HmpError(f"{error.desc}\n{error.hint}".rstrip("\n")) from None
    interface, identifier = await machine.drives.add(machine.schema, opts)
    if interface != "none":
        await _drive_del(machine, identifier)
        raise HmpError(f"Can't hot-add drive to type {INTERFACES.index(interface)}")
    return "OK\n"


def _node_options(machine: Machine, text: str) -> dict[str, Any]:
    try:
        return machine.schema.convert_keyval(machine.schema.by_name["blockdev-add"]["arg-type"], keyval.parse(text, "driver"))
    except ArgumentError as error:
        raise QmpError(error.desc) from None


async def drive_del(machine: Machine, rest: str) -> str:
    identifier, _ = next_word(rest)
    if not identifier:
        raise HmpError('drive_del: string expected\nTry "help drive_del" for more information')
    try:
        await _drive_del(machine, identifier)
    except QmpError as error:
        return f"{error.desc}\n"
    return ""


async def _drive_del(machine: Machine, identifier: str) -> None:
    if identifier in machine.graph.nodes:
        await nodes.blockdev_del(machine, {"node-name": identifier})
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
    machine.drives.forget(identifier)


COMMANDS = {
    "info block": info_block,
    "qemu-io": run_qemu_io,
    "drive_add": drive_add,
    "drive_del": drive_del,
}
