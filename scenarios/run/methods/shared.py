"""What both ways to fleece need: scratch images made inside the machine, exports, and taking these
away again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scenarios.backends.interface import QmpRefused
from scenarios.language.steps import Fleece
from scenarios.run import faults
from scenarios.run.execution import EVENT_NS, Execution, NotAsExpectedError, Where
from scenarios.run.points import Part, Point

_LOOK_AGAIN_NS = 5_000_000
_UNUSED_NS = 5_000_000_000


async def create_scratch(x: Execution, where: Where, part: Part, image_format: str, fleece: Fleece) -> None:
    """An image of exactly the disk's size, made as a management program does it: the file by a
    blockdev-create job, the file's node, and for qcow2 another job that formats it. The format node
    is added by the caller, on the part's `storage`."""
    size = x.disk(part.disk).size
    filename, file_node = f"{part.stem}.scratch", f"{part.stem}-file"
    if fleece.room is not None:
        filename = f"{fleece.room_name}/{filename}"
    path = str(x.session.directory / filename)
    part.files.append(filename)
    raw = image_format == "raw"
    await _create(x, where, {"driver": "file", "filename": path, "size": size if raw else 0}, part)
    options: dict[str, Any] = {"driver": "file", "filename": path, "node-name": file_node, "discard": "unmap"}
    await x.qmp(where, "blockdev-add", options)
    part.made.add("file")
    if not raw:
        options = {"driver": image_format, "file": file_node, "size": size}
        if fleece.target_cluster is not None:
            options["cluster-size"] = fleece.target_cluster
        await _create(x, where, options, part)
    if fleece.fault is not None:
        part.storage = f"{part.stem}-fault"
        part.made.add("fault")
        await faults.add(x, where, part.storage, file_node, fleece.fault, below_format=not raw)


async def _create(x: Execution, where: Where, options: dict[str, Any], part: Part) -> None:
    """One blockdev-create job from its start to its dismissal. Raises QmpRefused with the job's own error."""
    job = f"{part.stem}-create"
    since = len(x.session.events)
    await x.qmp(where, "blockdev-create", {"job-id": job, "options": options})
    await job_status(x, job, "concluded", since)
    jobs = await x.qmp(where, "query-jobs")
    await x.qmp(where, "job-dismiss", {"id": job})
    await job_status(x, job, "null", since)
    failed = next((each["error"] for each in jobs if each["id"] == job and "error" in each), None)
    if failed is not None:
        raise QmpRefused("GenericError", failed)


async def job_status(x: Execution, job: str, status: str, since: int) -> None:
    """Wait until the job has been in a status; `since` is the number of events before the job was made."""
    if x.has_come("JOB_STATUS_CHANGE", since, id=job, status=status):
        return
    old = {id(event) for event in x.session.events[:since]}

    def matches(event: dict[str, Any]) -> bool:
        wanted = {"id": job, "status": status}
        return event["event"] == "JOB_STATUS_CHANGE" and event["data"] == wanted and id(event) not in old

    await x.wait_event(matches, f"job {job} to be {status}", EVENT_NS)


async def export(x: Execution, where: Where, part: Part, bitmap: str | None) -> None:
    """Export the part's node, read-only, with all the metadata that this machine can offer."""
    arguments: dict[str, Any] = {
        "type": "nbd",
        "id": part.export,
        "node-name": part.node,
        "name": part.export,
    }
    if x.features.has("argument:block-export-add.allocation-depth"):
        arguments["allocation-depth"] = True
    if bitmap is not None:
        arguments["bitmaps"] = [bitmap]
    await x.qmp(where, "block-export-add", arguments)
    part.made.add("export")


async def freeze_bitmap(x: Execution, where: Where, part: Part, name: str, node: str) -> list[dict[str, Any]]:
    """Transaction actions that leave a disabled copy of the disk's bitmap on `node`."""
    source = x.base_node(part.disk)
    granularity = await _granularity(x, where, source, name)
    add = {"node": node, "name": name, "persistent": False, "disabled": True}
    if granularity is not None:
        add["granularity"] = granularity
    merge = {"node": node, "target": name, "bitmaps": [{"node": source, "name": name}]}
    return [
        {"type": "block-dirty-bitmap-add", "data": add},
        {"type": "block-dirty-bitmap-merge", "data": merge},
    ]


