"""The commit job: what layers of a chain hold goes into a layer below them, and they go away.

A commit_top filter above them shows the chain's content to its readers while the base is written to.
Source: block/commit.c, 7.2. A commit of the layer that is written to is a mirror: see mirror_start.py.
"""

from __future__ import annotations

from contextlib import suppress
from errno import ENOTSUP
from os import strerror

from simulator.block import chain, permissions
from simulator.block.driver import MAY_UNMAP, STATUS_ALLOCATED, STATUS_ZERO
from simulator.block.drivers.commit_top import CommitTop
from simulator.block.errors import QmpError
from simulator.block.reopening import set_read_only
from simulator.block.status import status_above
from simulator.jobs.backing import append_filter, drop_intermediate
from simulator.jobs.block_job import RETRY_NS, BlockJob, create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.backend import BlockBackend
    from simulator.block.node import Node
    from simulator.jobs.commit_options import CommitOptions
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn

_CHUNK_BYTES = 512 << 10
_SHARED = permissions.WRITE_UNCHANGED | permissions.WRITE


class CommitJob(BlockJob):
    """Made by `start_commit`. `last` is the layer just above the base; `base_backend` and `top_backend` are
    how the job writes and reads."""

    job_type = "commit"

    __slots__ = ("base_backend", "base_was_read_only", "filter", "frozen", "last", "options", "top_backend")

    last: Node
    base_backend: BlockBackend
    top_backend: BlockBackend

    def __init__(self, jobs: Jobs, job_id: str, txn: JobTxn, options: CommitOptions) -> None:
        super().__init__(jobs, job_id, txn, options.auto_finalize, options.auto_dismiss)
        self.options = options
        self.filter: Node | None = None
        self.frozen = False
        self.base_was_read_only = options.base.read_only

    # -- the work
    async def run(self) -> None:
        top, base = self.options.top, self.options.base
        length = top.size_bytes
        self.progress.set_remaining(length)
        if base.size_bytes < length:
            try:
                await base.truncate(length)
            except QmpError:
                raise OSError(ENOTSUP, strerror(ENOTSUP)) from None
        offset = delay_ns = 0
        while offset < length:
            await self.sleep_for_speed(delay_ns)
            if self.force_cancelled:
                return
            count, delay_ns = await self._step(offset, length)
            if count:
                self.progress.work_done(count)
            offset += count

    async def _step(self, offset: int, length: int) -> tuple[int, int]:
        """(bytes that are done, how long to wait then); an error that is not reported leaves them to be tried
        again. Raises OSError."""
        operation = "read"
        try:
            tells_zeroes = self.jobs.rules.commit_writes_zeroes
            flags, count, _ = await status_above(
                self.options.top, self.last, offset, min(_CHUNK_BYTES, length - offset), tells_zeroes, True
            )
            copies = flags & STATUS_ALLOCATED
            if copies and tells_zeroes and flags & STATUS_ZERO:
                operation = "write"
                await self.base_backend.write_zeroes(offset, count, MAY_UNMAP)
            elif copies:
                payload = await self.top_backend.read(offset, count)
                operation = "write"
                await self.base_backend.write(offset, payload)
        except OSError as error:
            if self.error_action(self.options.on_error, operation, error.errno or 0) == "report":
                raise
            return 0, RETRY_NS
        return count, self.delay_ns(count) if copies else 0

    # -- the end
    def _unfreeze(self) -> None:
        if self.frozen:
            assert self.filter is not None
            self.frozen = False
            chain.unfreeze(self.filter, self.options.base)

    async def prepare(self) -> None:
        assert self.filter is not None
        self._unfreeze()
        await self.remove_backend(self.base_backend)
        await drop_intermediate(self.jobs.graph, self.filter, self.options.base, self.options.backing_file)

    async def abort(self) -> None:
        """The filter goes last, when the layers below may be read again. It has gone if the chain was joined
        and only an image could not be told of it: there QEMU looks for it all the same, and crashes."""
        self._unfreeze()
        filter_node, graph = self.filter, self.jobs.graph
        assert filter_node is not None
        below = filter_node.below
        if below is None:
            await self.remove_all_nodes()
            return
        for node in (filter_node, below):
            node.references += 1
        await self.remove_backend(self.base_backend)
        await self.remove_all_nodes()
        await graph.replace(filter_node, below)
        for node in (filter_node, below):
            node.references -= 1
            await graph.release(node)

    async def clean(self) -> None:
        if self.base_was_read_only:
            with suppress(QmpError):
                await set_read_only(self.jobs.graph, self.options.base, True)
        await self.remove_backend(self.top_backend)


async def start_commit(jobs: Jobs, options: CommitOptions) -> None:
    """commit_start. Raises QmpError, undoing all."""
    if chain.skip_filters(options.top) is chain.skip_filters(options.base):
        raise QmpError("Invalid files for merge: top and base are the same")

    def make(job_id: str, txn: JobTxn) -> CommitJob:
        return CommitJob(jobs, job_id, txn, options)

    job_id = options.job_id if options.job_id is not None else options.active.drive_name()
    stands_on = options.active, 0, permissions.ALL
    job = await create(jobs, job_id, make, stands_on, options.speed_bytes_per_s)
    assert isinstance(job, CommitJob)
    try:
        await _prepare_chain(job)
    except QmpError:
        await _undo(job)
        raise
    job.start()


async def _prepare_chain(job: CommitJob) -> None:
    graph, options = job.jobs.graph, job.options
    top, base = options.top, options.base
    if job.base_was_read_only:
        await set_read_only(graph, base, False)
    filter_node = await append_filter(graph, CommitTop, options.filter_node_name, top, read_only=True)
    # Its users keep it from now on.
    filter_node.references -= 1
    job.filter = filter_node
    last = chain.find_overlay(top, base)
    assert last is not None
    job.last = last
    await graph.changing()
    shared = _SHARED
    for node in chain.layers(top, base):
        if node is last.backing:
            # Filters on the base, from here on: what they show stays consistent.
            shared |= permissions.CONSISTENT_READ
        job.add_node("intermediate node", node, 0, shared)
    chain.freeze(filter_node, base)
    job.frozen = True
    job.add_node("base", base, 0, permissions.ALL)
    writes = permissions.CONSISTENT_READ | permissions.WRITE
    if base.size_bytes < top.size_bytes:
        writes |= permissions.RESIZE
    reads = permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED | permissions.GRAPH_MOD
    await graph.changing()
    job.base_backend = job.add_backend(base, writes, reads, moves=False)
    await graph.changing()
    job.top_backend = job.add_backend(top, 0, permissions.ALL, moves=False)


async def _undo(job: CommitJob) -> None:
    """The filter goes after the job, or it would lack permissions."""
    graph, options, filter_node = job.jobs.graph, job.options, job.filter
    if job.frozen:
        assert filter_node is not None
        chain.unfreeze(filter_node, options.base)
    for backend in list(job.backends):
        await job.remove_backend(backend)
    if job.base_was_read_only:
        with suppress(QmpError):
            await set_read_only(graph, options.base, True)
    await job.fail_early()
    if filter_node is not None:
        await graph.replace(filter_node, options.top)
        await graph.release(filter_node)
