"""What versions of QEMU do differently with jobs and transactions: values that a version hands to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.versions.version import Version


class JobRules:
    """`verbs` is the version's JobVerbTable, shaped as in status.py. `commit_newest_first`: a transaction commits and
    cleans its actions in reverse of the order given. `grouped_unsupported`: template of that refusal, with {action} and
    {completion_mode}. `complete_ends_fleecing`: block-job-complete ends a backup with sync=none as a success.
    `target_by_device`: drive-backup takes mode=drive, where `target` is the id of a drive.
    """

    __slots__ = ("commit_newest_first", "complete_ends_fleecing", "grouped_unsupported", "target_by_device", "verbs")

    def __init__(self, version: Version) -> None:
        self.commit_newest_first = not version.block.transaction_commits_in_order
        self.grouped_unsupported = version.texts.grouped_unsupported
        self.complete_ends_fleecing = version.dialect.block_job_complete_ends_fleece
        self.target_by_device = version.dialect.drive_backup_to_drive
        self.verbs = version.jobs.verbs
        if self.complete_ends_fleecing:
            # A job that fleeces is never ready: it takes the verb while it runs.
            self.verbs = {**self.verbs, "complete": ("running", "paused", *self.verbs["complete"])}
