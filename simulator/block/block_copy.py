"""Copying the clusters of one node to another that are still to copy, by several users at once.

Source: block/block-copy.c, 7.2. The copy-before-write filter copies what a guest is about to overwrite; a
backup job copies the rest. Both work on one `BlockCopyState`, so each cluster is copied once.
"""

from __future__ import annotations

from contextlib import suppress
from errno import ECANCELED, ETIMEDOUT
from os import strerror

from simulator.block.bitmap import DirtyBitmap
from simulator.block.chain import chain_contains, next_in_chain
from simulator.block.copy_call import MAX_WORKERS, BlockCopyCall, CopyPool
from simulator.block.copy_clusters import copy_cluster_bytes
from simulator.block.driver import SERIALISING, STATUS_ALLOCATED, STATUS_ZERO, WRITE_COMPRESSED
from simulator.block.errors import QmpError
from simulator.block.ranges_in_flight import Range, RangesInFlight
from simulator.block.rate_limit import RateLimit
from simulator.block.status import status_above, status_of
from simulator.engine.task import Future, WaitQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from simulator.block.node import Edge, Node

    class Progress(Protocol):
        """What a job shows of a copy (ProgressMeter)."""

        def work_done(self, length: int) -> None: ...

        def set_remaining(self, length: int) -> None: ...


MAX_MEMORY_BYTES = 128 << 20
_MAX_TRANSFER_BYTES = (1 << 31) - 1


class _Chunk:
    """A run of clusters that one task copies. It is out of the copy bitmap from its making on."""

    __slots__ = ("call", "method_is_zero", "range")

    def __init__(self, call: BlockCopyCall, item: Range) -> None:
        self.call = call
        self.range = item
        self.method_is_zero = False


