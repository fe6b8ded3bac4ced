"""Where the bytes of a range come from: block status of one node, and through a chain of backing files.

Source: bdrv_co_block_status and bdrv_co_common_block_status_above in block/io.c, 7.2.
"""

from __future__ import annotations

from simulator.block.driver import (
    STATUS_ALLOCATED,
    STATUS_DATA,
    STATUS_EOF,
    STATUS_OFFSET_VALID,
    STATUS_RAW,
    STATUS_RECURSE,
    STATUS_ZERO,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Node

# (flags, length): of the range that starts where it was asked for and is all of one kind
Status = tuple[int, int]

_DATA_ELSEWHERE = STATUS_DATA | STATUS_RECURSE | STATUS_OFFSET_VALID


async def status_of(node: Node, offset: int, length: int, want_zero: bool) -> Status:
    """Status in this node alone; length 0 with EOF beyond its end. Raises OSError."""
    size = node.size_bytes
    if offset >= size:
        return STATUS_EOF, 0
    if length == 0:
        return 0, 0
    length = min(length, size - offset)
    node.in_flight += 1
    try:
        flags, length = await _ask_driver(node, offset, length, want_zero)
    finally:
        node.in_flight -= 1
        if not node.in_flight:
            node.graph.progress()
    if offset + length == size:
        flags |= STATUS_EOF
    return flags, length


async def _ask_driver(node: Node, offset: int, length: int, want_zero: bool) -> Status:
    length, flags, child, child_offset = await node.driver.block_status(offset, length, want_zero)
    if flags & STATUS_RAW:
        assert child is not None
        flags, below_length = await status_of(child.node, child_offset, length, want_zero)
        if not below_length and flags & STATUS_EOF:
            # The layer below is shorter than this one: what lies beyond its end reads as zero.
            return STATUS_ZERO | STATUS_ALLOCATED, length
        return flags & ~STATUS_EOF, below_length
    if flags & (STATUS_DATA | STATUS_ZERO):
        flags |= STATUS_ALLOCATED
    elif node.driver.supports_backing:
        backing = node.backing
        if backing is None or (want_zero and offset >= backing.size_bytes):
            flags |= STATUS_ZERO
    if (
        want_zero
        and flags & _DATA_ELSEWHERE == _DATA_ELSEWHERE
        and not flags & STATUS_ZERO
        and child is not None
    ):
        below, below_length = await status_of(child.node, child_offset, length, want_zero)
        if below & STATUS_EOF and (not below_length or below & STATUS_ZERO):
            flags |= STATUS_ZERO
        else:
            length = below_length
            flags |= below & STATUS_ZERO
    return flags, length


async def status_above(
    node: Node,
    base: Node | None,
    offset: int,
    length: int,
    want_zero: bool = True,
    include_base: bool = False,
) -> tuple[int, int, int]:
    """(flags, length, depth) through filters and backing files down to `base`, not into it unless
    `include_base`.

    Not ALLOCATED: no layer above `base` has it. depth counts from 1 for `node` itself. Raises OSError.
    """
    flags, length = await status_of(node, offset, length, want_zero)
    depth = 1
    if not length or flags & STATUS_ALLOCATED or node is base:
        return flags, length, depth
    end_of_file = offset + length if flags & STATUS_EOF else -1
    layer = node.below
    while layer is not None and (include_base or layer is not base):
        flags, layer_length = await status_of(layer, offset, length, want_zero)
        depth += 1
        if not layer_length:
            # This layer is too short to hold the range, and what it defers to is zero.
            flags = STATUS_ZERO | STATUS_ALLOCATED
            break
        length = layer_length
        if flags & STATUS_ALLOCATED:
            flags &= ~STATUS_EOF
            break
        if flags & STATUS_EOF:
            end_of_file = offset + length
        if layer is base:
            break
        layer = layer.below
    if offset + length == end_of_file:
        flags |= STATUS_EOF
    return flags, length, depth
