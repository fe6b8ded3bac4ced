"""How mirrors and commits of a layer that is written to are started (block/mirror.c:1627, blockdev.c:3084,
7.2)."""

from __future__ import annotations

from contextlib import suppress

from simulator.block import chain, granting, iothreads, permissions
from simulator.block.bitmap import DirtyBitmap, default_granularity
from simulator.block.drivers.mirror_top import MirrorTop
from simulator.block.errors import QmpError
from simulator.block.reopening import set_read_only
from simulator.jobs.backing import append_filter
from simulator.jobs.block_job import create
from simulator.jobs.mirror import ActiveCommitJob, MirrorJob
from simulator.jobs.mirror_copying import DEFAULT_BUFFER_BYTES, MirrorCopying
from simulator.jobs.mirror_options import LEAVE_BACKING, OPEN_BACKING, SOURCE_BACKING, MirrorOptions, check
from simulator.jobs.new_image import create_image, describe_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.jobs.commit_options import CommitOptions
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn

_SHARED = permissions.WRITE_UNCHANGED | permissions.WRITE


async def blockdev_mirror(jobs: Jobs, arguments: dict[str, Any]) -> None:
    """To a node that exists. Raises QmpError."""
    source = jobs.root_node(arguments["device"])
    target = jobs.graph.lookup(arguments["target"], arguments["target"])
    options = MirrorOptions(source, target, arguments)
    options.zeroes_target = arguments["sync"] == "full"
    await _check_and_start(jobs, options, arguments["sync"])


async def _check_and_start(jobs: Jobs, options: MirrorOptions, sync: str) -> None:
    iothreads.move(options.target, options.source.iothread)
    await jobs.graph.changing_context()
    check(jobs.graph, options, sync)
    await _start(jobs, MirrorJob, options)


async def drive_mirror(jobs: Jobs, arguments: dict[str, Any]) -> None:
    """To a file, which is made here unless mode=existing. Raises QmpError."""
    graph = jobs.graph
    source = jobs.root_node(arguments["device"])
    graph.check_operation(source, "mirror-source")
    creates = arguments.get("mode", "absolute-paths") != "existing"
    image_format: str | None = arguments.get("format")
    if image_format is None and creates:
        image_format = source.driver.format_name
    sync: str = arguments["sync"]
    backing = chain.skip_filters(source).backing
    if backing is None and sync == "top":
        sync = "full"
    if sync == "none":
        backing = source
    if "replaces" in arguments and "node-name" not in arguments:
        raise QmpError("a node-name must be provided when replacing a named node of the graph")
    filename: str = arguments["target"]
    if creates:
        assert image_format is not None
        below = None if sync == "full" else backing
        await create_image(graph, filename, image_format, source.size_bytes, below)
    described = describe_image(graph, filename, image_format, source)
    # The rest of the source's own flags, and no backing file yet: the job does without one.
    described |= {"auto-read-only": source.auto_read_only, "backing": None}
    if source.discard_unmap:
        described["discard"] = "unmap"
    if "node-name" in arguments:
        described["node-name"] = arguments["node-name"]
    target = await graph.open(described)
    target.references += 1
    options = MirrorOptions(source, target, arguments)
    options.backing_mode = SOURCE_BACKING if creates else OPEN_BACKING
    options.zeroes_target = sync == "full" and not creates
    options.target_is_zero = creates
    try:
        await _check_and_start(jobs, options, sync)
    finally:
        target.references -= 1
        await graph.release(target)


async def start_active_commit(jobs: Jobs, commit: CommitOptions) -> None:
    """commit_active_start. Raises QmpError, undoing all."""
    base = commit.base
    options = MirrorOptions(commit.top, base, {})
    options.job_id, options.speed_bytes_per_s = commit.job_id, commit.speed_bytes_per_s
    options.on_source_error = options.on_target_error = commit.on_error
    options.auto_finalize, options.auto_dismiss = commit.auto_finalize, commit.auto_dismiss
    options.filter_node_name = commit.filter_node_name
    options.base = base
    was_read_only = options.base_was_read_only = base.read_only
    if was_read_only:
        await set_read_only(jobs.graph, base, False)
    try:
        await _start(jobs, ActiveCommitJob, options)
    except QmpError:
        if was_read_only:
            with suppress(QmpError):
                await set_read_only(jobs.graph, base, True)
        raise


