"""Bugs to be switched on in the simulator, to see that properties and judges find what they are there for.

Each replaces one method of a class of the simulator for a while, from outside: no bug's code lives in it.
They work on the backends that run in this process (``sim:``) only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from scenarios.explore import wrong_methods as wrong
from simulator.block.block_copy import BlockCopyState
from simulator.block.drivers.copy_before_write import CopyBeforeWrite
from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.nbd.server import NbdConnection
from simulator.block.node import Node
from simulator.block.request import Request
from simulator.jobs.actions.backup import BlockdevBackup
from simulator.jobs.actions.bitmaps import BitmapAdd, BitmapClear
from simulator.jobs.backup import BackupJob
from simulator.jobs.block_job import BlockJob
from simulator.jobs.job import Job

# Which scenarios to draw to find a bug: any of a method, those where requests meet, a cut over several disks,
# failing transactions.
SEARCHES = ("overlay", "snapshot-access", "meeting-overlay", "meeting-snapshot-access", "cut", "transaction")


class Bug(NamedTuple):
    """`make(original)` is the method with the bug in it. `shows` says what a scenario needs for the bug to do
    any harm; so do, for strategies that draw scenarios, `search` (SEARCHES) and `features`
    (intents.FEATURES)."""

    name: str
    what: str
    shows: str
    owner: type
    method: str
    make: Callable[[Any], Callable[..., Any]]
    search: str = "overlay"
    features: tuple[str, ...] = ()


CATALOGUE = {
    bug.name: bug
    for bug in (
        Bug(
            "cbw-copies-too-late",
            "the filter copies after the guest's write, not before it",
            "a write after T",
            CopyBeforeWrite,
            "write",
            wrong.copies_too_late,
        ),
        Bug(
            "cbw-skips-last-cluster",
            "the filter does not copy the last cluster where the disk ends inside it",
            "a disk of an odd size, a write to its end after T",
            CopyBeforeWrite,
            "_copy_before",
            wrong.skips_last_cluster,
        ),
        Bug(
            "cbw-copies-first-cluster-only",
            "of a write over several clusters the filter copies the first",
            "a long write after T",
            CopyBeforeWrite,
            "_copy_before",
            wrong.copies_first_cluster_only,
        ),
        Bug(
            "cbw-discards-at-once",
            "a discard is not copied before",
            "a discard after T",
            CopyBeforeWrite,
            "discard",
            wrong.discards_at_once,
            search="snapshot-access",
            features=("discard",),
        ),
        Bug(
            "cbw-zeroes-at-once",
            "a write of zeroes is not copied before",
            "zeroes after T",
            CopyBeforeWrite,
            "write_zeroes",
            wrong.zeroes_at_once,
            features=("zero",),
        ),
        Bug(
            "access-ignores-what-is-copied",
            "snapshot-access reads the disk although the range has been copied",
            "snapshot-access, a write after T",
            CopyBeforeWrite,
            "_lock",
            wrong.ignores_what_is_copied,
            search="snapshot-access",
        ),
        Bug(
            "access-does-not-freeze",
            "the guest's writes do not wait for reads of the point in time in the same range",
            "snapshot-access, a read while the guest writes there",
            CopyBeforeWrite,
            "_lock",
            wrong.does_not_freeze,
            search="meeting-snapshot-access",
        ),
        Bug(
            "overlay-copies-without-serialising",
            "a copy into the overlay does not wait for reads that fall through to the disk",
            "overlay, a read while the guest writes there",
            BlockCopyState,
            "__init__",
            wrong.copies_without_serialising,
            search="meeting-overlay",
        ),
        Bug(
            "requests-do-not-wait",
            "no request waits for a serialising one that overlaps it",
            "overlay, a read while the guest writes there",
            Request,
            "wait_for_overlapping",
            wrong.does_not_wait,
            search="meeting-overlay",
        ),
        Bug(
            "zeroes-leave-no-mark",
            "a write of zeroes is not marked in dirty bitmaps",
            "a bitmap, zeroes before T, a map of the bitmap",
            Node,
            "write_zeroes",
            wrong.zeroes_leave_no_mark,
            features=("bitmap", "map", "zero"),
        ),
        Bug(
            "qcow2-writes-short",
            "the last sector of a write over several clusters is not written",
            "a long write by the guest",
            Qcow2,
            "write",
            wrong.writes_short,
        ),
        Bug(
            "abort-leaves-the-job",
            "a transaction that fails leaves the jobs that it had made",
            "a transaction that fails after a backup",
            BlockdevBackup,
            "abort",
            wrong.abort_leaves_the_job,
            search="transaction",
        ),
        Bug(
            "abort-forgets-the-clear",
            "a transaction that fails does not restore a bitmap that it had cleared",
            "a transaction that fails after clearing a bitmap with something in it",
            BitmapClear,
            "abort",
            wrong.abort_forgets,
            search="transaction",
        ),
        Bug(
            "abort-leaves-the-bitmap",
            "a transaction that fails leaves the bitmaps that it had added",
            "a transaction that fails after adding a bitmap",
            BitmapAdd,
            "abort",
            wrong.abort_forgets,
            search="transaction",
        ),
        Bug(
            "disks-have-times-of-their-own",
            "in a transaction over several disks each has its own point in time",
            "overlay, a guest that writes to several disks while the point in time is taken",
            BlockdevBackup,
            "prepare",
            wrong.lets_go_early,
            search="cut",
        ),
        Bug(
            "cancel-leaves-the-filter",
            "the backup job's filter stays when the job is cancelled",
            "overlay, an end",
            BackupJob,
            "clean",
            wrong.leaves_the_filter,
        ),
        Bug(
            "job-ends-twice",
            "a cancelled job says so twice",
            "overlay, an end",
            BlockJob,
            "announce_cancelled",
            wrong.ends_twice,
        ),
        Bug(
            "job-stays-concluded",
            "a backup job is not dismissed by itself",
            "overlay, an end",
            Job,
            "end",
            wrong.stays_concluded,
        ),
        Bug(
            "progress-as-text",
            "query-jobs returns a number as a string",
            "query-jobs while there is a job",
            Job,
            "job_info",
            wrong.progress_as_text,
            features=("query",),
        ),
        Bug(
            "vanished-client-holds-its-export",
            "a client that goes away in the middle of a read is never noticed, so its export cannot end",
            "a read with leave, an end",
            NbdConnection,
            "receive_eof",
            wrong.does_not_see_it_go,
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
