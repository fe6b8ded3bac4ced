"""A job that works on nodes: it stands on them, keeps others off, and answers block-job-* (blockjob.c,
7.2)."""

from __future__ import annotations

from errno import ENOSPC

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.block.rate_limit import RateLimit
from simulator.jobs.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.node import Edge, Node
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn

# BlockdevOnError -> what is done with an error other than "no space", and with that one (BlockErrorAction).
_ACTIONS = {
    "report": ("report", "report"),
    "ignore": ("ignore", "ignore"),
    "stop": ("stop", "stop"),
    "enospc": ("report", "stop"),
    "auto": ("report", "stop"),
}


# How soon a failed request is tried again. It takes no virtual time itself, and one that fails for ever must
# not keep time from passing.
RETRY_NS = 1_000_000


class _JobBackend(BlockBackend):
    queues_while_drained = False


class BlockJob(Job):
    """`edges` newest first. A drained section around any of its nodes pauses it. Speed in bytes a second, 0
    unlimited. `backends` are those it makes its requests through, oldest first."""

    __slots__ = ("_blockers", "backends", "edges", "io_status", "limit", "own_backend", "speed_bytes_per_s")

    stay_at_node = True
    is_block_job = True

    def __init__(
        self, jobs: Jobs, job_id: str, txn: JobTxn, auto_finalize: bool = True, auto_dismiss: bool = True
    ) -> None:
        super().__init__(jobs, job_id, txn, auto_finalize, auto_dismiss)
        self.edges: list[Edge] = []
        self.backends: list[BlockBackend] = []
        self.own_backend: BlockBackend | None = None  # BlockJob.blk, of versions that have one
        self.limit = RateLimit()
        self.io_status = "ok"
        self.speed_bytes_per_s = 0
        self._blockers: list[tuple[Node, tuple[str, frozenset[str]]]] = []

    # -- its nodes
    async def stand_on(self, node: Node, perm: int, shared: int, speed_bytes_per_s: int) -> None:
        """The second half of block_job_create. Raises QmpError, and then the job is gone."""
        try:
            self.add_node("main node", node, perm, shared, frozenset(("dataplane",)))
            self.set_speed(speed_bytes_per_s)
        except QmpError:
            await self.fail_early()
            raise

    def add_backend(self, node: Node, perm: int, shared: int, moves: bool = True) -> BlockBackend:
        """A way for the job's own requests, which do not wait while the node is drained: the job would never
        come to rest. `moves`: it follows its node to another thread. Raises QmpError on a permission
        conflict."""
        backend = _new_backend(node, perm, shared, moves)
        self.backends.append(backend)
        return backend

    async def remove_backend(self, backend: BlockBackend) -> None:
        """Nothing if it was removed already."""
        if backend in self.backends:
            self.backends.remove(backend)
            await backend.remove()

    def add_node(
        self, name: str, node: Node, perm: int, shared: int, allowed: frozenset[str] = frozenset()
    ) -> None:
        """Stand on `node` and block all operations on it but `allowed`. Raises QmpError on a permission
        conflict."""
        edge = self.jobs.graph.attach(self, name, 0, node, perm, shared)
        self.edges.insert(0, edge)
        blocker = (f"block device is in use by block job: {self.job_type}", allowed)
        node.op_blockers.insert(0, blocker)
        self._blockers.append((node, blocker))

    async def remove_all_nodes(self) -> None:
        async with await self.jobs.graph.while_changing():
            for node, blocker in self._blockers:
                node.op_blockers.remove(blocker)
            self._blockers.clear()
            while self.edges:
                await self.jobs.graph.detach(self.edges.pop(0))

    async def free(self) -> None:
        await self.remove_all_nodes()
        if self.own_backend is not None:
            backend, self.own_backend = self.own_backend, None
            await backend.remove()

    # -- as a parent
    def node_edges(self) -> list[Edge]:
        return self.edges

    def user_description(self) -> str:
        return f"{self.job_type} job '{self.id}'"

    def drained_begin(self) -> None:
        self.pause()

    def drained_end(self) -> None:
        self.resume()

    def drained_busy(self) -> bool:
        """child_job_drained_poll: a parked job has a pause point right after it is entered."""
        return self.busy and not self.is_completed()

    # -- speed
    def set_speed(self, speed_bytes_per_s: int) -> None:
        """Raises QmpError."""
        self.check_verb("set-speed")
        if speed_bytes_per_s < 0:
            raise QmpError("Parameter 'speed' expects a non-negative value")
        before = self.speed_bytes_per_s
        self.limit.set_speed(speed_bytes_per_s)
        self.speed_bytes_per_s = speed_bytes_per_s
        self.on_set_speed()
        if not speed_bytes_per_s or speed_bytes_per_s > before:
            self.enter(self.timer_pending)

    def on_set_speed(self) -> None: ...

    def delay_ns(self, length: int) -> int:
        """Account for bytes that were copied; how long the job must wait then."""
        return self.limit.delay_ns(self.jobs.scheduler.now_ns, length)

    async def sleep_for_speed(self, delay_ns: int) -> None:
        """Between two steps, at least once. Where the job waits its time out it looks after each sleep
        whether its speed, which may be another by now, lets it go on (block_job_ratelimit_sleep,
        blockjob.c, 10.0.13)."""
        await self.sleep(delay_ns)
        while delay_ns and self.jobs.rules.waits_out_speed and not self.force_cancelled:
            delay_ns = self.delay_ns(0)
            await self.sleep(delay_ns)

    # -- errors of its requests
    def error_action(self, on_error: str, operation: str, errno: int) -> str:
        """What to do about a failed request, "report", "ignore" or "stop", by the policy `on_error`
        (BlockdevOnError). The event is sent; for "stop" the job is paused as if by the user. `operation` is
        "read" or "write"."""
        action = _ACTIONS[on_error][errno == ENOSPC]
        self.jobs.emit("BLOCK_JOB_ERROR", {"device": self.id, "operation": operation, "action": action})
        if action == "stop":
            if not self.user_paused:
                self.pause()
                self.user_paused = True
            if self.io_status == "ok":
                self.io_status = "nospace" if errno == ENOSPC else "failed"
        return action

    def on_user_resume(self) -> None:
        self.io_status = "ok"

    # -- events and queries
    def _outcome(self) -> dict[str, Any]:
        return {
            "type": self.job_type,
            "device": self.id,
            "len": self.progress.total,
            "offset": self.progress.current,
            "speed": self.speed_bytes_per_s,
        }

    def announce_completed(self) -> None:
        outcome = self._outcome()
        if self.errno:
            outcome["error"] = self.error
        self.jobs.emit("BLOCK_JOB_COMPLETED", outcome)

    def announce_cancelled(self) -> None:
        self.jobs.emit("BLOCK_JOB_CANCELLED", self._outcome())

    def become_ready(self) -> None:
        """job_transition_to_ready."""
        self.set_status("ready")
        self.jobs.emit("BLOCK_JOB_READY", self._outcome())

    def announce_pending(self) -> None:
        self.jobs.emit("BLOCK_JOB_PENDING", {"type": self.job_type, "id": self.id})

    def change(self, arguments: dict[str, Any]) -> None:
        """block-job-change. Raises QmpError."""
        raise QmpError("Job type does not support change")

    def block_job_info(self) -> dict[str, Any]:
        """QAPI BlockJobInfo. `paused` is true in any drained section too (blockjob.c:379)."""
        shown: dict[str, Any] = {
            **self._outcome(),
            "busy": self.busy,
            "paused": self.pause_count > 0,
            "io-status": self.io_status,
            "ready": self.is_ready(),
            "status": self.status,
            "auto-finalize": self.auto_finalize,
            "auto-dismiss": self.auto_dismiss,
        }
        if self.errno:
            shown["error"] = self.error
        return shown


