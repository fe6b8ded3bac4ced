"""The requests of a mirror job: which ranges are under way, and who waits for whom (block/mirror.c:80-620,
7.2)."""

from __future__ import annotations

from simulator.block import chain
from simulator.block.driver import MAY_UNMAP, STATUS_DATA, STATUS_ZERO
from simulator.block.extents import ExtentMap
from simulator.block.filenames import header_backing
from simulator.block.status import status_above
from simulator.engine.task import WaitQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.bitmap import DirtyBitmap
    from simulator.jobs.mirror import MirrorJob

MAX_IN_FLIGHT = 16
_MAX_IO_BYTES = 1 << 20
DEFAULT_BUFFER_BYTES = MAX_IN_FLIGHT * _MAX_IO_BYTES
_MAX_IOV = 1024

COPY, ZERO, DISCARD = "copy", "zero", "discard"


class MirrorOp:
    """A range that is taken: by a request of the job (`is_in_flight` once it is made), by a guest's write
    (`is_active`), or by the job while it looks what is to be done there (`is_pseudo`)."""

    __slots__ = (
        "buffers", "is_active", "is_in_flight", "is_pseudo", "length", "offset", "waiters", "waits_for",
    )  # fmt: skip

    def __init__(self, offset: int, length: int, *, is_active: bool = False, is_pseudo: bool = False) -> None:
        self.offset, self.length = offset, length
        self.is_active, self.is_pseudo = is_active, is_pseudo
        self.is_in_flight = is_active
        self.buffers = 0
        self.waiters = WaitQueue(f"a request of a mirror at {offset}")
        self.waits_for: MirrorOp | None = None


