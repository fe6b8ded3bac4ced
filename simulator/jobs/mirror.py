"""The mirror job: a target that becomes, and stays, the same as a node that is written to all the while.

When the two are the same the job is ready; completed, the target takes the node's place, and cancelled
without force, it is a copy of that moment. A mirror_top filter stands above the node. A commit of the layer
that is written to is this job with a target below the node. Source: block/mirror.c:622-1260, 7.2.
"""

from __future__ import annotations

from contextlib import suppress
from errno import EINVAL, ENOTSUP, EPERM
from os import strerror

from simulator.block import chain, granting, permissions
from simulator.block.bitmap import DirtyBitmap
from simulator.block.drivers.mirror_top import MirrorTop
from simulator.block.errors import QmpError
from simulator.block.opening import ABORTED, open_backing_from_header
from simulator.block.reopening import set_read_only
from simulator.jobs.backing import set_backing
from simulator.jobs.block_job import RETRY_NS, BlockJob
from simulator.jobs.mirror_copying import MAX_IN_FLIGHT, MirrorCopying
from simulator.jobs.mirror_dirty import find_dirty
from simulator.jobs.mirror_options import LEAVE_BACKING, OPEN_BACKING, SOURCE_BACKING, MirrorOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.backend import BlockBackend
    from simulator.block.node import Edge, Node
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn

_SLICE_NS = 100_000_000