def _new_backend(node: Node, perm: int, shared: int, moves: bool = True) -> BlockBackend:
    """Raises QmpError on a permission conflict."""
    backend = _JobBackend(node.graph, "", perm, shared)
    backend.iothread = node.iothread
    backend.allows_iothread_change = moves
    backend.insert(node)
    return backend


async def create(
    jobs: Jobs,
    job_id: str,
    make: Callable[[str, JobTxn], Job],
    stands_on: tuple[Node, int, int],
    speed_bytes_per_s: int,
    txn: JobTxn | None = None,
) -> BlockJob:
    """block_job_create: `make` the job and let it stand on a node, with the permissions that it needs and
    shares there. Raises QmpError, and leaves no job."""
    node, perm, shared = stands_on
    async with await jobs.graph.while_changing():
        backend: BlockBackend | None = None
        if jobs.graph.rules.jobs_have_backend:
            # It comes before the job, of which nothing is seen if it cannot have what it needs.
            backend = _new_backend(node, perm, shared)
            perm, shared = 0, permissions.ALL
        try:
            job = jobs.add(job_id, make, txn)
        except QmpError:
            if backend is not None:
                await backend.remove()
            raise
        assert isinstance(job, BlockJob)
        job.own_backend = backend
        await job.stand_on(node, perm, shared, speed_bytes_per_s)
        return job
