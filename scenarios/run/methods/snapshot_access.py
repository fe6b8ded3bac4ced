"""Fleece by a copy-before-write filter under the guest, read through a snapshot-access node.

Set up, for each disk: a raw scratch file of the disk's size; a copy-before-write node over what is
on top now; the guest is put onto it (this is T); a snapshot-access node over the filter; its
export. There is no transaction for this: where several disks or a bitmap must agree on T, the
guest's requests wait meanwhile, and a machine whose CPUs run is stopped. A frozen copy of the
bitmap, if any, is put on the snapshot-access node.

Several points in time on one disk are filters on top of each other. A filter cannot be given
another child (its driver cannot be reopened), so between two of them stands a raw node, which can:
this is how one in the middle is taken out while those above go on.

Undone by: export, snapshot-access node (the filter lets nobody else write while that stands on it),
the node above (or the guest) is moved to what is below, filter, its own raw node, scratch. There is
no job to cancel, so End by "cancel" begins as "remove-export-hard" does: whatever a client reads
was read before the filter went.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from scenarios.language.steps import Fleece
from scenarios.run.execution import Execution, Where
from scenarios.run.methods import shared
from scenarios.run.points import Part, Point


class Stack:
    """The filters of one disk from below; `layers` holds the raw node under each that has one."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.filters: list[str] = []
        self.layers: dict[str, str] = {}

    @property
    def top(self) -> str:
        return self.filters[-1] if self.filters else self.base


async def begin(x: Execution, where: Where, fleece: Fleece, point: Point) -> tuple[int, int]:
    """Returns ticks before and after T. Raises QmpRefused; what was made by then is in the point's parts."""
    target = fleece.target or "raw"
    for part in point.parts:
        await shared.create_scratch(x, where, part, target, fleece)
        part.node = f"{part.stem}-access"
        if target == "qcow2":
            scratch = {"driver": "qcow2", "node-name": f"{part.stem}-scratch", "file": part.storage}
            await x.qmp(where, "blockdev-add", {**scratch, "discard": "unmap"})
            part.made.add("scratch")
        await _add_filter(x, where, part, fleece)
    async with AsyncExitStack() as stack:
        before = x.history.tick()
        if len(point.parts) > 1 or fleece.bitmap is not None:
            await stack.enter_async_context(_guest_held(x, where, drained=fleece.bitmap is not None))
            before = x.history.tick()
        for part in point.parts:
            await _activate(x, where, part)
        after = x.history.tick()
        actions = []
        for part in point.parts:
            options = {"driver": "snapshot-access", "node-name": part.node, "file": f"{part.stem}-filter"}
            await x.qmp(where, "blockdev-add", options)
            part.made.add("access")
            if fleece.bitmap is not None:
                actions += await shared.freeze_bitmap(x, where, part, fleece.bitmap, part.node)
        if actions:
            await x.qmp(where, "transaction", {"actions": actions})
    await x.start_server(where)
    for part in point.parts:
        await shared.export(x, where, part, fleece.bitmap)
    return before, after


@asynccontextmanager
async def _guest_held(x: Execution, where: Where, drained: bool) -> AsyncIterator[None]:
    async with x.gate.held(drained):
        running = False
        if x.features.has("machine"):
            running = (await x.qmp(where, "query-status"))["running"]
        if running:
            await x.qmp(where, "stop")
        yield
        if running:
            await x.qmp(where, "cont")


async def _add_filter(x: Execution, where: Where, part: Part, fleece: Fleece) -> None:
    """The filter, not in the guest's way yet: copy-before-write forbids nothing until it has a parent."""
    stack: Stack = x.graph.setdefault(part.disk, Stack(x.base_node(part.disk)))
    name, below = f"{part.stem}-filter", stack.top
    if stack.filters:
        layer = f"{part.stem}-layer"
        await x.qmp(where, "blockdev-add", shared.raw_layer(layer, below))
        part.made.add("layer")
        below = layer
    target = f"{part.stem}-scratch" if "scratch" in part.made else part.storage
    options = {"driver": "copy-before-write", "node-name": name, "file": below, "target": target}
    if fleece.on_cbw_error is not None:
        options["on-cbw-error"] = fleece.on_cbw_error
    await x.qmp(where, "blockdev-add", {**options, "discard": "unmap"})
    part.made.add("filter")


async def _activate(x: Execution, where: Where, part: Part) -> None:
    """Put the guest on the filter."""
    stack: Stack = x.graph[part.disk]
    name = f"{part.stem}-filter"
    if x.has_guest:
        await x.put_on_top(where, part.disk, name)
    stack.filters.append(name)
    if "layer" in part.made:
        stack.layers[name] = f"{part.stem}-layer"
    part.made.add("active")


async def end(x: Execution, where: Where, point: Point, by: str) -> None:
    """Raises QmpRefused, DeadlinePassed."""
    await shared.first_act(x, where, point, by)
    await undo(x, where, point)


async def undo(x: Execution, where: Where, point: Point) -> None:
    """Take away all of the point in time that there is."""
    for part in reversed(point.parts):
        await shared.remove_export(x, where, part, "hard")
    for part in reversed(point.parts):
        if "access" in part.made:
            part.made.discard("access")
            await shared.delete_node(x, where, part.node)
        if "active" in part.made:
            part.made.discard("active")
            await _deactivate(x, where, part)
        await shared.take_away(x, where, part, ("filter", "layer", "scratch", "fault", "file"))
        shared.remove_files(x, part)


async def _deactivate(x: Execution, where: Where, part: Part) -> None:
    """Take the filter out from between what is above and what is below it."""
    stack: Stack = x.graph[part.disk]
    name = f"{part.stem}-filter"
    index = stack.filters.index(name)
    below = stack.filters[index - 1] if index else stack.base
    if index + 1 < len(stack.filters):
        layer = stack.layers[stack.filters[index + 1]]
        await x.qmp(where, "blockdev-reopen", {"options": [shared.raw_layer(layer, below)]})
    elif x.has_guest:
        await x.put_on_top(where, part.disk, below)
    stack.filters.remove(name)
    stack.layers.pop(name, None)
    if not stack.filters:
        del x.graph[part.disk]