class BlockCopyState:
    """`copy_bitmap` holds what is still to copy; of that, `in_flight_bytes` have been taken out and are being
    copied.

    `source` and `target` are edges of the user's, who has the permissions. `bitmap` limits the copy to its
    dirty areas. `skip_unallocated` leaves out what the source's own layer does not hold (sync=top), and with
    `discards_source` it does not hold the copied any more. QmpError: a cluster size that cannot be.
    """

    def __init__(
        self,
        source: Edge,
        target: Edge,
        bitmap: DirtyBitmap | None = None,
        owner: Node | None = None,
        min_cluster_bytes: int = 0,
    ) -> None:
        """`owner`: whose bitmap says what to copy, if not the source's. `min_cluster_bytes`: 0 is none."""
        self.source, self.target = source, target
        graph = source.node.graph
        self._scheduler = graph.scheduler
        self.cluster_bytes = copy_cluster_bytes(target.node, min_cluster_bytes)
        self.size_bytes = source.node.size_bytes
        self.copy_bitmap = DirtyBitmap(owner or source.node, None, self.cluster_bytes)
        self.copy_bitmap.enabled = False
        if bitmap is None:
            self.copy_bitmap.set(0, self.size_bytes)
        else:
            self._merge(bitmap)
        # With the source below the target, the target shows the source's point in time to its readers: they
        # must not read between a copy that has begun and its end, or they would get the guest's new data from
        # the source.
        self.is_fleecing = chain_contains(target.node, source.node)
        self.in_flight_bytes = 0
        self.skip_unallocated = self.discards_source = False
        self.progress: Progress | None = None
        self._write_flags = SERIALISING if self.is_fleecing else 0
        self._buffer_bytes = target.node.graph.rules.copy_bytes
        self._cluster_at_a_time = False
        self._chunks = RangesInFlight("a copy in flight")
        self._calls: list[BlockCopyCall] = []
        self._memory_left = MAX_MEMORY_BYTES
        self._memory_freed = WaitQueue("memory for a copy")
        self._rate = RateLimit()

    def _merge(self, bitmap: DirtyBitmap) -> None:
        try:
            bitmap.check_mergeable(self.size_bytes)
        except QmpError as error:
            self.free()
            words = f"Failed to merge bitmap '{bitmap.name}' to internal copy-bitmap: "
            raise error.prefixed(words) from None
        for offset, length in bitmap.dirty_areas():
            self.copy_bitmap.set(offset, length)

    def free(self) -> None:
        """Nothing is under way any more, and nothing will be copied."""
        self.copy_bitmap.release()

    def set_options(self, compress: bool) -> None:
        """block_copy_set_copy_opts. Compressed writes are one cluster each."""
        self._write_flags &= SERIALISING
        if compress:
            self._write_flags |= WRITE_COMPRESSED
        self._cluster_at_a_time = compress

    def set_speed(self, bytes_per_s: int) -> None:
        """0 is without a limit. Calls that the old limit holds up go on when their time is over, or when
        kicked."""
        self._rate.set_speed(bytes_per_s)

    # -- copying
    async def copy(
        self, offset: int, length: int, *, ignore_ratelimit: bool, timeout_ns: int | None = None,
        on_finished: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Copy what is still to copy of a range that is aligned to clusters, waiting for others who copy some
        of it.

        Raises OSError of the first chunk that failed, or ETIMEDOUT: then chunks under way go on in the
        background.
        `on_finished` is called when really nothing of it is under way any more.
        """
        call = BlockCopyCall(offset, length, ignore_ratelimit, MAX_WORKERS, 0, on_finished)
        if timeout_ns:
            await self._with_timeout(call, timeout_ns)
        else:
            await self.run(call)
        if call.error is not None:
            raise call.error

    async def _with_timeout(self, call: BlockCopyCall, timeout_ns: int) -> None:
        over = Future(f"a copy at {call.offset} to end or time out")
        inner, call.on_finished = call.on_finished, None

        def finished() -> None:
            if inner is not None:
                inner()
            if not over.done():
                over.set_result(True)

        call.on_finished = finished

        def too_late() -> None:
            if not over.done():
                over.set_result(False)

        timer = self._scheduler.call_at(self._scheduler.now_ns + timeout_ns, too_late)
        self._scheduler.enter(self.run(call), "copy with a time limit")
        if not await over:
            call.cancel()
            raise OSError(ETIMEDOUT, strerror(ETIMEDOUT))
        timer.cancel()

    def start(
        self, offset: int, length: int, *, max_workers: int = MAX_WORKERS, max_chunk: int = 0,
        on_finished: Callable[[], None] | None = None,
    ) -> BlockCopyCall:  # fmt: skip
        """block_copy_async: copy in the background, under the speed limit. max_chunk 0 is without one of its
        own."""
        call = BlockCopyCall(offset, length, False, max_workers, max_chunk, on_finished)
        self._scheduler.enter(self.run(call), "copy")
        return call

    async def run(self, call: BlockCopyCall) -> None:
        """block_copy_common. A chunk of somebody else that fails is ours to try: an error that ends this call
        comes from its own requests only."""
        self._calls.append(call)
        while not call.cancelled:
            again = await self._copy_dirty_clusters(call)
            if call.error is not None or call.cancelled:
                break
            if again or await self._chunks.wait_one(call.offset, call.length):
                continue
            if self.copy_bitmap.next_dirty(call.offset, call.length) is None:
                break
        call.finished = True
        self._calls.remove(call)
        if call.on_finished is not None:
            call.on_finished()

    async def _copy_dirty_clusters(self, call: BlockCopyCall) -> bool:
        """Copy what is dirty now; whether anything was. A failure is left in call.error."""
        offset, end = call.offset, call.offset + call.length
        found = False
        pool: CopyPool | None = None
        while offset < end and not call.cancelled and (pool is None or pool.error is None):
            chunk = self._take_chunk(call, offset, end)
            if chunk is None:
                break
            found = True
            if not await self._prepare(chunk):
                offset = chunk.range.end
                continue
            delay_ns = 0 if call.ignore_ratelimit else self._rate.delay_ns(self._scheduler.now_ns, 0)
            if delay_ns:
                self._end_chunk(chunk, put_back=True)
                await self._sleep(call, delay_ns)
                continue
            self._rate.delay_ns(self._scheduler.now_ns, chunk.range.length)
            await self._take_memory(chunk.range.length)
            offset = chunk.range.end
            if pool is None and offset < end:
                pool = CopyPool(call.max_workers)
            if pool is None:
                await self._copy_chunk(chunk)
            elif not await self._copy_in_pool(pool, chunk):
                break
        if pool is not None:
            await pool.wait_all()
        return found

    async def _sleep(self, call: BlockCopyCall, duration_ns: int) -> None:
        call.sleeping = Future("a copy's speed limit")
        timer = self._scheduler.call_at(self._scheduler.now_ns + duration_ns, call.kick)
        await call.sleeping
        timer.cancel()
        call.sleeping = None

    def _take_chunk(self, call: BlockCopyCall, offset: int, end: int) -> _Chunk | None:
        longest = self._chunk_bytes()
        if call.max_chunk:
            longest = min(longest, call.max_chunk)
        area = self.copy_bitmap.next_dirty_area(offset, end, longest)
        if area is None:
            return None
        offset, length = area
        length += -length % self.cluster_bytes
        self.copy_bitmap.reset(offset, length)
        self.in_flight_bytes += length
        return _Chunk(call, self._chunks.add(offset, length))

    def _chunk_bytes(self) -> int:
        if self._cluster_at_a_time:
            return self.cluster_bytes
        most = _MAX_TRANSFER_BYTES - _MAX_TRANSFER_BYTES % self.cluster_bytes
        return min(max(self.cluster_bytes, self._buffer_bytes), most)

    async def _prepare(self, chunk: _Chunk) -> bool:
        """Shrink a chunk to one kind of content; False if it need not be copied, and is ended."""
        flags, length = await self._status(chunk.range.offset, chunk.range.length)
        if length < chunk.range.length:
            self._shrink(chunk, length)
        if self.skip_unallocated and not flags & STATUS_ALLOCATED:
            self._end_chunk(chunk, put_back=False)
            return False
        chunk.method_is_zero = bool(flags & STATUS_ZERO)
        return True

    async def _status(self, offset: int, length: int) -> tuple[int, int]:
        node = self.source.node
        base = next_in_chain(node) if self.skip_unallocated else None
        try:
            flags, found, _ = await status_above(node, base, offset, length)
        except OSError:
            flags, found = 0, 0
        if found < self.cluster_bytes:
            # A failure, or a cluster of several kinds (or the last, shorter one): copied as it is.
            return STATUS_ALLOCATED, self.cluster_bytes
        if offset + found == self.size_bytes:
            return flags, found + -found % self.cluster_bytes
        return flags, found - found % self.cluster_bytes

    def _shrink(self, chunk: _Chunk, length: int) -> None:
        item = chunk.range
        given_back = item.length - length
        self.in_flight_bytes -= given_back
        self.copy_bitmap.set(item.offset + length, given_back)
        self._chunks.shrink(item, length)

    def _end_chunk(self, chunk: _Chunk, put_back: bool) -> None:
        item = chunk.range
        self.in_flight_bytes -= item.length
        if put_back:
            self.copy_bitmap.set(item.offset, item.length)
        self._tell_remaining()
        self._chunks.remove(item)

    def _tell_remaining(self) -> None:
        if self.progress is not None:
            self.progress.set_remaining(self.copy_bitmap.count_bytes + self.in_flight_bytes)

    async def _take_memory(self, length: int) -> None:
        while self._memory_left < length:
            await self._memory_freed.wait()
        self._memory_left -= length

    def _free_memory(self, length: int) -> None:
        self._memory_left += length
        self._memory_freed.wake_all()

    async def _copy_in_pool(self, pool: CopyPool, chunk: _Chunk) -> bool:
        """False if an earlier chunk has failed while this one waited for its turn."""
        await pool.wait_slot()
        if pool.error is not None:
            self._free_memory(chunk.range.length)
            self._end_chunk(chunk, put_back=True)
            return False
        pool.busy += 1
        self._scheduler.enter(self._copy_for(pool, chunk), "copy of a chunk")
        return True

    async def _copy_for(self, pool: CopyPool, chunk: _Chunk) -> None:
        failed = not await self._copy_chunk(chunk)
        pool.leave(OSError(ECANCELED, strerror(ECANCELED)) if failed else None)

    async def _copy_chunk(self, chunk: _Chunk) -> bool:
        """block_copy_task_entry: copy, account for it, and wake who waits. False: the call has failed."""
        item, call = chunk.range, chunk.call
        offset = item.offset
        length = min(item.end, self.size_bytes) - offset
        failure: OSError | None = None
        error_is_read = False
        try:
            if chunk.method_is_zero:
                await self.target.write_zeroes(offset, length, self._write_flags & ~WRITE_COMPRESSED)
            else:
                error_is_read = True
                payload = await self.source.read(offset, length)
                error_is_read = False
                await self.target.write(offset, payload, self._write_flags)
        except OSError as error:
            failure = error
        if failure is None:
            if self.progress is not None:
                self.progress.work_done(item.length)
        elif call.error is None:
            call.error = failure
            call.error_is_read = error_is_read
        self._free_memory(item.length)
        self._end_chunk(chunk, put_back=failure is not None)
        if failure is None and self.discards_source:
            with suppress(OSError):
                await self.source.discard(offset, length)
        return failure is None

    # -- leaving out
    def reset(self, offset: int, length: int) -> None:
        """Nothing of this range is to be copied any more."""
        self.copy_bitmap.reset(offset, length)
        self._tell_remaining()

    async def reset_unallocated(self, offset: int) -> tuple[bool, int]:
        """(whether it is allocated in the source's own layer, so many bytes); what is not is left out."""
        allocated, length = await self._cluster_allocated(offset)
        if not allocated:
            self.reset(offset, length)
        return allocated, length

    async def _cluster_allocated(self, offset: int) -> tuple[bool, int]:
        node, unit = self.source.node, self.cluster_bytes
        total = 0
        while True:
            flags, count = await status_of(node, offset + total, self.size_bytes - offset - total, False)
            total += count
            if flags & STATUS_ALLOCATED or not count:
                return bool(flags & STATUS_ALLOCATED), total + -total % unit
            if total >= unit:
                return False, total - total % unit