async def _granularity(x: Execution, where: Where, node: str, name: str) -> int | None:
    for each in await x.qmp(where, "query-named-block-nodes", {"flat": True}):
        if each.get("node-name") == node:
            for bitmap in each.get("dirty-bitmaps", ()):
                if bitmap.get("name") == name:
                    return int(bitmap["granularity"])
    return None


async def remove_export(x: Execution, where: Where, part: Part, mode: str) -> None:
    """Remove the export and wait until it is gone. mode: "hard", or "safe", which the machine
    refuses while a client is connected; as it may notice late that one has gone, that refusal is
    tried again for a few seconds."""
    if "export" not in part.made:
        return
    part.made.discard("export")
    gone = x.has_come("BLOCK_EXPORT_DELETED", part.since, id=part.export)
    if gone:
        return
    until_ns = x.session.now_ns() + _UNUSED_NS
    since = len(x.session.events)
    while True:
        try:
            await x.qmp(where, "block-export-del", {"id": part.export, "mode": mode})
            break
        except QmpRefused as error:
            if mode != "safe" or "in use" not in error.desc or x.session.now_ns() > until_ns:
                part.made.add("export")
                raise
            await x.session.sleep(_LOOK_AGAIN_NS)
    if x.has_come("BLOCK_EXPORT_DELETED", since, id=part.export):
        return
    old = {id(event) for event in x.session.events[:since]}

    def matches(event: dict[str, Any]) -> bool:
        is_it = event["event"] == "BLOCK_EXPORT_DELETED" and event["data"]["id"] == part.export
        return is_it and id(event) not in old

    await x.wait_event(matches, f"export {part.export} to be deleted", EVENT_NS)


async def stop_server(x: Execution, where: Where) -> None:
    """nbd-server-stop, which takes all exports away, those of other points in time too. Where the
    guest itself comes that way, its requests wait until it has its own back."""
    if x.guest_needs_server:
        async with x.gate.held(drained=True):
            await x.qmp(where, "nbd-server-stop")
            await x.repair_guest(where)
    else:
        await x.qmp(where, "nbd-server-stop")
    x.server_is_ours = False


async def take_away(x: Execution, where: Where, part: Part, nodes: Sequence[str]) -> None:
    """Those nodes of a part that there are, in this order: "scratch", "fault", "file" ..."""
    for what in nodes:
        if what in part.made:
            part.made.discard(what)
            remove = faults.remove if what == "fault" else delete_node
            await remove(x, where, f"{part.stem}-{what}")


async def delete_node(x: Execution, where: Where, node: str) -> None:
    await x.qmp(where, "blockdev-del", {"node-name": node})


def remove_files(x: Execution, part: Part) -> None:
    """Delete the part's files, but for those that another point in time uses under the same name."""
    used = [
        name for point in x.points.values() for each in point.parts if each is not part for name in each.files
    ]
    while part.files:
        name = part.files.pop()
        if name not in used:
            x.session.remove_file(name)


async def first_act(x: Execution, where: Where, point: Point, by: str) -> None:
    """Take away first what `by` says, except "cancel", which is the methods' own."""
    if by == "stop-server":
        if not x.session.nbd_server_running:
            raise NotAsExpectedError("an NBD server to stop", "none is running")
        await stop_server(x, where)
    elif by in ("remove-export", "remove-export-hard"):
        for part in point.parts:
            await remove_export(x, where, part, "safe" if by == "remove-export" else "hard")


def raw_layer(node: str, below: str) -> dict[str, Any]:
    """Options of a raw node that passes everything on to the node below; all of them each time, as
    blockdev-reopen resets those left out."""
    return {"driver": "raw", "node-name": node, "file": below, "discard": "unmap"}