class MirrorJob(BlockJob):
    """Made by `start_mirror` and `start_active_commit`. `filter` is the mirror_top node. `in_drain`: the job
    itself has drained the source, for its end."""

    job_type = "mirror"

    __slots__ = (
        "_last_pause_ns", "_prepared", "_replace_blocker", "_replaced", "_should_complete",
        "base_overlay", "copying", "dirty", "filter", "in_drain", "options", "target",
    )  # fmt: skip

    target: BlockBackend
    dirty: DirtyBitmap
    copying: MirrorCopying

    def __init__(
        self, jobs: Jobs, job_id: str, txn: JobTxn, options: MirrorOptions, filter_node: Node
    ) -> None:
        super().__init__(jobs, job_id, txn, options.auto_finalize, options.auto_dismiss)
        self.options = options
        self.filter = filter_node
        self.in_drain = False
        self.base_overlay = chain.find_overlay(options.source, options.base)
        self._last_pause_ns = 0
        self._prepared = False
        self._should_complete = False
        self._replaced: Node | None = None
        self._replace_blocker = ("block device is in use by block-job-complete", frozenset[str]())

    @property
    def source_edge(self) -> Edge:
        return self.filter.children["backing"]

    @property
    def _now_ns(self) -> int:
        return self.jobs.scheduler.now_ns

    # -- the work
    async def run(self) -> None:
        failure: OSError | QmpError | None = None
        is_drained = False
        try:
            is_drained = await self._mirror()
        except (OSError, QmpError) as error:
            failure = error
        await self.copying.wait_for_all()
        if not is_drained:
            await self._drain_source()
        if failure is not None:
            raise failure

    async def _drain_source(self) -> None:
        """Until the job's end. A coroutine leaves it to the main loop (bdrv_co_yield_to_drain)."""
        self.in_drain = True
        await self.jobs.scheduler.loop_turn
        source = self.source_edge.node
        source.drained_begin()
        await self.jobs.graph.wait_drained([source])

    async def _mirror(self) -> bool:
        """Whether the two are the same, and the source is drained. Raises OSError, QmpError."""
        if self.force_cancelled:
            return False
        await self._match_sizes()
        if not self.source_edge.node.size_bytes:
            self.become_ready()
            while not self.cancelled and not self._should_complete:
                await self.yield_until_entered()
            return False
        self.copying.prepare(self.source_edge.node.size_bytes)
        self._last_pause_ns = self._now_ns
        if not self.options.is_none_mode:
            await find_dirty(self)
            if self.force_cancelled:
                return False
        while True:
            if self.copying.error is not None:
                raise self.copying.error
            await self.pause_point()
            if self.force_cancelled:
                return False
            if await self._round():
                return True

    async def _match_sizes(self) -> None:
        source, target = self.source_edge.node, self.target.node
        assert target is not None
        if self.options.base is not target:
            if source.size_bytes != target.size_bytes:
                if not self.jobs.rules.mirror_tells_sizes:
                    raise OSError(EINVAL, strerror(EINVAL))
                raise QmpError("Source and target image have different sizes")
        elif source.size_bytes > target.size_bytes:
            try:
                await target.truncate(source.size_bytes)
            except QmpError:
                raise OSError(ENOTSUP, strerror(ENOTSUP)) from None

    async def breathe(self) -> None:
        """mirror_throttle: from time to time, let others run."""
        if self._now_ns - self._last_pause_ns > _SLICE_NS:
            self._last_pause_ns = self._now_ns
            await self.sleep(0)
        else:
            await self.pause_point()

    async def _round(self) -> bool:
        """One turn of the main loop: copy a run, or be ready and wait. True: the same, and drained."""
        copying = self.copying
        dirty_bytes = self.dirty.count_bytes
        self.progress.set_remaining(copying.bytes_in_flight + dirty_bytes + copying.active_bytes)
        delay_ns = 0
        if self._now_ns - self._last_pause_ns < _SLICE_NS and self.io_status == "ok":
            is_full = copying.in_flight >= MAX_IN_FLIGHT or not copying.buffers_free
            if is_full or (not dirty_bytes and copying.in_flight):
                await copying.wait_for_slot()
                return False
            if dirty_bytes:
                delay_ns = await copying.iterate()
        should_complete = False
        if not copying.in_flight and not dirty_bytes:
            if not self.is_ready():
                if not await self._flush_target():
                    await self.sleep(RETRY_NS)
                    return False
                self.become_ready()
            copying.actively_synced = self.options.copy_mode != "background"
            should_complete = self._should_complete or self.cancelled
            dirty_bytes = self.dirty.count_bytes
        if not dirty_bytes and should_complete:
            return await self._is_still_the_same()
        if self.is_ready() and not should_complete:
            delay_ns = 0 if copying.in_flight or dirty_bytes else _SLICE_NS
        if copying.failed_lately:
            copying.failed_lately = False
            delay_ns = max(delay_ns, RETRY_NS)
        await (self.sleep if self.is_ready() and not should_complete else self.sleep_for_speed)(delay_ns)
        self._last_pause_ns = self._now_ns
        return False

    async def _is_still_the_same(self) -> bool:
        """Drain the source, and look whether something was written in the last moment."""
        await self._drain_source()
        if not self.dirty.count_bytes and await self._flush_target():
            return True
        self.source_edge.node.drained_end()
        self.in_drain = False
        return False

    async def _flush_target(self) -> bool:
        try:
            await self.target.flush()
        except OSError as error:
            self.copying.failed("write", error)
            return False
        return True

    def mirror_error_action(self, operation: str, error: OSError) -> str:
        on_error = self.options.on_source_error if operation == "read" else self.options.on_target_error
        return self.error_action(on_error, operation, error.errno or 0)

    # -- pausing, cancelling, completing
    async def on_pause(self) -> None:
        await self.copying.wait_for_all()

    def drained_busy(self) -> bool:
        if not self.busy or self.is_completed():
            return False
        rests = self.paused or self.force_cancelled or self.in_drain
        return not rests or self.copying.in_flight > 0

    def on_cancel(self, force: bool) -> bool:
        """A target that is not the same yet is of no use to anybody."""
        force = force or not self.is_ready()
        if force and not self.options.is_commit and self.jobs.rules.cancel_ends_waits:
            assert self.target.node is not None
            self.target.node.driver.cancel_in_flight()
        return force

    @property
    def can_complete(self) -> bool:
        return True

    async def complete(self) -> None:
        if not self.is_ready():
            raise QmpError(f"The active block job '{self.id}' cannot be completed")
        if self.options.backing_mode == OPEN_BACKING and self.jobs.rules.complete_opens_backing:
            assert self.target.node is not None
            await open_backing_from_header(self.jobs.graph, chain.skip_filters(self.target.node))
        if self.options.replaces is not None:
            node = self.jobs.graph.nodes.get(self.options.replaces)
            if node is None:
                raise QmpError(f"Node name '{self.options.replaces}' not found")
            node.op_blockers.insert(0, self._replace_blocker)
            node.references += 1
            self._replaced = node
        self._should_complete = True
        if not self.paused:
            self.enter()

    # -- the end
    async def prepare(self) -> None:
        error = await self._exit(aborts=False)
        if error:
            raise OSError(error, strerror(error))

    async def abort(self) -> None:
        await self._exit(aborts=True)

    async def _exit(self, aborts: bool) -> int:
        """mirror_exit_common; an errno, or 0. What was wrong is printed."""
        if self._prepared:
            return 0
        self._prepared = True
        graph, filter_node = self.jobs.graph, self.filter
        source, target = self.source_edge.node, self.target.node
        assert target is not None
        if chain.chain_contains(source, target):
            chain.unfreeze(filter_node, target)
        self.dirty.release()
        for node in (source, filter_node, target):
            node.references += 1
        await self.remove_backend(self.target)
        filter_node.drained_begin()
        await graph.wait_drained([filter_node])
        driver = _mirror_top(filter_node)
        driver.stopped = True
        granting.refresh([filter_node])
        failed = 0 if aborts else await self._set_backing(source, target)
        if self._should_complete and not aborts:
            failed = await self._pivot(source, target) or failed
        if self._replaced is not None:
            self._replaced.op_blockers.remove(self._replace_blocker)
            self._replaced.references -= 1
            await graph.release(self._replaced)
        await self.remove_all_nodes()
        await graph.changing()
        # What is below it by now may be the target.
        try:
            await graph.replace(filter_node, self.source_edge.node)
        except QmpError as refusal:
            # QEMU takes it that nobody can be in the way (&error_abort).
            await graph.end_process(ABORTED, refusal.console_text)
        if self.own_backend is not None:
            # It went with the filter's users; as long as the job is there, it keeps the filter.
            await self.own_backend.remove()
            self.own_backend.set_permissions(0, permissions.ALL)
            self.own_backend.insert(filter_node)
        driver.copier = None
        if aborts and self.options.base_was_read_only and self.jobs.rules.aborted_commit_restores_base:
            with suppress(QmpError):
                await set_read_only(graph, target, True)
        source.drained_end()
        filter_node.drained_end()
        self.in_drain = False
        for node in (target, filter_node, source):
            node.references -= 1
            await graph.release(node)
        return failed

    async def _set_backing(self, source: Node, target: Node) -> int:
        mode, graph = self.options.backing_mode, self.jobs.graph
        if mode == LEAVE_BACKING:
            return 0
        top = chain.skip_filters(target)
        try:
            if mode == SOURCE_BACKING:
                backing = source if self.options.is_none_mode else self.options.base
                if top.backing is not backing:
                    await set_backing(graph, top, backing)
            elif not self.jobs.rules.complete_opens_backing:
                await open_backing_from_header(graph, top)
        except QmpError as error:
            graph.report(error.console_text)
            return EPERM if mode == SOURCE_BACKING else EINVAL
        return 0

    async def _pivot(self, source: Node, target: Node) -> int:
        """The target takes the place of what is to be replaced."""
        graph = self.jobs.graph
        replaced = self._replaced or source
        if replaced.read_only != target.read_only:
            with suppress(QmpError):
                await set_read_only(graph, target, replaced.read_only)
        try:
            async with graph.drained(target):
                if not source.can_replace(replaced):
                    raise QmpError(
                        f"Can no longer replace '{replaced.node_name}' by '{target.node_name}', because it "
                        "can no longer be guaranteed that doing so would not lead to an abrupt change of "
                        "visible data"
                    )
                await graph.changing()
                await graph.replace(replaced, target)
        except QmpError as error:
            graph.report(error.console_text)
            return EPERM
        return 0

    def change(self, arguments: dict[str, Any]) -> None:
        """mirror_change, block/mirror.c:1262, 10.0.13. A commit has none."""
        if self.job_type != "mirror":
            super().change(arguments)
        mode = arguments.get("copy-mode", "background")  # another `type` than mirror has no members
        if mode == self.options.copy_mode:
            return
        if mode != "write-blocking":
            raise QmpError(f"Change to copy mode '{mode}' is not implemented")
        self.options.copy_mode = mode
        self.dirty.enabled = False  # what is not repeated is noted one by one from here on

    def block_job_info(self) -> dict[str, Any]:
        """Of the type mirror only, so not of a commit."""
        shown = super().block_job_info()
        if self.jobs.rules.shows_actively_synced and self.job_type == "mirror":
            shown["actively-synced"] = self.copying.actively_synced
        return shown


class ActiveCommitJob(MirrorJob):
    """Shown as a commit."""

    job_type = "commit"

    __slots__ = ()


def _mirror_top(node: Node) -> MirrorTop:
    driver = node.driver
    assert isinstance(driver, MirrorTop)
    return driver
