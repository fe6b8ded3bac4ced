"""A background job: its coroutine, where that may be paused, how it is cancelled, and how it ends.

Source: job.c, 7.2. The order in which coroutines are entered and left is QEMU's, because the order of
events is made of it: `enter` runs the job at once until it gives up control, as aio_co_wake does from a
command.
"""

from __future__ import annotations

import os
from errno import ECANCELED, EIO

from simulator.block.errors import QmpError
from simulator.block.parent import Parent
from simulator.engine.task import Future
from simulator.jobs.progress import Progress
from simulator.jobs.status import COMPLETED, READY, check_transition, check_verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.engine.scheduler import Timer
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


class Job(Parent):
    """Base of all kinds of jobs. A kind overrides `run` and what it needs of the hooks below it.

    `pause_count` counts whoever wants the job to stand still: the user, and every drained section around
    its nodes. `busy` is false only while the coroutine is parked where it may be entered. `errno` is 0
    until the job fails.
    """

    job_type = ""
    is_block_job = False  # whether it stands on nodes and answers block-job-*

    __slots__ = (
        "_parked", "_sleep_timer", "auto_dismiss", "auto_finalize", "busy", "cancelled", "deferred",
        "errno", "error", "force_cancelled", "id", "jobs", "pause_count", "paused", "progress", "started",
        "status", "txn", "user_paused",
    )  # fmt: skip

    def __init__(
        self, jobs: Jobs, job_id: str, txn: JobTxn, auto_finalize: bool = True, auto_dismiss: bool = True
    ) -> None:
        """Made by Jobs.add only, which checks the id."""
        self.jobs = jobs
        self.id = job_id
        self.status = "undefined"
        self.txn: JobTxn | None = txn
        self.auto_finalize = auto_finalize
        self.auto_dismiss = auto_dismiss
        self.progress = Progress()
        self.started = False
        self.busy = False
        self.paused = True
        self.pause_count = 1
        self.user_paused = False
        self.cancelled = False
        self.force_cancelled = False
        self.deferred = False  # the coroutine has ended; what is left is done by the main loop
        self.errno = 0
        self.error: str | None = None
        self._parked: Future | None = None
        self._sleep_timer: Timer | None = None

    # -- what a kind of job does
    async def run(self) -> None:
        """The work. Raises QmpError or OSError on failure; returns early when cancelled."""
        raise NotImplementedError

    async def on_pause(self) -> None:
        """Bring to rest what the job has under way outside its own coroutine."""

    def on_cancel(self, force: bool) -> bool:
        """Whether the cancellation is a forced one."""
        return True

    def on_user_resume(self) -> None: ...

    async def prepare(self) -> None:
        """What may still fail when all is done (OSError, QmpError)."""

    async def commit(self) -> None: ...

    async def abort(self) -> None: ...

    async def clean(self) -> None: ...

    async def free(self) -> None: ...

    @property
    def can_complete(self) -> bool:
        return False

    async def complete(self) -> None:
        """block-job-complete; called only if can_complete. Raises QmpError."""

    # -- events that kinds add to JOB_STATUS_CHANGE
    def announce_pending(self) -> None: ...

    def announce_completed(self) -> None: ...

    def announce_cancelled(self) -> None: ...

    # -- status
    def set_status(self, status: str) -> None:
        before = self.status
        check_transition(self.id, before, status)
        self.status = status
        if status != before:
            self.jobs.emit("JOB_STATUS_CHANGE", {"id": self.id, "status": status})
            self.jobs.changed.wake_all()

    def check_verb(self, verb: str) -> None:
        check_verb(self.jobs.rules.verbs, self.id, self.status, verb)

    def is_completed(self) -> bool:
        return self.status in COMPLETED

    def is_ready(self) -> bool:
        return self.status in READY

    # -- the coroutine
    def start(self) -> None:
        """job_start: from created to running, and on to the first wait."""
        self.started = True
        self.pause_count -= 1
        self.busy = True
        self.paused = False
        self.set_status("running")
        self.jobs.scheduler.enter(self._main(), f"{self.job_type} job '{self.id}'")

    async def _main(self) -> None:
        await self.pause_point()
        try:
            await self.run()
        except QmpError as error:
            self._fail(EIO, error.desc)
        except OSError as error:
            self._fail(error.errno or EIO, None)
        self.deferred = True
        self.busy = True
        self.jobs.schedule_exit(self)

    def _fail(self, errno: int, text: str | None) -> None:
        self.errno = errno
        if text is not None:
            self.error = self.jobs.rules.reword(text)

    async def exit(self) -> None:
        """job_exit: idle from now on, or the drains of its own ending would wait for the job for ever."""
        self.busy = False
        self._went_idle()
        await self._completed()

    def _went_idle(self) -> None:
        self.jobs.graph.progress()
        self.jobs.changed.wake_all()

    def enter(self, condition: Callable[[], bool] | None = None) -> None:
        """Run the coroutine until it gives up control, if it is parked and `condition` holds."""
        if not self.started or self.deferred or self.busy or (condition is not None and not condition()):
            return
        self._cancel_timer()
        self.busy = True
        parked, self._parked = self._parked, None
        assert parked is not None
        parked.enter_waiters()

    def timer_pending(self) -> bool:
        return self._sleep_timer is not None

    def _cancel_timer(self) -> None:
        if self._sleep_timer is not None:
            self._sleep_timer.cancel()
            self._sleep_timer = None

    def _timer_fired(self) -> None:
        self._sleep_timer = None
        self.enter()

    async def _park(self, duration_ns: int | None) -> None:
        """job_do_yield: until entered, by the timer if there is a duration."""
        if duration_ns is not None:
            scheduler = self.jobs.scheduler
            self._sleep_timer = scheduler.call_at(scheduler.now_ns + duration_ns, self._timer_fired)
        self._parked = Future(f"{self.job_type} job '{self.id}' to be entered")
        self.busy = False
        self._went_idle()
        await self._parked
        assert self.busy

    async def pause_point(self) -> None:
        """Stand still here if anybody wants that; a job that is being cancelled does not."""
        if not self.pause_count or self.force_cancelled:
            return
        await self.on_pause()
        if self.pause_count and not self.force_cancelled:
            status = self.status
            self.set_status("standby" if status == "ready" else "paused")
            self.paused = True
            await self._park(None)
            self.paused = False
            self.set_status(status)

    async def yield_until_entered(self) -> None:
        await self._yield(None)

    async def sleep(self, duration_ns: int) -> None:
        """job_sleep_ns: shorter if the job is entered meanwhile."""
        await self._yield(duration_ns)

    async def _yield(self, duration_ns: int | None) -> None:
        if self.force_cancelled:
            return
        if not self.pause_count:
            await self._park(duration_ns)
        await self.pause_point()

    # -- pausing
    def pause(self) -> None:
        self.pause_count += 1
        if not self.paused and self.jobs.rules.pause_wakes:
            self.enter()

    def resume(self) -> None:
        self.pause_count -= 1
        if not self.pause_count:
            self.enter(lambda: not self.timer_pending())

    def user_pause(self) -> None:
        self.check_verb("pause")
        if self.user_paused:
            raise QmpError("Job is already paused")
        self.user_paused = True
        self.pause()

    def user_resume(self) -> None:
        if not self.user_paused or self.pause_count <= 0:
            raise QmpError("Can't resume a job that was not paused")
        self.check_verb("resume")
        self.on_user_resume()
        self.user_paused = False
        self.resume()

    # -- cancelling and completing by command
    async def user_complete(self) -> None:
        self.check_verb("complete")
        is_held = self.pause_count and not self.jobs.rules.paused_completes
        if self.cancelled or is_held or not self.can_complete:
            raise QmpError(f"The active block job '{self.id}' cannot be completed")
        await self.complete()

    async def user_cancel(self, force: bool) -> None:
        self.check_verb("cancel")
        await self.cancel(force)

    async def user_finalize(self) -> None:
        self.check_verb("finalize")
        assert self.txn is not None
        await self.txn.finalize(self)

    async def user_dismiss(self) -> None:
        self.check_verb("dismiss")
        await self._dismiss()

    async def cancel(self, force: bool) -> None:
        """job_cancel: returns when the job has been told, which may be before it has ended."""
        if self.status == "concluded":
            await self._dismiss()
            return
        self.mark_cancelled(force)
        if not self.started:
            await self._completed()
        elif self.deferred:
            if self.force_cancelled:
                assert self.txn is not None
                await self.txn.failed(self)
        else:
            self.enter()

    async def cancel_and_wait(self, force: bool = True) -> None:
        """job_cancel_sync."""
        await self.cancel(force)
        await self.until_completed()

    def mark_cancelled(self, force: bool) -> None:
        """job_cancel_async: the job is not entered; whoever called does that."""
        force = self.on_cancel(force)
        if self.user_paused:
            self.on_user_resume()
            self.user_paused = False
            self.pause_count -= 1
        if force or not self.deferred:
            self.cancelled = True
            self.force_cancelled |= force

    async def until_completed(self) -> None:
        """job_finish_sync: enter the job whenever it is idle until it is through, and go round the main loop
        for it."""
        while not self.is_completed():
            self.enter()
            if not self.is_completed():
                self.jobs.scheduler.next_round()
                await self.jobs.changed.wait()

    # -- the end
    def update_errno(self) -> None:
        if not self.errno and self.force_cancelled:
            self.errno = ECANCELED
        if self.errno:
            if self.error is None:
                self.error = os.strerror(self.errno)
            self.set_status("aborting")

    async def _completed(self) -> None:
        self.update_errno()
        txn = self.txn
        assert txn is not None
        if self.errno:
            await txn.failed(self)
        else:
            await txn.succeeded(self)

    async def prepare_to_end(self) -> bool:
        """job_prepare; whether the job is still good."""
        if not self.errno:
            try:
                await self.prepare()
            except QmpError as error:
                self._fail(EIO, error.desc)
            except OSError as error:
                self._fail(error.errno or EIO, None)
            self.update_errno()
        return not self.errno

    async def end(self) -> None:
        """job_finalize_single: let go of everything, tell the outcome, be concluded, and gone if nobody
        waits."""
        self.update_errno()
        if self.errno:
            await self.abort()
        else:
            await self.commit()
        await self.clean()
        if self.started:
            if self.force_cancelled:
                self.announce_cancelled()
            else:
                self.announce_completed()
        self._leave_txn()
        self.set_status("concluded")
        if self.auto_dismiss or not self.started:
            await self._dismiss()

    def _leave_txn(self) -> None:
        if self.txn is not None:
            self.txn.remove(self)
            self.txn = None

    async def _dismiss(self) -> None:
        """job_do_dismiss: null, and forgotten."""
        self.busy = False
        self.paused = False
        self.deferred = True
        self._leave_txn()
        self.set_status("null")
        self.jobs.forget(self)
        await self.free()

    async def fail_early(self) -> None:
        """job_early_fail: it was made, but what it needs besides could not be had."""
        await self._dismiss()

    # -- what queries show
    def job_info(self) -> dict[str, Any]:
        """QAPI JobInfo."""
        shown: dict[str, Any] = {
            "id": self.id,
            "type": self.job_type,
            "status": self.status,
            "current-progress": self.progress.current,
            "total-progress": self.progress.total,
        }
        if self.error is not None:
            shown["error"] = self.error
        return shown
