"""What a transaction may hold. One kind of action a file."""

from __future__ import annotations

from simulator.jobs.actions.abort import Abort
from simulator.jobs.actions.action import Action
from simulator.jobs.actions.backup import BlockdevBackup, DriveBackup
from simulator.jobs.actions.bitmaps import (
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapRemove,
)
from simulator.jobs.actions.snapshot import BlockdevSnapshot, BlockdevSnapshotSync, InternalSnapshot

# QAPI TransactionActionKind, those that every supported version has.
ACTIONS: dict[str, type[Action]] = {
    "abort": Abort,
    "block-dirty-bitmap-add": BitmapAdd,
    "block-dirty-bitmap-clear": BitmapClear,
    "block-dirty-bitmap-disable": BitmapDisable,
    "block-dirty-bitmap-enable": BitmapEnable,
    "block-dirty-bitmap-merge": BitmapMerge,
    "block-dirty-bitmap-remove": BitmapRemove,
    "blockdev-backup": BlockdevBackup,
    "blockdev-snapshot": BlockdevSnapshot,
    "blockdev-snapshot-internal-sync": InternalSnapshot,
    "blockdev-snapshot-sync": BlockdevSnapshotSync,
    "drive-backup": DriveBackup,
}
