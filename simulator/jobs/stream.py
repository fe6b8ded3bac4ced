"""The stream job: a node takes over what layers below it hold, and then does without them.

A copy-on-read filter above the node does the copying, for the job as for everybody else. Source:
block/stream.c and qmp_block_stream in blockdev.c:2470, 7.2.
"""

from __future__ import annotations

from contextlib import suppress
from errno import EPERM
from os import strerror

from simulator.block import chain, permissions
from simulator.block.drivers.copy_on_read import CopyOnRead
from simulator.block.errors import QmpError
from simulator.block.opening import ABORTED
from simulator.block.reopening import set_read_only
from simulator.jobs.backing import change_backing_file, set_backing
from simulator.jobs.block_job import BlockJob, create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.jobs.registry import Jobs
    from simulator.jobs.stream_options import StreamOptions
    from simulator.jobs.txn import JobTxn

_CHUNK_BYTES = 512 << 10
_READS = permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED


class StreamJob(BlockJob):
    """Made by `start_stream`. `target` is streamed to, from the layers below it down to `bottom`;
    `above_base` is the last node that goes."""

    job_type = "stream"

    __slots__ = ("above_base", "bottom", "filter", "frozen", "options", "read_only", "target")

    bottom: Node
    above_base: Node
    read_only: bool

    def __init__(self, jobs: Jobs, job_id: str, txn: JobTxn, options: StreamOptions) -> None:
        super().__init__(jobs, job_id, txn, options.auto_finalize, options.auto_dismiss)
        self.options = options
        self.target = options.top
        self.filter: Node | None = None
        self.frozen = False  # by the job itself, and not by its filter

    # -- the work
    async def run(self) -> None:
        top = chain.skip_filters(self.target)
        if top is self.bottom:
            return
        # Without a filter everybody's reads of the node copy, where the whole chain goes.
        helped = self.filter is None and self.bottom.backing is None
        self.target.reads_copy += helped
        try:
            await self._stream(top)
        finally:
            self.target.reads_copy -= helped

    async def _stream(self, top: Node) -> None:
        length = self.target.size_bytes
        self.progress.set_remaining(length)
        first_error: OSError | None = None
        offset = delay_ns = 0
        while offset < length:
            await self.sleep_for_speed(delay_ns)
            if self.force_cancelled:
                return
            delay_ns = 0
            count = min(_CHUNK_BYTES, length - offset)
            try:
                copies, count = await self._is_below(top, offset, length)
                if copies:
                    await self._populate(offset, count)
            except OSError as error:
                action = self.error_action(self.options.on_error, "read", error.errno or 0)
                if action == "stop":
                    continue
                first_error = first_error or error
                if action == "report":
                    break
            else:
                delay_ns = self.delay_ns(count) if copies else 0
            self.progress.work_done(count)
            offset += count
        if first_error is not None:
            raise first_error

    async def _is_below(self, top: Node, offset: int, length: int) -> tuple[bool, int]:
        """(whether a run from `offset` is in the layers that go, its length). Raises OSError."""
        here, count = await chain.is_allocated(top, offset, min(_CHUNK_BYTES, length - offset))
        if here:
            return False, count
        below, count = await chain.is_allocated_above(_backing(top), self.bottom, offset, count)
        # Beyond the end of what is below there is nothing more to copy.
        return below, count or length - offset

    async def _populate(self, offset: int, length: int) -> None:
        if self.filter is None:
            assert self.own_backend is not None
            assert self.own_backend.node is not None
            await self.own_backend.node.copy_on_read(offset, length, wanted=False)
            return
        driver = self.filter.driver
        assert isinstance(driver, CopyOnRead)
        await driver.populate(offset, length)

    # -- the end
    def _unfreeze(self) -> None:
        if self.frozen:
            self.frozen = False
            chain.unfreeze(self.target, self.above_base)

    async def abort(self) -> None:
        self._unfreeze()

    async def prepare(self) -> None:
        self._unfreeze()
        await self._drop_filter()
        graph, above = self.jobs.graph, self.above_base
        # A layer that is taken out is let go with all nodes drained, where changes are made so.
        all_nodes = graph.rules.changes_made_drained
        nodes = graph.nodes.values() if all_nodes else permissions.topological([above])
        async with graph.drained(*nodes):
            base = above.below
            top = chain.skip_filters(self.target)
            if top.backing is None:
                return
            if base is not None:
                base.references += 1
            try:
                await self._set_backing(top, base)
            finally:
                if base is not None:
                    base.references -= 1
                    await graph.release(base)

    async def _set_backing(self, top: Node, base: Node | None) -> None:
        filename = image_format = None
        if base is not None:
            unfiltered = chain.skip_filters(base)
            filename = self.options.backing_file or unfiltered.filename
            image_format = unfiltered.driver.format_name
        refusal: QmpError | None = None
        try:
            await set_backing(self.jobs.graph, top, base)
        except QmpError as error:
            refusal = error
        await change_backing_file(top, filename, image_format)
        if refusal is not None:
            self.jobs.graph.report(refusal.console_text)
            raise OSError(EPERM, strerror(EPERM))

    async def _drop_filter(self) -> None:
        filter_node, self.filter = self.filter, None
        if filter_node is not None:
            await drop_cor_filter(filter_node)

    async def clean(self) -> None:
        await self._drop_filter()
        for backend in list(self.backends):
            await self.remove_backend(backend)
        if self.read_only:
            if self.own_backend is not None:
                self.own_backend.set_permissions(0, permissions.ALL)
            with suppress(QmpError):
                await set_read_only(self.jobs.graph, self.target, True)


