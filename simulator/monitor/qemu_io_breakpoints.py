"""qemu-io's commands about requests that blkdebug stops (qemu-io-cmds.c:2223 and block.c:6340, 7.2)."""

from __future__ import annotations

from errno import ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.drivers.blkdebug import Blkdebug
from simulator.engine.task import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.backend import BlockBackend
    from simulator.block.node import Node

_NS_PER_MS = 1_000_000


def _debugged(blk: BlockBackend) -> Blkdebug:
    """The first blkdebug node on the way down to where the data lies. Raises OSError if there is none."""
    node = blk.node
    while node is not None and not isinstance(node.driver, Blkdebug):
        node = _primary(node)
    if node is None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))
    assert isinstance(node.driver, Blkdebug)
    return node.driver


def _primary(node: Node) -> Node | None:
    """bdrv_primary_bs."""
    return next((edge.node for edge in node.children.values() if edge.role & permissions.PRIMARY), None)


async def set_breakpoint(blk: BlockBackend, arguments: list[str]) -> str:
    event, tag = arguments
    try:
        _debugged(blk).set_breakpoint(event, tag)
    except OSError as error:
        return f"Could not set breakpoint: {error.strerror}\n"
    return ""


async def remove_breakpoint(blk: BlockBackend, arguments: list[str]) -> str:
    [tag] = arguments
    try:
        _debugged(blk).remove_breakpoint(tag)
    except OSError as error:
        return f"Could not remove breakpoint {tag}: {error.strerror}\n"
    return ""


async def resume(blk: BlockBackend, arguments: list[str]) -> str:
    [tag] = arguments
    try:
        _debugged(blk).resume(tag)
    except OSError as error:
        return f"Could not resume request: {error.strerror}\n"
    return ""


async def wait_for(blk: BlockBackend, arguments: list[str]) -> str:
    """The monitor does nothing else meanwhile, and where nothing can be suspended, for ever."""
    [tag] = arguments
    try:
        await _debugged(blk).until_suspended(tag)
    except OSError:
        await Future(f"qemu-io's wait_break {tag}, where there is no blkdebug")
    return ""


async def sleep(blk: BlockBackend, arguments: list[str]) -> str:
    """Milliseconds, as strtol reads them. The monitor does nothing else meanwhile."""
    [text] = arguments
    try:
        milliseconds = int(text, 16 if text[:2].lower() == "0x" else 8 if text[:1] == "0" else 10)
    except ValueError:
        milliseconds = -1
    if milliseconds < 0:
        return f"{text} is not a valid number\n"
    await blk.graph.scheduler.sleep(milliseconds * _NS_PER_MS)
    return ""