async def _start(jobs: Jobs, kind: type[MirrorJob], options: MirrorOptions) -> None:
    """mirror_start_job."""
    if options.buffer_bytes < 0:
        raise QmpError("Invalid parameter 'buf-size'")
    source, target = options.source, options.target
    if chain.skip_filters(source) is chain.skip_filters(target):
        raise QmpError("Can't mirror node into itself")
    options.is_commit = chain.chain_contains(source, target)
    filter_node = await _append_mirror_top(jobs, options)
    job: MirrorJob | None = None

    def make(job_id: str, txn: JobTxn) -> MirrorJob:
        return kind(jobs, job_id, txn, options, filter_node)

    try:
        job_id = options.job_id if options.job_id is not None else filter_node.drive_name()
        shared = permissions.CONSISTENT_READ | permissions.GRAPH_MOD | _SHARED
        stands_on = filter_node, permissions.CONSISTENT_READ, shared
        made = await create(jobs, job_id, make, stands_on, options.speed_bytes_per_s)
        assert isinstance(made, MirrorJob)
        job = made
        await _prepare(job)
    except QmpError:
        await _undo(filter_node, job)
        raise
    # The job keeps it from now on.
    filter_node.references -= 1
    job.start()


async def _append_mirror_top(jobs: Jobs, options: MirrorOptions) -> Node:
    graph, source = jobs.graph, options.source
    async with graph.drained(source):
        filter_node = await append_filter(
            graph, MirrorTop, options.filter_node_name, source, read_only=False, is_commit=options.is_commit
        )
    return filter_node


async def _prepare(job: MirrorJob) -> None:
    """All that the job needs besides its filter. Raises QmpError; what was done is undone by `_undo`."""
    options, filter_node = job.options, job.filter
    source, target = options.source, options.target
    needed, shared = permissions.WRITE, permissions.WRITE_UNCHANGED
    if options.is_commit:
        if target.size_bytes < source.size_bytes:
            needed |= permissions.RESIZE
        shared |= permissions.CONSISTENT_READ | permissions.WRITE | permissions.GRAPH_MOD
    elif chain.chain_contains(source, chain.skip_filters(target)):
        raise QmpError("Cannot mirror to a filter on top of a node in the source's backing chain")
    if options.backing_mode != LEAVE_BACKING:
        needed |= permissions.GRAPH_MOD
    await job.jobs.graph.changing()
    job.target = job.add_backend(target, needed, shared)
    # It may be an export of the machine that the guest goes to (block/mirror.c:1769, 7.2).
    job.target.allows_inactivity = not options.is_commit
    granularity = options.granularity_bytes or default_granularity(target)
    if job.jobs.rules.mirror_bitmap_on_filter:
        job.dirty = DirtyBitmap(filter_node, None, granularity)
        job.dirty.enabled = False
    else:
        job.dirty = DirtyBitmap(source, None, granularity)
        job.dirty.enabled = options.copy_mode != "write-blocking"
    job.copying = MirrorCopying(job, job.dirty, granularity, options.buffer_bytes or DEFAULT_BUFFER_BYTES)
    driver = filter_node.driver
    assert isinstance(driver, MirrorTop)
    driver.copier = job.copying
    await job.jobs.graph.changing()
    job.add_node("source", source, 0, _SHARED | permissions.CONSISTENT_READ)
    job.add_node("target", target, 0, permissions.ALL)
    if options.is_commit:
        overlay = chain.find_overlay(source, target)
        assert overlay is not None
        shared = _SHARED
        for node in chain.layers(source.below, target):
            if node is overlay.backing:
                # Filters on the base, from here on: what they show stays consistent.
                shared |= permissions.CONSISTENT_READ
            job.add_node("intermediate node", node, 0, shared)
        chain.freeze(filter_node, target)


async def _undo(filter_node: Node, job: MirrorJob | None) -> None:
    driver = filter_node.driver
    assert isinstance(driver, MirrorTop)
    graph, below = filter_node.graph, filter_node.below
    assert below is not None
    driver.copier = None
    if job is not None:
        for backend in list(job.backends):
            await job.remove_backend(backend)
        if hasattr(job, "dirty"):
            job.dirty.release()
        await job.fail_early()
    driver.stopped = True
    await graph.changing()
    granting.refresh([filter_node])
    await graph.replace(filter_node, below)
    filter_node.references -= 1
    await graph.release(filter_node)
