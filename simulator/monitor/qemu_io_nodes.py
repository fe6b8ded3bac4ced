"""qemu-io's commands about a node itself: what it is, and how it is open (info_f, reopen_f, qemu-io-cmds.c,
7.2)."""

from __future__ import annotations

from errno import EINVAL, ENOMEDIUM, ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.chain import cluster_bytes
from simulator.block.errors import QmpError
from simulator.block.reopening import set_read_only
from simulator.monitor.qemu_io_requests import Usage, human_size, parse_options, usage_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.backend import BlockBackend
    from simulator.block.node import Node


def _node_of(blk: BlockBackend) -> Node:
    if blk.node is None:
        raise OSError(ENOMEDIUM, strerror(ENOMEDIUM))
    return blk.node


async def info(blk: BlockBackend, arguments: list[str]) -> str:
    """What of it goes to standard output; the monitor shows the rest."""
    node = _node_of(blk)
    text = f"format name: {node.driver.format_name}\n"
    unit = cluster_bytes(node)
    if unit is None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))
    return (
        f"{text}cluster size: {human_size(unit)}\n"
        f"vm state offset: {human_size(node.driver.vm_state_offset)}\n"
    )


async def reopen(blk: BlockBackend, arguments: list[str]) -> str:
    options, operands = parse_options(arguments, "rw", "co", usage_of("reopen"))
    if operands:
        raise Usage(usage_of("reopen"))
    if "r" in options and "w" in options:
        return "Only one -r/-w option may be given\n"
    if "c" in options or "o" in options:
        raise OSError(ENOTSUP, "not simulated")
    node = _node_of(blk)
    read_only = "r" in options or ("w" not in options and node.read_only)
    if read_only:
        blk.set_permissions(blk.perm & ~(permissions.WRITE | permissions.WRITE_UNCHANGED), blk.shared)
    try:
        await set_read_only(blk.graph, node, read_only)
    except QmpError as error:
        blk.graph.report(error.desc)
        raise OSError(EINVAL, strerror(EINVAL)) from None
    return ""
