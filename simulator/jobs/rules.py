"""What versions of QEMU do differently with jobs and transactions: values that a version hands to the
model."""

from __future__ import annotations

from simulator.jobs.status import VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class JobRules:
    """The defaults are 7.2's.

    `verbs` is JobVerbTable, shaped as in status.py. `aborted_commit_restores_base`: a commit of the active
    image that comes to nothing leaves its base read-only, if it was. `amend_holds_node`: a job that amends
    an image keeps its node from being closed. `backup_chooses_late`: what a backup copies is chosen when it
    first runs, and it looks whether it was cancelled before it copies. `commit_newest_first`: a transaction
    commits and cleans its actions in reverse of the order given. `complete_ends_fleecing`:
    block-job-complete ends a backup with sync=none as a success. `target_by_device`: drive-backup takes
    mode=drive, where `target` is the id of a drive.
    `group_rollback_hangs`: a transaction with completion-mode=grouped that made two jobs and then fails
    never returns, because the job that is cancelled first waits for the end of the other, which has not
    been started (job.c:971, seen on 7.2.22: nothing of QEMU answers any more). `pause_wakes`: a job that
    sleeps is woken to be paused; otherwise it is only when it wakes by itself. `waits_out_speed`: a job that
    its speed holds up, and that is entered meanwhile, goes on to wait. `commit_writes_zeroes`: what reads as
    zero is written as zeroes by a commit. `reword`: the version's words
    for a text. `checks_groups_first`: whether actions may be a group is looked at before any of them begins.
    `mirror_bitmap_on_filter`: what differs is a bitmap of the mirror's filter, which notes the guest's writes
    there itself, and not one of the source.
    `mirror_knows_zeroes`: a mirror looks where its target reads as zero, and writes no zeroes there.
    `mirror_tells_sizes`: a mirror to a target of another size says what is wrong with it.
    `paused_completes`: a job may be told to complete while it is paused.
    `refused_image_keeps_drained`: a drive-backup whose image cannot be made or opened leaves its source
    drained. `complete_opens_backing`: a mirror to an image that exists opens its backing file as it is told
    to complete, which is refused if that fails, and not as it ends. `shows_actively_synced`:
    query-block-jobs tells of a mirror whether the guest's writes reach both sides. `cancel_ends_waits`:
    what a backup or mirror that is cancelled has under way at its target does not wait for a server that is
    lost.
    """

    __slots__ = (
        "aborted_commit_restores_base",
        "amend_holds_node",
        "backup_chooses_late",
        "cancel_ends_waits",
        "checks_groups_first",
        "commit_newest_first",
        "commit_writes_zeroes",
        "complete_ends_fleecing",
        "complete_opens_backing",
        "group_rollback_hangs",
        "mirror_bitmap_on_filter",
        "mirror_knows_zeroes",
        "mirror_tells_sizes",
        "pause_wakes",
        "paused_completes",
        "refused_image_keeps_drained",
        "reword",
        "shows_actively_synced",
        "target_by_device",
        "verbs",
        "waits_out_speed",
    )

    def __init__(
        self,
        verbs: dict[str, tuple[str, ...]] = VERBS,
        aborted_commit_restores_base: bool = False,
        amend_holds_node: bool = True,
        backup_chooses_late: bool = False,
        commit_newest_first: bool = False,
        complete_ends_fleecing: bool = False,
        complete_opens_backing: bool = False,
        target_by_device: bool = False,
        group_rollback_hangs: bool = True,
        mirror_bitmap_on_filter: bool = False,
        mirror_knows_zeroes: bool = False,
        mirror_tells_sizes: bool = True,
        pause_wakes: bool = True,
        paused_completes: bool = True,
        checks_groups_first: bool = False,
        commit_writes_zeroes: bool = False,
        waits_out_speed: bool = False,
        shows_actively_synced: bool = False,
        refused_image_keeps_drained: bool = False,
        cancel_ends_waits: bool = True,
        reword: Callable[[str], str] = str,
    ) -> None:
        self.verbs = verbs
        self.aborted_commit_restores_base = aborted_commit_restores_base
        self.amend_holds_node = amend_holds_node
        self.backup_chooses_late = backup_chooses_late
        self.commit_newest_first = commit_newest_first
        self.complete_ends_fleecing = complete_ends_fleecing
        self.complete_opens_backing = complete_opens_backing
        self.target_by_device = target_by_device
        self.group_rollback_hangs = group_rollback_hangs
        self.mirror_bitmap_on_filter = mirror_bitmap_on_filter
        self.mirror_knows_zeroes = mirror_knows_zeroes
        self.mirror_tells_sizes = mirror_tells_sizes
        self.pause_wakes = pause_wakes
        self.paused_completes = paused_completes
        self.checks_groups_first = checks_groups_first
        self.commit_writes_zeroes = commit_writes_zeroes
        self.waits_out_speed = waits_out_speed
        self.reword = reword
        self.cancel_ends_waits = cancel_ends_waits
        self.shows_actively_synced = shows_actively_synced
        self.refused_image_keeps_drained = refused_image_keeps_drained
