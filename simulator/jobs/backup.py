"""The backup job: a copy of a disk as it is when the job is made.

A copy-before-write filter above the source saves what the guest is about to overwrite; the job itself
copies the rest, or with sync=none nothing, and then the target is a view of that point in time for as long
as the job runs. Source: block/backup.c, 7.2.
"""

from __future__ import annotations

from errno import ECANCELED
from os import strerror

from simulator.block import chain, permissions
from simulator.block.copy_call import BlockCopyCall
from simulator.block.copy_clusters import MAX_MIN_CLUSTER_BYTES, min_cluster_too_large
from simulator.block.drivers import driver_class
from simulator.block.drivers.backup_top import BackupTop
from simulator.block.errors import QmpError
from simulator.block.opening import ABORTED
from simulator.engine.task import Future
from simulator.jobs import backup_filter
from simulator.jobs.block_job import BlockJob, create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.block_copy import BlockCopyState
    from simulator.block.drivers.copy_before_write import CopyBeforeWrite
    from simulator.block.node import Node
    from simulator.jobs.backup_options import BackupOptions
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn

_INT_MAX = (1 << 31) - 1


class BackupJob(BlockJob):
    """Made by `create_backup`. `copying` is shared with the filter: what it has saved is not copied again."""

    job_type = "backup"

    __slots__ = ("_call", "_call_over", "_ended", "copying", "filter", "options", "source", "target")

    def __init__(
        self,
        jobs: Jobs,
        job_id: str,
        txn: JobTxn,
        options: BackupOptions,
        source: Node,
        target: Node,
        cbw: Node,
    ) -> None:
        super().__init__(jobs, job_id, txn, options.auto_finalize, options.auto_dismiss)
        self.options = options
        self.source, self.target, self.filter = source, target, cbw
        self.copying: BlockCopyState = _copying_of(cbw)
        self._call: BlockCopyCall | None = None
        self._call_over: Future | None = None
        self._ended = False

    def on_cancel(self, force: bool) -> bool:
        if self.jobs.rules.cancel_ends_waits:
            self.target.driver.cancel_in_flight()
        return True

    # -- the work
    async def run(self) -> None:
        self._choose_clusters()
        sync = self.options.sync
        if sync == "top":
            await self._leave_out_unallocated()
        if sync == "none":
            while not self.force_cancelled and not self._ended:
                await self.yield_until_entered()
        elif self.jobs.graph.rules.copy_bytes:
            await self._copy()
        else:
            await self._copy_by_clusters()

    def _choose_clusters(self) -> None:
        to_copy = self.copying.copy_bitmap
        if self.jobs.rules.backup_chooses_late:
            to_copy.set(0, self.copying.size_bytes)
        if self.options.sync == "bitmap":
            assert self.options.bitmap is not None
            to_copy.clear()
            to_copy.merge(self.options.bitmap)
        elif self.options.sync == "top":
            # Until the scan is through, the copy bitmap says too much, and the filter must look for itself.
            self.copying.skip_unallocated = True
        self.progress.set_remaining(to_copy.count_bytes)

    async def _leave_out_unallocated(self) -> None:
        offset = 0
        while offset < self.copying.size_bytes:
            if not self.force_cancelled:
                await self.pause_point()
            if self.force_cancelled:
                raise OSError(ECANCELED, strerror(ECANCELED))
            _, length = await self.copying.reset_unallocated(offset)
            offset += length
        self.copying.skip_unallocated = False

    async def _copy(self) -> None:
        """backup_loop: until all is copied, or an error is to be reported. A pause ends a call, and so may
        an error."""
        whole = self.copying.size_bytes + -self.copying.size_bytes % self.copying.cluster_bytes
        options = self.options
        while True:
            call = self._call = self.copying.start(
                0, whole, max_workers=options.max_workers, max_chunk=options.max_chunk_bytes,
                on_finished=self._copy_finished,
            )  # fmt: skip
            while not call.finished and not self.force_cancelled:
                await self.yield_until_entered()
            if not call.finished:
                await self._stop_call(call)
                break
            if self.force_cancelled or (not call.cancelled and call.error is None):
                break
            if not call.cancelled:
                assert call.error is not None
                await self._failed_call(call.error, call.error_is_read)
        self._call = None

    async def _copy_by_clusters(self) -> None:
        """backup_loop, block/backup.c:183, 5.2: a turn of the main loop before each cluster. What is ignored,
        or stopped for, is tried again; of a job that is cancelled before that, it is the error."""
        copying, offset = self.copying, 0
        failure: OSError | None = None
        unit, size = copying.cluster_bytes, copying.size_bytes
        if not size:
            await self.jobs.graph.end_process(
                ABORTED, "hbitmap_iter_init: Assertion `pos < hb->size' failed."
            )
        counted = self.progress.current
        while (found := copying.copy_bitmap.next_dirty(offset, size)) is not None:
            while not self.force_cancelled:
                passed, counted = self.progress.current - counted, self.progress.current
                await self.sleep(self.delay_ns(passed))
                if self.force_cancelled:
                    break
                call = BlockCopyCall(found, unit, True, 1, 0, None)
                await copying.run(call)
                failure = call.error
                if failure is None:
                    break
                await self._failed_call(failure, call.error_is_read)
            if failure is not None:
                raise failure
            if self.force_cancelled:
                return
            offset = found + unit

    async def _failed_call(self, error: OSError, is_read: bool) -> None:
        on_error = self.options.on_source_error if is_read else self.options.on_target_error
        action = self.error_action(on_error, "read" if is_read else "write", error.errno or 0)
        if action == "report":
            self._call = None
            raise error
        if action == "stop":
            await self.pause_point()

    def _copy_finished(self) -> None:
        if self._call_over is not None:
            over, self._call_over = self._call_over, None
            over.set_result()
        else:
            self.enter()

    async def _stop_call(self, call: BlockCopyCall) -> None:
        """No job_yield here: the job stays busy, as it has requests under way."""
        call.cancel()
        self._call_over = over = Future(f"the copying of backup job '{self.id}' to stop")
        await over

    async def on_pause(self) -> None:
        if self._call is not None and not self._call.finished:
            await self._stop_call(self._call)

    def on_set_speed(self) -> None:
        self.copying.set_speed(self.speed_bytes_per_s)
        if self._call is not None:
            self._call.kick()

    # -- the end
    @property
    def can_complete(self) -> bool:
        return self.jobs.rules.complete_ends_fleecing and self.options.sync == "none"

    def check_verb(self, verb: str) -> None:
        # A job that fleeces is never ready: it takes the verb while it runs.
        takes_it = self.can_complete and self.status in ("running", "paused")
        if verb != "complete" or not takes_it:
            super().check_verb(verb)

    async def complete(self) -> None:
        self._ended = True
        self.enter()

    async def commit(self) -> None:
        self._sync_bitmap(failed=False)

    async def abort(self) -> None:
        self._sync_bitmap(failed=True)

    def _sync_bitmap(self, failed: bool) -> None:
        """backup_cleanup_sync_bitmap: either the successor, with what was written meanwhile, takes the
        bitmap's place, or the two are one again; a failed job that syncs always adds what it has not
        copied."""
        bitmap, mode = self.options.bitmap, self.options.bitmap_mode
        if bitmap is None:
            return
        if mode != "never" and (not failed or mode == "always"):
            bitmap = bitmap.abdicate()
        else:
            bitmap.reclaim()
        if failed and mode == "always":
            bitmap.merge(self.copying.copy_bitmap)

    async def clean(self) -> None:
        # 5.2 stays on the nodes until it is dismissed, and so its filter stays too, though nobody is below it
        # (block/backup.c, backup_clean, 5.2).
        if not isinstance(self.filter.driver, BackupTop):
            await self.remove_all_nodes()
        await backup_filter.drop(self.filter)


