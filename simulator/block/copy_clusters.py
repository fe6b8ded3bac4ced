"""How much at a time is copied before writes (block_copy_calculate_cluster_size, block/block-copy.c, 7.2)."""

from __future__ import annotations

from simulator.block.chain import cluster_bytes, next_in_chain
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Node

DEFAULT_CLUSTER_BYTES = 1 << 16
MAX_MIN_CLUSTER_BYTES = (1 << 63) - 1


def min_cluster_too_large(asked_bytes: int) -> QmpError:
    return QmpError(f"min-cluster-size too large: {asked_bytes} > {MAX_MIN_CLUSTER_BYTES}")


def copy_cluster_bytes(target: Node, least: int) -> int:
    """Of the target, and at least 64 KiB and `least`. Raises QmpError."""
    if least > MAX_MIN_CLUSTER_BYTES:
        raise min_cluster_too_large(least)
    if least & (least - 1):
        raise QmpError("min-cluster-size needs to be a power of 2")
    least = max(DEFAULT_CLUSTER_BYTES, least)
    cluster = cluster_bytes(target)
    if cluster is not None:
        return max(least, cluster)
    if next_in_chain(target) is None:
        target.graph.report(
            "warning: The target block device doesn't provide information about the block size and it "
            "doesn't have a backing file. The default block size of "
            f"{least} bytes is used. If the actual block size of the target exceeds this "
            "default, the backup may be unusable"
        )
    return least