def _backing(node: Node) -> Node:
    backing = node.backing
    assert backing is not None, f"{node!r} is streamed to, yet has nothing below it"
    return backing


async def drop_cor_filter(node: Node) -> None:
    """bdrv_cor_filter_drop."""
    driver = node.driver
    assert isinstance(driver, CopyOnRead)
    driver.let_go()
    node.references -= 1
    await node.graph.drop_filter(node)


async def start_stream(jobs: Jobs, options: StreamOptions) -> None:
    """stream_start. Raises QmpError, undoing all."""
    top = options.top
    bottom, above_base = _find_bottom(options)
    was_read_only = top.read_only
    if was_read_only:
        # Nothing of the chain may go away meanwhile.
        chain.freeze(top, above_base)
        try:
            await set_read_only(jobs.graph, top, False)
        finally:
            chain.unfreeze(top, above_base)
    if not jobs.graph.rules.stream_has_filter:
        job = await _start_without_filter(jobs, options, bottom, above_base, was_read_only)
        job.start()
        return
    filter_node: Node | None = None
    try:
        filter_node = await jobs.graph.insert_above(top, _filter_options(options, bottom))
        filter_node.references += 1
        filter_node.implicit = options.filter_node_name is None
        job = await _make_job(jobs, options, filter_node, bottom, above_base)
    except QmpError:
        if filter_node is not None:
            await drop_cor_filter(filter_node)
        if was_read_only:
            with suppress(QmpError):
                await set_read_only(jobs.graph, top, True)
        raise
    job.read_only = was_read_only
    job.start()


async def _start_without_filter(
    jobs: Jobs, options: StreamOptions, bottom: Node, above_base: Node, was_read_only: bool
) -> StreamJob:
    """stream_start of 5.2, from block_job_create on. Raises QmpError, undoing all."""

    def make(job_id: str, txn: JobTxn) -> StreamJob:
        return StreamJob(jobs, job_id, txn, options)

    top = options.top
    chain.freeze(top, above_base)
    stands_on = top, _READS | permissions.GRAPH_MOD, _READS | permissions.WRITE
    job_id = options.job_id if options.job_id is not None else top.drive_name()
    try:
        job = await create(jobs, job_id, make, stands_on, options.speed_bytes_per_s)
    except QmpError:
        chain.unfreeze(top, above_base)
        if was_read_only:
            with suppress(QmpError):
                await set_read_only(jobs.graph, top, True)
        raise
    assert isinstance(job, StreamJob)
    job.frozen = True
    job.bottom, job.above_base, job.read_only = bottom, above_base, was_read_only
    try:
        for node in chain.layers(top.below, above_base.below):
            job.add_node("intermediate node", node, 0, _READS)
    except QmpError as error:
        # It takes it that nobody can be in the way (block/stream.c:289: error_abort).
        await jobs.graph.end_process(ABORTED, error.desc)
    return job


def _filter_options(options: StreamOptions, bottom: Node) -> dict[str, Any]:
    chosen = {
        "driver": "copy-on-read", "file": options.top.node_name, "bottom": bottom.node_name,
    }  # fmt: skip
    if options.filter_node_name is not None:
        chosen["node-name"] = options.filter_node_name
    return chosen


def _find_bottom(options: StreamOptions) -> tuple[Node, Node]:
    """(the last layer that is copied from, the last node that goes). Raises QmpError."""
    if options.bottom is not None:
        return options.bottom, options.bottom
    top, base = options.top, options.base
    overlay = chain.find_overlay(top, base)
    if overlay is None:
        assert base is not None
        raise QmpError(f"'{base.node_name}' is not in the backing chain of '{top.node_name}'")
    above = overlay
    while above.below is not base:
        below = above.below
        assert below is not None
        above = below
    return overlay, above


async def _make_job(
    jobs: Jobs, options: StreamOptions, filter_node: Node, bottom: Node, above_base: Node
) -> StreamJob:
    def make(job_id: str, txn: JobTxn) -> StreamJob:
        return StreamJob(jobs, job_id, txn, options)

    job_id = options.job_id if options.job_id is not None else filter_node.drive_name()
    job = await create(jobs, job_id, make, (filter_node, 0, permissions.ALL), options.speed_bytes_per_s)
    assert isinstance(job, StreamJob)
    top = options.top
    await jobs.graph.changing()
    try:
        job.add_backend(filter_node, permissions.CONSISTENT_READ, _READS | permissions.WRITE)
        await jobs.graph.changing()
        job.add_node("active node", top, 0, _READS | permissions.WRITE)
        # They are read once, so they must not change, and go away afterwards.
        for node in chain.layers(top.below, above_base.below):
            job.add_node("intermediate node", node, 0, _READS)
    except QmpError:
        # QEMU forgets the job's backend there, which goes on standing on the node (block/stream.c:418 of
        # 10.0.13).
        if jobs.graph.rules.refused_stream_keeps_backend:
            jobs.graph.orphans += job.backends
        else:
            for backend in job.backends:
                await backend.remove()
        job.backends.clear()
        await job.fail_early()
        raise
    job.filter, job.bottom, job.above_base = filter_node, bottom, above_base
    return job