def _copying_of(cbw: Node) -> BlockCopyState:
    filter_driver: CopyBeforeWrite = cbw.driver  # type: ignore[assignment]
    return filter_driver.copy_state


async def create_backup(
    jobs: Jobs, source: Node, target: Node, options: BackupOptions, txn: JobTxn | None
) -> BackupJob:
    """backup_job_create: check, insert the filter, make the job; it is not started. Raises QmpError,
    undoing all."""
    _check(jobs, source, target, options)
    bitmap = options.bitmap
    if bitmap is not None:
        if options.bitmap_mode != "never":
            bitmap.check()
        bitmap.create_successor()
    cbw: Node | None = None
    try:
        if target.size_bytes != source.size_bytes:
            raise QmpError("Source and target image have different sizes")
        cbw = await backup_filter.append(source, _filter_options(source, target, options))
        return await _make_job(jobs, source, target, options, txn, cbw)
    except QmpError:
        if bitmap is not None:
            bitmap.reclaim()
        if cbw is not None:
            await backup_filter.drop(cbw)
        raise


def _check(jobs: Jobs, source: Node, target: Node, options: BackupOptions) -> None:
    if source is target:
        raise QmpError("Source and target cannot be the same")
    if options.compress and not chain.supports_compressed_writes(target):
        raise QmpError(f"Compression is not supported for this drive {target.drive_name()}")
    jobs.graph.check_operation(source, "backup-source")
    jobs.graph.check_operation(target, "backup-target")
    if not 1 <= options.max_workers <= _INT_MAX:
        raise QmpError(f"max-workers must be between 1 and {_INT_MAX}")
    if options.max_chunk_bytes < 0:
        raise QmpError("max-chunk must be zero (which means no limit) or positive")
    if options.min_cluster_bytes > MAX_MIN_CLUSTER_BYTES:
        raise min_cluster_too_large(options.min_cluster_bytes)


