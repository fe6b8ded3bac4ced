"""Fleece by `blockdev-backup sync=none` into an overlay of the running disk: the way of libvirt's
pull backups.

Set up, for all disks of the point in time: a qcow2 scratch image whose backing node is the disk's own; one
`transaction` that starts the backup jobs (this is T) and freezes the bitmap, if any, on the scratch
node; the NBD server; one export a disk. Before the guest overwrites anything, the job's filter
copies it to the scratch image.

Several points in time on one disk: the node under a backup job is busy, so each later job needs a
node of its own above. Raw nodes are put there before the first job of an era starts (points.py), as
7.2 ends with an assertion failure (bdrv_parent_drained_end_single_no_poll) when a node above a
running backup job is reopened with another child; should they run out, one more is put on top of
the running ones nevertheless. They go when the last point in time of the disk has ended, which
makes any order of ending alike: a job takes its own filter away.

Undone by: exports (hard), jobs (cancel: such a job has no other end), scratch nodes, files, layers. End by
"cancel" takes the jobs first: from then on the export shows the running disk, so that what a client
reads after that is nobody's point in time. All other ends take the export first, after which
nothing can be read.
"""

from __future__ import annotations

from typing import Any

from scenarios.language.steps import Fleece
from scenarios.run.execution import Execution, NotAsExpectedError, Where
from scenarios.run.methods import shared
from scenarios.run.points import Part, Point


class Stack:
    """The nodes of one disk that jobs can be put on, from the disk's own upwards; `used` of them
    have had one."""

    def __init__(self, base: str) -> None:
        self.slots = [base]
        self.used = 0
        self.filters: dict[str, str] = {}


async def begin(x: Execution, where: Where, fleece: Fleece, point: Point) -> tuple[int, int]:
    """Returns ticks before and after T. Raises QmpRefused; what was made by then is in the point's parts."""
    if fleece.target == "raw":
        raise NotAsExpectedError("a target that can have a backing node (overlay)", "target: raw")
    actions: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    for part in point.parts:
        await shared.create_scratch(x, where, part, "qcow2", fleece)
        source = await _slot(x, where, part)
        options = {
            "driver": "qcow2",
            "node-name": part.node,
            "file": part.storage,
            "backing": source,
            "discard": "unmap",
        }
        await x.qmp(where, "blockdev-add", options)
        part.made.add("scratch")
        if fleece.bitmap is not None:
            actions += await shared.freeze_bitmap(x, where, part, fleece.bitmap, part.node)
        jobs.append(_job(part, source, fleece))
    actions += [{"type": "blockdev-backup", "data": job} for job in jobs]
    before = x.history.tick()
    await x.qmp(where, "transaction", {"actions": actions})
    after = x.history.tick()
    for part, job in zip(point.parts, jobs, strict=True):
        part.made.add("job")
        x.graph[part.disk].filters[job["device"]] = job["filter-node-name"]
    await x.start_server(where)
    for part in point.parts:
        await shared.export(x, where, part, fleece.bitmap)
    return before, after


def _job(part: Part, source: str, fleece: Fleece) -> dict[str, Any]:
    part.job = f"{part.stem}-job"
    job = {
        "job-id": part.job,
        "device": source,
        "target": part.node,
        "sync": "none",
        "filter-node-name": f"{part.stem}-filter",
    }
    if fleece.on_cbw_error is not None:
        job["on-cbw-error"] = fleece.on_cbw_error
    return job


async def _slot(x: Execution, where: Where, part: Part) -> str:
    """The node that the next job of the disk is put on."""
    base = x.base_node(part.disk)
    stack: Stack | None = x.graph.get(part.disk)
    if stack is None:
        stack = x.graph[part.disk] = Stack(base)
        for _ in range(x.eras.next_of(part.disk) - 1):
            await _add_layer(x, where, part.disk, stack, stack.slots[-1], move_guest=False)
        if len(stack.slots) > 1 and x.has_guest:
            await x.put_on_top(where, part.disk, stack.slots[-1])
    elif stack.used == len(stack.slots):
        below = stack.slots[-1]
        await _add_layer(x, where, part.disk, stack, stack.filters.get(below, below), move_guest=x.has_guest)
    part.made.add("slot")
    slot = stack.slots[stack.used]
    stack.used += 1
    return slot


async def _add_layer(
    x: Execution, where: Where, disk: str, stack: Stack, below: str, move_guest: bool
) -> None:
    layer = f"{disk[:20]}-layer{len(stack.slots)}"
    await x.qmp(where, "blockdev-add", shared.raw_layer(layer, below))
    stack.slots.append(layer)
    if move_guest:
        await x.put_on_top(where, disk, layer)


async def end(x: Execution, where: Where, point: Point, by: str) -> None:
    """Raises QmpRefused, DeadlinePassed."""
    if by == "cancel":
        await _cancel_jobs(x, where, point)
    else:
        await shared.first_act(x, where, point, by)
    await undo(x, where, point)


async def undo(x: Execution, where: Where, point: Point) -> None:
    """Take away all of the point in time that there is."""
    for part in reversed(point.parts):
        await shared.remove_export(x, where, part, "hard")
    await _cancel_jobs(x, where, point)
    for part in reversed(point.parts):
        await shared.take_away(x, where, part, ("scratch", "fault", "file"))
        shared.remove_files(x, part)
        if "slot" in part.made:
            part.made.discard("slot")
            await _drop_layers(x, where, part.disk, point)


async def _cancel_jobs(x: Execution, where: Where, point: Point) -> None:
    for part in reversed(point.parts):
        if "job" not in part.made:
            continue
        part.made.discard("job")
        if not x.has_come("JOB_STATUS_CHANGE", part.since, id=part.job, status="null"):
            await x.qmp(where, "job-cancel", {"id": part.job})
            await shared.job_status(x, part.job, "null", part.since)
        stack: Stack = x.graph[part.disk]
        stack.filters = {slot: each for slot, each in stack.filters.items() if each != f"{part.stem}-filter"}


async def _drop_layers(x: Execution, where: Where, disk: str, point: Point) -> None:
    """If no other point in time of this disk is left."""
    others = (each for each in x.points.values() if each is not point)
    if any("slot" in part.made for each in others for part in each.parts if part.disk == disk):
        return
    stack: Stack = x.graph.pop(disk)
    if len(stack.slots) > 1 and x.has_guest:
        await x.put_on_top(where, disk, stack.slots[0])
    for layer in reversed(stack.slots[1:]):
        await shared.delete_node(x, where, layer)
