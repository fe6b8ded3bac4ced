"""HMP: block jobs (block/monitor/block-hmp-cmds.c, 7.2). Each is the QMP command of the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.monitor.commands import backup, jobs
from simulator.monitor.hmp.parser import HmpError, take_flags, words_of
from simulator.monitor.qemu_io import Usage, parse_number

if TYPE_CHECKING:
    from simulator.machine import Machine


async def info_block_jobs(machine: Machine, rest: str) -> str:
    active = await jobs.COMMANDS["query-block-jobs"](machine, {})
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


def _device(words: list[str], command: str) -> str:
    if not words:
        raise HmpError(f'{command}: string expected\nTry "help {command}" for more information')
    return words[0]


async def block_job_cancel(machine: Machine, rest: str) -> str:
    flags, words = take_flags(words_of(rest), "f")
    arguments = {"device": _device(words, "block_job_cancel"), "force": "f" in flags}
    await jobs.COMMANDS["block-job-cancel"](machine, arguments)
    return ""


async def block_job_pause(machine: Machine, rest: str) -> str:
    await jobs.COMMANDS["block-job-pause"](machine, {"device": _device(words_of(rest), "block_job_pause")})
    return ""


async def block_job_resume(machine: Machine, rest: str) -> str:
    await jobs.COMMANDS["block-job-resume"](machine, {"device": _device(words_of(rest), "block_job_resume")})
    return ""


async def block_job_complete(machine: Machine, rest: str) -> str:
    await jobs.COMMANDS["block-job-complete"](machine, {"device": _device(words_of(rest), "block_job_complete")})
    return ""


async def block_job_set_speed(machine: Machine, rest: str) -> str:
    words = words_of(rest)
    device = _device(words, "block_job_set_speed")
    try:
        speed = parse_number(words[1]) if len(words) > 1 else -1
    except Usage:
        speed = -1
    if speed < 0:
        raise HmpError("invalid size")
    await jobs.COMMANDS["block-job-set-speed"](machine, {"device": device, "speed": speed})
    return ""


async def drive_backup(machine: Machine, rest: str) -> str:
    flags, words = take_flags(words_of(rest), "nfc")
    if len(words) < 2:
        raise HmpError('drive_backup: string expected\nTry "help drive_backup" for more information')
    arguments = {
        "device": words[0],
        "target": words[1],
        "sync": "full" if "f" in flags else "top",
        "mode": "existing" if "n" in flags else "absolute-paths",
        "compress": "c" in flags,
    }
    if len(words) > 2:
        arguments["format"] = words[2]
    await backup.COMMANDS["drive-backup"](machine, arguments)
    return ""


COMMANDS = {
    "info block-jobs": info_block_jobs,
    "block_job_cancel": block_job_cancel,
    "block_job_pause": block_job_pause,
    "block_job_resume": block_job_resume,
    "block_job_complete": block_job_complete,
    "block_job_set_speed": block_job_set_speed,
    "drive_backup": drive_backup,
}
