"""What is looked at when a disk device is realized: whether its properties go together, and its partitions.

Source: blkconf_blocksizes, hw/block/block.c:63; virtio_blk_device_realize, hw/block/virtio-blk.c:1125, 7.2.
"""

from __future__ import annotations

from contextlib import suppress

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from simulator.block.backend import BlockBackend

_SECTOR_BYTES = 512
_MAX_QUEUE = 1024
_GEOMETRY = ("cyls", "heads", "secs")


def check_queues(values: Mapping[str, Any]) -> None:
    """Of a virtio disk, once it has a drive. Raises QmpError."""
    if values.get("num-queues") == 0:
        raise QmpError("num-queues property must be larger than 0")
    size = values.get("queue-size", _MAX_QUEUE)
    if size <= 2:
        raise QmpError(f"invalid queue-size property ({size}), must be > 2")
    if size & (size - 1) or size > _MAX_QUEUE:
        raise QmpError(f"invalid queue-size property ({size}), must be a power of 2 (max {_MAX_QUEUE})")


def check_block_sizes(values: Mapping[str, Any]) -> None:
    """Whether they go together; 0 is for what is not said. Raises QmpError."""
    logical = values.get("logical_block_size") or _SECTOR_BYTES
    if logical > (values.get("physical_block_size") or _SECTOR_BYTES):
        raise QmpError("logical_block_size > physical_block_size not supported")
    least = values.get("min_io_size", 0)
    if least % logical:
        raise QmpError("min_io_size must be a multiple of logical_block_size")
    if least // logical > 0xFFFF:
        raise QmpError(f"min_io_size must not exceed {0xFFFF} logical blocks")
    if values.get("opt_io_size", 0) % logical:
        raise QmpError("opt_io_size must be a multiple of logical_block_size")
    granularity = values.get("discard_granularity", 0)
    if granularity != (1 << 32) - 1 and granularity % logical:
        raise QmpError("discard_granularity must be a multiple of logical_block_size")


async def guess_geometry(backend: BlockBackend, values: Mapping[str, Any]) -> None:
    """What partitions a hard disk has says its geometry, unless that is given (hd_geometry_guess,
    hw/block/hd-geometry.c:57, 7.2). Nobody sees the geometry here, but the read is a request like any other:
    of a node that stays drained it never ends."""
    if not any(values.get(name) for name in _GEOMETRY):
        with suppress(OSError):
            await backend.read(0, _SECTOR_BYTES)