def _filter_options(source: Node, target: Node, options: BackupOptions) -> dict[str, Any]:
    driver = source.graph.rules.backup_filter
    chosen: dict[str, Any] = {"driver": driver, "target": target.node_name}
    for name, role, _ in driver_class(driver).children:
        if role & permissions.FILTERED:
            chosen[name] = source.node_name
    if options.filter_node_name is not None:
        chosen["node-name"] = options.filter_node_name
    if options.on_cbw_error is not None:
        chosen["on-cbw-error"] = options.on_cbw_error
    if options.discard_source:
        chosen["discard-source"] = True
    if options.min_cluster_bytes:
        chosen["min-cluster-size"] = options.min_cluster_bytes
    return chosen


async def _make_job(
    jobs: Jobs, source: Node, target: Node, options: BackupOptions, txn: JobTxn | None, cbw: Node
) -> BackupJob:
    copying = _copying_of(cbw)
    if options.max_chunk_bytes and options.max_chunk_bytes < copying.cluster_bytes:
        raise QmpError(
            f"Required max-chunk ({options.max_chunk_bytes}) is less than backup cluster size "
            f"({copying.cluster_bytes})"
        )

    def make(job_id: str, group: JobTxn) -> BackupJob:
        return BackupJob(jobs, job_id, group, options, source, target, cbw)

    job_id = options.job_id if options.job_id is not None else cbw.drive_name()
    job = await create(jobs, job_id, make, (cbw, 0, permissions.ALL), options.speed_bytes_per_s, txn)
    assert isinstance(job, BackupJob)
    copying.set_options(compress=options.compress)
    copying.progress = job.progress
    if jobs.rules.backup_chooses_late:
        copying.copy_bitmap.clear()
    await jobs.graph.changing()
    job.add_node("target", target, 0, permissions.ALL)
    return job
