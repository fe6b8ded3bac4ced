"""Reading with a copy of what only layers below have (bdrv_co_do_copy_on_readv, block/io.c, 7.2)."""

from __future__ import annotations

from simulator.block.chain import is_allocated, round_to_clusters
from simulator.block.driver import WRITE_UNCHANGED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Node

_MAX_BOUNCE_BYTES = 32768 << 9


async def copy_on_read(node: Node, offset: int, length: int, wanted: bool) -> bytes:
    """See Node.copy_on_read, which has made the request known."""
    allocated, count = await is_allocated(node, offset, length)
    if allocated and count == length:
        return await node.driver.read(offset, length) if wanted else b""
    pieces: list[bytes] = []
    at, left = round_to_clusters(node, offset, length)
    while left:
        piece, count = await _step(node, at, left, wanted)
        if not count:
            break
        pieces.append(piece)
        at, left = at + count, left - count
    if not wanted:
        return b""
    before = offset - round_to_clusters(node, offset, length)[0]
    whole = b"".join(pieces)[before : before + length]
    return whole + bytes(length - len(whole))


async def _step(node: Node, offset: int, length: int, wanted: bool) -> tuple[bytes, int]:
    """(bytes, their count) of one run that is either here or not; the count is 0 at the image's end."""
    try:
        allocated, count = await is_allocated(node, offset, length)
    except OSError:
        # As if it were not here: the read that follows will tell better.
        allocated, count = False, length
    if not count:
        return b"", 0
    if allocated:
        return (await node.driver.read(offset, count) if wanted else b""), count
    count = min(count, _MAX_BOUNCE_BYTES)
    payload = await node.driver.read(offset, count)
    if node.driver.hears_events:
        await node.driver.event("cor_write")
    if payload == bytes(count):
        await node.driver.write_zeroes(offset, count, WRITE_UNCHANGED)
    else:
        await node.driver.write(offset, payload, WRITE_UNCHANGED)
    return payload, count
