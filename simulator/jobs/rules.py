"""What versions of QEMU do differently with jobs and transactions: values that a version hands to the
model."""

from __future__ import annotations

from simulator.jobs.status import VERBS

_COMPLETION_MODE = "Action '{action}' does not support Transaction property completion-mode = {mode}"


class JobRules:
    """The defaults are 7.2's.

    `verbs` is JobVerbTable, shaped as in status.py. `commit_newest_first`: a transaction commits and cleans
    its actions in reverse of the order given. `completion_mode_text`: template of that refusal, with
    {action} and {mode}. `complete_ends_fleecing`: block-job-complete ends a backup with sync=none as a
    success. `target_by_device`: drive-backup takes mode=drive, where `target` is the id of a drive.
    """

    __slots__ = (
        "commit_newest_first",
        "complete_ends_fleecing",
        "completion_mode_text",
        "target_by_device",
        "verbs",
    )

    def __init__(
        self,
        verbs: dict[str, tuple[str, ...]] = VERBS,
        commit_newest_first: bool = False,
        completion_mode_text: str = _COMPLETION_MODE,
        complete_ends_fleecing: bool = False,
        target_by_device: bool = False,
    ) -> None:
        self.verbs = verbs
        self.commit_newest_first = commit_newest_first
        self.completion_mode_text = completion_mode_text
        self.complete_ends_fleecing = complete_ends_fleecing
        self.target_by_device = target_by_device
        if complete_ends_fleecing:
            # A job that fleeces is never ready: it takes the verb while it runs.
            self.verbs = {**verbs, "complete": ("running", "paused", *verbs["complete"])}
