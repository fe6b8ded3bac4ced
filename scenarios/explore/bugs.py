"""Bugs to be switched on in the simulator, to see that properties and judges find what they are there for.

Each replaces one method of a class of the simulator for a while, from outside: no bug's code lives in it. They work on
the backends that run in this process (``sim:``) only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from simulator.block.block_copy import BlockCopyState
from simulator.block.drivers.copy_before_write import CopyBeforeWrite
from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.nbd_server import NbdConnection
from simulator.block.node import Node
from simulator.engine.task import interleave
from simulator.jobs.actions.backup import BlockdevBackup
from simulator.jobs.actions.bitmaps import BitmapAdd, BitmapClear
from simulator.jobs.backup import BackupJob
from simulator.jobs.block_job import BlockJob
from simulator.jobs.job import Job


# Which scenarios to draw to find a bug: any of a method, those where requests meet, a cut over several disks, failing
# transactions.
SEARCHES = ("overlay", "snapshot-access", "meeting-overlay", "meeting-snapshot-access", "cut", "transaction")


class Bug(NamedTuple):
    """`make(original)` is the method with the bug in it. `shows` says what a scenario needs for the bug to do any
    harm; so do, for strategies that draw scenarios, `search` (SEARCHES) and `features` (intents.FEATURES)."""

    name: str
    what: str
    shows: str
    owner: type
    method: str
    make: Callable[[Any], Callable[..., Any]]
    search: str = "overlay"
    features: tuple[str, ...] = ()


# ---------------------------------------------------------------- copy before write


def _copies_too_late(original: Any) -> Any:
    async def write(self: CopyBeforeWrite, offset: int, payload: bytes, flags: int) -> None:
        await self.file.write(offset, payload, flags)
        await self._copy_before(offset, len(payload), flags)

    return write


def _skips_last_cluster(original: Any) -> Any:
    async def copy_before(self: CopyBeforeWrite, offset: int, length: int, flags: int) -> None:
        whole = self.node.size_bytes - self.node.size_bytes % self.copy_state.cluster_bytes
        end = min(offset + length, whole)
        if offset < end:
            await original(self, offset, end - offset, flags)

    return copy_before


def _copies_first_cluster_only(original: Any) -> Any:
    async def copy_before(self: CopyBeforeWrite, offset: int, length: int, flags: int) -> None:
        unit = self.copy_state.cluster_bytes
        await original(self, offset, min(length, unit - offset % unit), flags)

    return copy_before


def _discards_at_once(original: Any) -> Any:
    async def discard(self: CopyBeforeWrite, offset: int, length: int) -> None:
        await self.file.discard(offset, length)

    return discard


def _zeroes_at_once(original: Any) -> Any:
    async def write_zeroes(self: CopyBeforeWrite, offset: int, length: int, flags: int) -> None:
        await self.file.write_zeroes(offset, length, flags)

    return write_zeroes


def _ignores_what_is_copied(original: Any) -> Any:
    def lock(self: CopyBeforeWrite, offset: int, end: int) -> Any:
        return self.file, self._frozen.add(offset, end - offset), end - offset

    return lock


def _does_not_freeze(original: Any) -> Any:
    def lock(self: CopyBeforeWrite, offset: int, end: int) -> Any:
        edge, frozen, length = original(self, offset, end)
        if frozen is not None:
            self._frozen.remove(frozen)
        return edge, None, length

    return lock


def _copies_without_serialising(original: Any) -> Any:
    def init(self: BlockCopyState, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self._write_flags = 0

    return init


# ---------------------------------------------------------------- requests


def _does_not_wait(original: Any) -> Any:
    async def wait(self: Node, request: Any) -> None:
        return None

    return wait


def _zeroes_leave_no_mark(original: Any) -> Any:
    async def write_zeroes(self: Node, offset: int, length: int, flags: int = 0) -> None:
        recording = [bitmap for bitmap in self.bitmaps if bitmap.name is not None and bitmap.enabled]
        for bitmap in recording:
            bitmap.enabled = False
        try:
            await original(self, offset, length, flags)
        finally:
            for bitmap in recording:
                bitmap.enabled = True

    return write_zeroes


def _writes_short(original: Any) -> Any:
    async def write(self: Qcow2, offset: int, payload: bytes, flags: int) -> None:
        short = payload[:-512] if len(payload) > self.cluster_bytes else payload
        await original(self, offset, short, flags)

    return write


# ---------------------------------------------------------------- jobs and transactions


def _abort_leaves_the_job(original: Any) -> Any:
    async def abort(self: BlockdevBackup) -> None:
        return None

    return abort


def _abort_forgets(original: Any) -> Any:
    async def abort(self: Any) -> None:
        return None

    return abort


def _lets_go_early(original: Any) -> Any:
    async def prepare(self: BlockdevBackup) -> None:
        await original(self)
        source, self._source = self._source, None
        if source is not None:
            source.drained_end()
        for _ in range(20):
            await interleave()

    return prepare


def _leaves_the_filter(original: Any) -> Any:
    async def clean(self: BackupJob) -> None:
        await self.remove_all_nodes()

    return clean


def _ends_twice(original: Any) -> Any:
    def announce_cancelled(self: BlockJob) -> None:
        original(self)
        original(self)

    return announce_cancelled


def _stays_concluded(original: Any) -> Any:
    async def end(self: Job) -> None:
        if self.job_type == "backup":
            self.auto_dismiss = False
        await original(self)

    return end


def _progress_as_text(original: Any) -> Any:
    def job_info(self: Job) -> dict[str, Any]:
        return {**original(self), "current-progress": str(self.progress.current)}

    return job_info


# ---------------------------------------------------------------- NBD


def _does_not_see_it_go(original: Any) -> Any:
    def receive_eof(self: NbdConnection) -> None:
        if self.in_flight:
            self.in_flight += 1
        original(self)

    return receive_eof


CATALOGUE = {
    bug.name: bug
    for bug in (
        Bug(
            "cbw-copies-too-late",
            "the filter copies after the guest's write, not before it",
            "a write after T",
            CopyBeforeWrite,
            "write",
            _copies_too_late,
        ),
        Bug(
            "cbw-skips-last-cluster",
            "the filter does not copy the last cluster where the disk ends inside it",
            "a disk of an odd size, a write to its end after T",
            CopyBeforeWrite,
            "_copy_before",
            _skips_last_cluster,
        ),
        Bug(
            "cbw-copies-first-cluster-only",
            "of a write over several clusters the filter copies the first",
            "a long write after T",
            CopyBeforeWrite,
            "_copy_before",
            _copies_first_cluster_only,
        ),
        Bug(
            "cbw-discards-at-once",
            "a discard is not copied before",
            "a discard after T",
            CopyBeforeWrite,
            "discard",
            _discards_at_once,
            search="snapshot-access",
            features=("discard",),
        ),
        Bug(
            "cbw-zeroes-at-once",
            "a write of zeroes is not copied before",
            "zeroes after T",
            CopyBeforeWrite,
            "write_zeroes",
            _zeroes_at_once,
            features=("zero",),
        ),
        Bug(
            "access-ignores-what-is-copied",
            "snapshot-access reads the disk although the range has been copied",
            "snapshot-access, a write after T",
            CopyBeforeWrite,
            "_lock",
            _ignores_what_is_copied,
            search="snapshot-access",
        ),
        Bug(
            "access-does-not-freeze",
            "the guest's writes do not wait for reads of the point in time in the same range",
            "snapshot-access, a read while the guest writes there",
            CopyBeforeWrite,
            "_lock",
            _does_not_freeze,
            search="meeting-snapshot-access",
        ),
        Bug(
            "overlay-copies-without-serialising",
            "a copy into the overlay does not wait for reads that fall through to the disk",
            "overlay, a read while the guest writes there",
            BlockCopyState,
            "__init__",
            _copies_without_serialising,
            search="meeting-overlay",
        ),
        Bug(
            "requests-do-not-wait",
            "no request waits for a serialising one that overlaps it",
            "overlay, a read while the guest writes there",
            Node,
            "_wait_for_overlapping",
            _does_not_wait,
            search="meeting-overlay",
        ),
        Bug(
            "zeroes-leave-no-mark",
            "a write of zeroes is not marked in dirty bitmaps",
            "a bitmap, zeroes before T, a map of the bitmap",
            Node,
            "write_zeroes",
            _zeroes_leave_no_mark,
            features=("bitmap", "map", "zero"),
        ),
        Bug(
            "qcow2-writes-short",
            "the last sector of a write over several clusters is not written",
            "a long write by the guest",
            Qcow2,
            "write",
            _writes_short,
        ),
        Bug(
            "abort-leaves-the-job",
            "a transaction that fails leaves the jobs that it had made",
            "a transaction that fails after a backup",
            BlockdevBackup,
            "abort",
            _abort_leaves_the_job,
            search="transaction",
        ),
        Bug(
            "abort-forgets-the-clear",
            "a transaction that fails does not restore a bitmap that it had cleared",
            "a transaction that fails after clearing a bitmap with something in it",
            BitmapClear,
            "abort",
            _abort_forgets,
            search="transaction",
        ),
        Bug(
            "abort-leaves-the-bitmap",
            "a transaction that fails leaves the bitmaps that it had added",
            "a transaction that fails after adding a bitmap",
            BitmapAdd,
            "abort",
            _abort_forgets,
            search="transaction",
        ),
        Bug(
            "disks-have-times-of-their-own",
            "in a transaction over several disks each has its own point in time",
            "overlay, a guest that writes to several disks while the point in time is taken",
            BlockdevBackup,
            "prepare",
            _lets_go_early,
            search="cut",
        ),
        Bug(
            "cancel-leaves-the-filter",
            "the backup job's filter stays when the job is cancelled",
            "overlay, an end",
            BackupJob,
            "clean",
            _leaves_the_filter,
        ),
        Bug(
            "job-ends-twice",
            "a cancelled job says so twice",
            "overlay, an end",
            BlockJob,
            "announce_cancelled",
            _ends_twice,
        ),
        Bug(
            "job-stays-concluded",
            "a backup job is not dismissed by itself",
            "overlay, an end",
            Job,
            "end",
            _stays_concluded,
        ),
        Bug(
            "progress-as-text",
            "query-jobs returns a number as a string",
            "query-jobs while there is a job",
            Job,
            "job_info",
            _progress_as_text,
            features=("query",),
        ),
        Bug(
            "vanished-client-holds-its-export",
            "a client that goes away in the middle of a read is never noticed, so its export cannot end",
            "a read with leave, an end",
            NbdConnection,
            "receive_eof",
            _does_not_see_it_go,
            features=("leave",),
        ),
    )
}


@contextmanager
def bug(name: str) -> Iterator[Bug]:
    """The bug is in the simulator meanwhile. Raises KeyError naming the known ones."""
    if name not in CATALOGUE:
        raise KeyError(f"no bug {name!r}; known: {', '.join(CATALOGUE)}")
    chosen = CATALOGUE[name]
    original = getattr(chosen.owner, chosen.method)
    inherited = chosen.method not in vars(chosen.owner)
    setattr(chosen.owner, chosen.method, chosen.make(original))
    try:
        yield chosen
    finally:
        if inherited:
            delattr(chosen.owner, chosen.method)
        else:
            setattr(chosen.owner, chosen.method, original)
