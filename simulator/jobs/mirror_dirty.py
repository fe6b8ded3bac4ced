"""What a mirror has to copy at all, chosen as it begins, and what it makes zero for that
(mirror_dirty_init, block/mirror.c:817, 10.0.13).

Newer versions look whether the target reads as zero: then only what the source has allocated is copied, and
for the rest of the job no zeroes are written where there are some already (block/mirror.c since 10.1).
"""

from __future__ import annotations

from simulator.block import chain
from simulator.block.driver import STATUS_ZERO
from simulator.block.extents import ExtentMap
from simulator.block.status import status_above
from simulator.jobs.mirror_copying import MAX_IN_FLIGHT, ZERO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Node
    from simulator.jobs.mirror import MirrorJob

_INT_MAX = (1 << 31) - 1
_LONGEST_HEAD_BYTES = 128 << 10  # MAX_ZERO_CHECK_BUFFER


async def find_dirty(job: MirrorJob) -> None:
    """Fills `job.dirty`, unless the job is cancelled meanwhile. Raises OSError."""
    source, target = job.source_edge.node, job.target.node
    assert target is not None
    unmaps = target.discard_unmap and target.driver.unmaps_zeroes
    if job.jobs.rules.mirror_knows_zeroes:
        punches = unmaps and target.detect_zeroes == "unmap"
        is_zero = job.options.target_is_zero or await _is_all_zeroes(target)
        zeroes = job.copying.zeroes = ExtentMap()
        if is_zero and not punches:
            zeroes.set(0, -(-source.size_bytes // job.copying.granularity), 1)
        makes_zero = job.options.is_full and (not is_zero or punches)
        all_is_dirty = makes_zero and (not unmaps or punches)
    else:
        makes_zero = job.options.zeroes_target
        all_is_dirty = makes_zero and not unmaps
    if all_is_dirty:
        job.dirty.set(0, source.size_bytes)
        return
    if makes_zero and not await _zero_target(job, source.size_bytes):
        return
    offset = 0
    while offset < source.size_bytes:
        await job.breathe()
        if job.force_cancelled:
            return
        longest = min(source.size_bytes - offset, _longest(job))
        found, count = await chain.is_allocated_above(source, job.base_overlay, offset, longest)
        if found:
            job.dirty.set(offset, count)
        offset += count


def _longest(job: MirrorJob) -> int:
    return _INT_MAX - _INT_MAX % job.copying.granularity


async def _zero_target(job: MirrorJob, size_bytes: int) -> bool:
    """False if the job was cancelled meanwhile."""
    copying = job.copying
    copying.zeroing = True
    offset = 0
    while offset < size_bytes:
        await job.breathe()
        if job.force_cancelled:
            copying.zeroing = False
            return False
        if copying.in_flight >= MAX_IN_FLIGHT:
            await copying.wait_for_slot()
            continue
        offset += copying.perform(offset, min(size_bytes - offset, _longest(job)), ZERO)
    await copying.wait_for_all()
    copying.zeroing = False
    return True


async def _is_all_zeroes(node: Node) -> bool:
    """Whether it is known to read as zero, but for a short head, which is read (bdrv_co_is_all_zeroes).
    Raises OSError."""
    flags, head, _ = await status_above(node, None, 0, node.size_bytes)
    head_is_zero = bool(flags & STATUS_ZERO)
    if not head_is_zero and head > _LONGEST_HEAD_BYTES:
        return False
    offset = head
    while offset < node.size_bytes:
        flags, length, _ = await status_above(node, None, offset, node.size_bytes - offset)
        if not flags & STATUS_ZERO:
            return False
        offset += length
    return head_is_zero or not any(await node.driver.read(0, head))
