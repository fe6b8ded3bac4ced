"""HMP: block jobs (block/monitor/block-hmp-cmds.c, 7.2). Each is the QMP command of the same name."""

from __future__ import annotations

from simulator.monitor.dispatch import handlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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


async def block_job_pause(machine: Machine, arguments: Arguments) -> str:
    await handlers()["block-job-pause"](machine, arguments)
    return ""


async def block_job_resume(machine: Machine, arguments: Arguments) -> str:
    await handlers()["block-job-resume"](machine, arguments)
    return ""


async def block_job_complete(machine: Machine, arguments: Arguments) -> str:
    await handlers()["block-job-complete"](machine, arguments)
    return ""


async def block_job_set_speed(machine: Machine, arguments: Arguments) -> str:
    await handlers()["block-job-set-speed"](machine, arguments)
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


COMMANDS = {
    "info block-jobs": ("", info_block_jobs),
    "block_job_cancel": ("force:-f,device:B", block_job_cancel),
    "block_job_pause": ("device:B", block_job_pause),
    "block_job_resume": ("device:B", block_job_resume),
    "block_job_complete": ("device:B", block_job_complete),
    "block_job_set_speed": ("device:B,speed:o", block_job_set_speed),
    "drive_mirror": ("reuse:-n,full:-f,device:B,target:s,format:s?", drive_mirror),
    "block_stream": ("device:B,speed:o?,base:s?", block_stream),
    "drive_backup": ("reuse:-n,full:-f,compress:-c,device:B,target:s,format:s?", drive_backup),
}
