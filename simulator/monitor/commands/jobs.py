"""job-*, block-job-*, query-jobs, query-block-jobs (job-qmp.c; blockdev.c:3310-3430, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def job_cancel(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    """Always forced. A job that has nothing to wait for is over before the reply."""
    await machine.jobs.get(arguments["id"]).user_cancel(force=True)
    return {}


async def job_pause(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    machine.jobs.get(arguments["id"]).user_pause()
    return {}


async def job_resume(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    machine.jobs.get(arguments["id"]).user_resume()
    return {}


async def job_complete(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    await machine.jobs.get(arguments["id"]).user_complete()
    return {}


async def job_finalize(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    await machine.jobs.get(arguments["id"]).user_finalize()
    return {}


async def job_dismiss(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    await machine.jobs.get(arguments["id"]).user_dismiss()
    return {}


async def query_jobs(machine: Machine, arguments: Arguments) -> list[dict[str, Any]]:
    return [job.job_info() for job in machine.jobs.by_age]


async def block_job_cancel(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    """Not forced unless told; a job that the user has paused must be resumed or forced."""
    job = machine.jobs.get_block_job(arguments["device"])
    force = arguments.get("force", False)
    if job.user_paused and not force:
        raise QmpError(f"The block job for device '{job.id}' is currently paused")
    await job.user_cancel(force)
    return {}


async def block_job_pause(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    machine.jobs.get_block_job(arguments["device"]).user_pause()
    return {}


async def block_job_resume(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    machine.jobs.get_block_job(arguments["device"]).user_resume()
    return {}


async def block_job_complete(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    await machine.jobs.get_block_job(arguments["device"]).user_complete()
    return {}


async def block_job_finalize(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    await machine.jobs.get_block_job(arguments["id"]).user_finalize()
    return {}


async def block_job_dismiss(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    await machine.jobs.get_block_job(arguments["id"]).user_dismiss()
    return {}


async def block_job_set_speed(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    machine.jobs.get_block_job(arguments["device"]).set_speed(arguments["speed"])
    return {}


async def block_job_change(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    """block_job_change_locked, blockjob.c, 10.0.13."""
    job = machine.jobs.get_block_job(arguments["id"])
    job.check_verb("change")
    job.change(arguments)
    return {}


async def query_block_jobs(machine: Machine, arguments: Arguments) -> list[dict[str, Any]]:
    return [job.block_job_info() for job in machine.jobs.block_jobs()]


COMMANDS = {
    "job-cancel": job_cancel,
    "job-complete": job_complete,
    "job-dismiss": job_dismiss,
    "job-finalize": job_finalize,
    "job-pause": job_pause,
    "job-resume": job_resume,
    "query-jobs": query_jobs,
    "block-job-cancel": block_job_cancel,
    "block-job-change": block_job_change,
    "block-job-complete": block_job_complete,
    "block-job-dismiss": block_job_dismiss,
    "block-job-finalize": block_job_finalize,
    "block-job-pause": block_job_pause,
    "block-job-resume": block_job_resume,
    "block-job-set-speed": block_job_set_speed,
    "query-block-jobs": query_block_jobs,
}
