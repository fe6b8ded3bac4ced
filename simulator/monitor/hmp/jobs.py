"""HMP: block jobs (block/monitor/block-hmp-cmds.c, 7.2). Each is the QMP command of the same name."""

from __future__ import annotations

from operator import itemgetter

from simulator.block.backend import BlockBackend
from simulator.block.chain import skip_filters, skip_implicit_filters
from simulator.jobs.commit_now import commit_now
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.dispatch import same_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def info_block_jobs(machine: Machine, arguments: Arguments) -> str:
    active = await handlers()["query-block-jobs"](machine, {})
    if not active:
        return "No active jobs\n"
    lines = []
    for job in active:
        head = "Streaming device" if job["type"] == "stream" else f"Type {job['type']}, device"
        lines.append(
            f"{head} {job['device']}: Completed {job['offset']} of {job['len']} bytes, "
            f"speed limit {job['speed']} bytes/s\n"
        )
    return "".join(lines)


async def block_job_cancel(machine: Machine, arguments: Arguments) -> str:
    given = {"device": arguments["device"], "force": arguments.get("force", False)}
    await handlers()["block-job-cancel"](machine, given)
    return ""


async def drive_backup(machine: Machine, arguments: Arguments) -> str:
    given = {
        "device": arguments["device"],
        "target": arguments["target"],
        "sync": "full" if "full" in arguments else "top",
        "mode": "existing" if "reuse" in arguments else "absolute-paths",
        "compress": arguments.get("compress", False),
    }
    if "format" in arguments:
        given["format"] = arguments["format"]
    await handlers()["drive-backup"](machine, given)
    return ""


async def block_stream(machine: Machine, arguments: Arguments) -> str:
    """The job is called as the device."""
    await handlers()["block-stream"](machine, {"job-id": arguments["device"], **arguments})
    return ""


async def drive_mirror(machine: Machine, arguments: Arguments) -> str:
    given = {
        "device": arguments["device"],
        "target": arguments["target"],
        "sync": "full" if "full" in arguments else "top",
        "mode": "existing" if "reuse" in arguments else "absolute-paths",
    }
    if "format" in arguments:
        given["format"] = arguments["format"]
    await handlers()["drive-mirror"](machine, given)
    return ""


async def commit(machine: Machine, arguments: Arguments) -> str:
    device, prefix = arguments["device"], machine.version.texts.hmp_drive_prefix
    if device == "all":
        nodes = [
            node for _, node in sorted(_inserted(machine), key=itemgetter(0)) if node.backing is not None
        ]
    else:
        backend = machine.graph.backends.get(device)
        if backend is None:
            return f"{prefix}Device '{device}' not found\n"
        if backend.node is None:
            return f"{prefix}Device '{device}' has no medium\n"
        nodes = [skip_implicit_filters(backend.node)]
    try:
        for node in nodes:
            await commit_now(machine.graph, node)
    except OSError as error:
        return f"{prefix}'commit' error for '{device}': {error.strerror}\n"
    return ""


def _inserted(machine: Machine) -> list[tuple[int, Node]]:
    """(a block backend's number, what it stands on, without filters)."""
    backends = (
        edge.parent
        for node in machine.graph.nodes.values()
        for edge in node.parents
        if isinstance(edge.parent, BlockBackend)
    )
    return [(each.number, skip_filters(each.node)) for each in backends if each.node is not None]


COMMANDS = {
    "commit": ("device:B", commit),
    "info block-jobs": ("", info_block_jobs),
    "block_job_cancel": ("force:-f,device:B", block_job_cancel),
    "block_job_pause": ("device:B", same_as("block-job-pause")),
    "block_job_resume": ("device:B", same_as("block-job-resume")),
    "block_job_complete": ("device:B", same_as("block-job-complete")),
    "block_job_set_speed": ("device:B,speed:o", same_as("block-job-set-speed")),
    "drive_mirror": ("reuse:-n,full:-f,device:B,target:s,format:s?", drive_mirror),
    "block_stream": ("device:B,speed:o?,base:s?", block_stream),
    "drive_backup": ("reuse:-n,full:-f,compress:-c,device:B,target:s,format:s?", drive_backup),
}