class MirrorCopying:
    """`dirty` is what differs. `error` is the first failure that ends the job. Everything is in units of
    `granularity` but at the image's end."""

    def __init__(self, job: MirrorJob, dirty: DirtyBitmap, granularity: int, buffer_bytes: int) -> None:
        self.job = job
        self.dirty = dirty
        self.granularity = granularity
        self.buffer_bytes = buffer_bytes + -buffer_bytes % granularity
        self.size_bytes = 0
        self.error: OSError | None = None
        self.failed_lately = False
        self.zeroing = False  # what is done now is no progress
        self.actively_synced = False
        self.in_flight = self.bytes_in_flight = 0
        self.active_writes = self.active_bytes = 0
        self.buffers_free = 0
        self._position = 0
        self._ops: list[MirrorOp] = []
        self._busy = ExtentMap()  # numbers of granules
        # Granules of the target that read as zero, of a job that takes care of that.
        self.zeroes: ExtentMap | None = None
        # Clusters of the target that may be written in part: only without a backing file of its own yet.
        self._whole: ExtentMap | None = None

    def prepare(self, size_bytes: int) -> None:
        """The target has its final size."""
        self.size_bytes = size_bytes
        target = self.job.target.node
        assert target is not None
        unit = chain.cluster_bytes(target) or 512
        names_backing = bool(header_backing(target))
        if names_backing and chain.next_in_chain(target) is None and self.granularity < unit:
            self.buffer_bytes = max(self.buffer_bytes, unit)
            self._whole = ExtentMap()
        self.buffers_free = -(-self.buffer_bytes // self.granularity)

    # -- waiting
    async def wait_for_slot(self) -> None:
        """Until one of the job's requests has ended. There is one."""
        for op in self._ops:
            if op.is_in_flight and not op.is_pseudo and not op.is_active:
                await op.waiters.wait()
                return
        raise AssertionError("a mirror waits for a request, and none is under way")

    async def wait_for_all(self) -> None:
        while self.in_flight:
            await self.wait_for_slot()

    async def _wait_on_conflicts(self, own: MirrorOp | None, offset: int, length: int) -> None:
        first, end = self._granules(offset, length)
        while self._busy.next_set(first, end) is not None and self.error is None:
            other = self._conflicting(own, first, end)
            if other is None:
                return
            if own is not None:
                own.waits_for = other
            await other.waiters.wait()
            if own is not None:
                own.waits_for = None

    def _conflicting(self, own: MirrorOp | None, first: int, end: int) -> MirrorOp | None:
        """One that waits itself may wait for us, and is not waited for."""
        for op in self._ops:
            op_first, op_end = self._granules(op.offset, op.length)
            overlaps = op_first < end and first < op_end
            if op is not own and overlaps and (own is None or op.waits_for is None):
                return op
        return None

    def _granules(self, offset: int, length: int) -> tuple[int, int]:
        return offset // self.granularity, -(-(offset + length) // self.granularity)

    # -- the job's requests
    def perform(self, offset: int, length: int, method: str) -> int:
        """Start a request; how far from `offset` it goes."""
        if method != ZERO and self.zeroes is not None:
            self.zeroes.clear(*self._granules(offset, length))
        op = MirrorOp(offset, length)
        handled = self._fit(op) if method == COPY else length
        self._ops.append(op)
        self.job.jobs.scheduler.enter(self._run(op, method), f"request of mirror '{self.job.id}'")
        return handled

    def _fit(self, op: MirrorOp) -> int:
        """What the buffers hold, in whole clusters of the target where it could not fill up the rest
        itself."""
        most = self.granularity * _MAX_IOV
        op.length = min(self.buffer_bytes, most, op.length)
        handled = op.length
        if self._whole is None:
            return handled
        first, end = self._granules(op.offset, op.length)
        needs_whole = self._whole.get(first) is None or self._whole.get(end - 1) is None
        offset, length = op.offset, op.length
        target = self.job.target.node
        assert target is not None
        if needs_whole:
            offset, length = chain.round_to_clusters(target, offset, length)
        if length > most:
            length = most
            if needs_whole:
                length -= length % (chain.cluster_bytes(target) or 512)
        length = min(length, self.size_bytes - offset)
        handled += offset + length - (op.offset + op.length)
        op.offset, op.length = offset, length
        return handled

    async def _run(self, op: MirrorOp, method: str) -> None:
        operation = "write"
        try:
            if method == COPY:
                await self._take_buffers(op)
            self.in_flight += 1
            self.bytes_in_flight += op.length
            op.is_in_flight = True
            if method == COPY:
                operation = "read"
                payload = await self.job.source_edge.read(op.offset, op.length)
                operation = "write"
                await self.job.target.write(op.offset, payload)
            elif method == ZERO:
                await self._write_zeroes(op)
            else:
                await self.job.target.discard(op.offset, op.length)
        except OSError as error:
            self.dirty.set(op.offset, op.length)
            self.failed(operation, error)
            self._done(op, good=False)
        else:
            self._done(op, good=True)

    async def _write_zeroes(self, op: MirrorOp) -> None:
        if not self._is_zero(op.offset, op.length):
            flags = MAY_UNMAP if self.job.options.unmap else 0
            await self.job.target.write_zeroes(op.offset, op.length, flags)
            if self.zeroes is not None:
                self.zeroes.set(*self._granules(op.offset, op.length), 1)

    def _is_zero(self, offset: int, length: int) -> bool:
        """Whether nothing needs to be written to make it so."""
        first, end = self._granules(offset, length)
        return self.zeroes is not None and self.zeroes.next_clear(first, end) is None

    async def _take_buffers(self, op: MirrorOp) -> None:
        op.buffers = -(-op.length // self.granularity)
        while self.buffers_free < op.buffers:
            await self.wait_for_slot()
        self.buffers_free -= op.buffers

    def failed(self, operation: str, error: OSError) -> None:
        self.actively_synced = False
        self.failed_lately = True
        if self.job.mirror_error_action(operation, error) == "report" and self.error is None:
            self.error = error

    def _done(self, op: MirrorOp, good: bool) -> None:
        self.in_flight -= 1
        self.bytes_in_flight -= op.length
        self.buffers_free += op.buffers
        first, end = self._granules(op.offset, op.length)
        self._busy.clear(first, end)
        self._ops.remove(op)
        if good:
            if self._whole is not None:
                self._whole.set(first, end, 1)
            if not self.zeroing:
                self.job.progress.work_done(op.length)
        op.waiters.wake_all()
        if not self.in_flight:
            # The job may be what a drained section waits for.
            self.job.jobs.graph.progress()

    # -- one round: the next dirty run
    async def iterate(self) -> int:
        """Start to copy the next dirty run; how long the job must wait then."""
        offset = self._next_dirty()
        await self._wait_on_conflicts(None, offset, 1)
        await self.job.pause_point()
        count = self._dirty_run(offset)
        # Before the status is asked for: what is written meanwhile is dirty again.
        self.dirty.reset(offset, count * self.granularity)
        pseudo = MirrorOp(offset, count * self.granularity, is_pseudo=True)
        self._ops.append(pseudo)
        first = offset // self.granularity
        self._busy.set(first, first + count, 1)
        try:
            return await self._copy_run(offset, count)
        finally:
            self._ops.remove(pseudo)
            pseudo.waiters.wake_all()

    def _next_dirty(self) -> int:
        offset = self.dirty.next_dirty(self._position, self.size_bytes)
        if offset is None:
            offset = self.dirty.next_dirty(0, self.size_bytes)
            assert offset is not None, "a mirror looks for what is dirty, and nothing is"
        self._position = offset + self.granularity
        return offset

    def _dirty_run(self, offset: int) -> int:
        """How many granules from `offset` are dirty and free; the first one always counts."""
        count, unit = 1, self.granularity
        while count * unit < self.buffer_bytes:
            following = offset + count * unit
            if following >= self.size_bytes or not self.dirty.get(following):
                break
            if self._busy.get(following // unit) is not None:
                break
            self._position = following + unit
            count += 1
        return count

    async def _copy_run(self, offset: int, count: int) -> int:
        delay_ns = 0
        target = self.job.target.node
        assert target is not None
        zeroes_are_free = target.discard_unmap and target.driver.unmaps_zeroes
        while count > 0 and offset < self.size_bytes:
            method, length = await self._choose(offset, count * self.granularity)
            while self.in_flight >= MAX_IN_FLIGHT:
                await self.wait_for_slot()
            if self.error is not None:
                return 0
            length = min(length, self.size_bytes - offset)
            is_free = (method != COPY and zeroes_are_free) or (
                method == ZERO and self._is_zero(offset, length)
            )
            length = self.perform(offset, length, method)
            offset += length
            count -= -(-length // self.granularity)
            delay_ns = self.job.delay_ns(0 if is_free else length)
        return delay_ns

    async def _choose(self, offset: int, length: int) -> tuple[str, int]:
        """(method, bytes) for the start of a dirty run."""
        unit = self.granularity
        most = max(self.buffer_bytes // MAX_IN_FLIGHT, _MAX_IO_BYTES)
        source, target = self.job.source_edge.node, self.job.target.node
        assert target is not None
        try:
            flags, length, _ = await status_above(source, None, offset, length)
        except OSError:
            flags = STATUS_DATA
        if flags & STATUS_DATA:
            length = min(length, most)
        length -= length % unit
        if length < unit:
            return COPY, unit
        if flags & STATUS_DATA or chain.round_to_clusters(target, offset, length) != (offset, length):
            return COPY, length
        return (ZERO if flags & STATUS_ZERO else DISCARD), length

    # -- the guest's writes, with copy-mode=write-blocking
    def takes_writes(self) -> bool:
        job = self.job
        blocking = job.options.copy_mode == "write-blocking"
        return blocking and self.error is None and not job.force_cancelled

    async def begin_write(self, offset: int, length: int) -> MirrorOp:
        op = MirrorOp(offset, length, is_active=True)
        self._ops.append(op)
        self.active_writes += 1
        await self._wait_on_conflicts(op, offset, length)
        first, end = self._granules(offset, length)
        self._busy.set(first, end, 1)
        return op

    def end_write(self, op: MirrorOp) -> None:
        self.active_writes -= 1
        first, end = self._granules(op.offset, op.length)
        self._busy.clear(first, end)
        self._ops.remove(op)
        op.waiters.wake_all()

    def note_write(self, offset: int, length: int) -> None:
        """It has not been repeated; where the source's own bitmap records no writes, it is noted here."""
        self.actively_synced = False
        if not self.dirty.enabled:
            self.dirty.set(offset, length)

    async def repeat_write(self, kind: str, offset: int, length: int, payload: bytes, flags: int) -> None:
        """do_sync_target_write: without the parts of granules that are dirty anyway."""
        unit = self.granularity
        if offset % unit and self.dirty.get(offset):
            head = -offset % unit
            if length <= head:
                return
            payload = payload[head:]
            offset, length = offset + head, length - head
        end = offset + length
        if end % unit and self.dirty.get(end - 1):
            if length <= end % unit:
                return
            length -= end % unit
            payload = payload[:length]
            end = offset + length
        first, last = offset + -offset % unit, end - end % unit
        if first < last:
            self.dirty.reset(first, last - first)
        await self._write_actively(kind, offset, length, payload, flags)

    async def _write_actively(self, kind: str, offset: int, length: int, payload: bytes, flags: int) -> None:
        progress = self.job.progress
        progress.total += length
        self.active_bytes += length
        failure: OSError | None = None
        try:
            if kind == "zero":
                await self._zero_actively(offset, length, flags)
            else:
                if self.zeroes is not None:
                    self.zeroes.clear(*self._granules(offset, length))
                if kind == "write":
                    await self.job.target.write(offset, payload, flags)
                else:
                    await self.job.target.discard(offset, length)
        except OSError as error:
            failure = error
        self.active_bytes -= length
        if failure is None:
            progress.work_done(length)
            return
        self.dirty.set(offset, length)
        self.failed("write", failure)

    async def _zero_actively(self, offset: int, length: int, flags: int) -> None:
        if self._is_zero(offset, length):
            return
        await self.job.target.write_zeroes(offset, length, flags)
        first, end = -(-offset // self.granularity), (offset + length) // self.granularity
        if self.zeroes is not None and first < end:
            self.zeroes.set(first, end, 1)
