"""qemu-io's reopen (reopen_f, qemu-io-cmds.c, 7.2)."""

from __future__ import annotations

from errno import EINVAL, ENOMEDIUM, ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.errors import QmpError
from simulator.block.reopening import set_read_only
from simulator.monitor.qemu_io_requests import Usage, parse_options, usage_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.backend import BlockBackend


async def reopen(blk: BlockBackend, arguments: list[str]) -> str:
    options, operands = parse_options(arguments, "rw", "co", usage_of("reopen"))
    if operands:
        raise Usage(usage_of("reopen"))
    if "r" in options and "w" in options:
        return "Only one -r/-w option may be given\n"
    if "c" in options or "o" in options:
        raise OSError(ENOTSUP, "not simulated")
    node = blk.node
    if node is None:
        raise OSError(ENOMEDIUM, strerror(ENOMEDIUM))
    read_only = "r" in options or ("w" not in options and node.read_only)
    if read_only:
        blk.set_permissions(blk.perm & ~(permissions.WRITE | permissions.WRITE_UNCHANGED), blk.shared)
    try:
        await set_read_only(blk.graph, node, read_only)
    except QmpError as error:
        blk.graph.report(error.desc)
        raise OSError(EINVAL, strerror(EINVAL)) from None
    return ""
