"""What may differ between versions, in groups: the values that the model is handed, and what they mean.

A version's module gives every value with its source; nothing below the versions asks which version it is.
"""

from __future__ import annotations

from simulator.qapi.errors import Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Group:
    """Values that are set once. Unknown names, missing ones and later changes are errors."""

    __slots__ = ()

    def __init__(self, values: dict[str, Any]) -> None:
        for name in values:
            if name not in self.__slots__:
                raise KeyError(
                    f"{type(self).__name__} has no fact {name!r}; it has {', '.join(self.__slots__)}"
                )
        for name in self.__slots__:
            if name not in values:
                raise KeyError(f"{type(self).__name__} lacks a value for {name!r}")
            object.__setattr__(self, name, values[name])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is frozen")


class Identity(Group):
    """What the greeting and query-version say."""

    __slots__ = ("major", "micro", "minor", "package")

    major: int
    minor: int
    micro: int
    package: str


class Qmp(Group):
    """The monitor's own ways.

    oob: the capability is offered. events_before_reply: events that a command raises leave before its reply.
    turns_before_reply: how often tasks that a command has set going get their turn before the reply leaves.
    """

    __slots__ = ("events_before_reply", "oob", "turns_before_reply")

    oob: bool
    events_before_reply: bool
    turns_before_reply: int


class Texts(Group):
    """Messages whose words changed, as str.format templates (fields named as in QMP, "-" as "_")."""

    __slots__ = (
        "argument",
        "bitmap_readonly_remove",
        "bitmaps_unmergeable",
        "blockdev_del_unknown",
        "cannot_find_device",
        "duplicate_node",
        "filter_refused",
        "grouped_unsupported",
        "hmp_drive_prefix",
        "invalid_node_name",
        "permission_conflict",
        "resize_of_job_target",
    )

    argument: Words
    """Words of the argument checks, for `Schema`."""
    bitmap_readonly_remove: str
    bitmaps_unmergeable: str
    blockdev_del_unknown: str
    cannot_find_device: str
    duplicate_node: str
    filter_refused: str
    grouped_unsupported: str
    hmp_drive_prefix: str
    invalid_node_name: str
    permission_conflict: str
    resize_of_job_target: str


class Jobs(Group):
    """verbs: verb -> the statuses in which it is accepted.

    failed_group_aborts_together: when one job of a group fails, all go to aborting before the first
    concludes; otherwise the failed one concludes first.
    """

    __slots__ = ("failed_group_aborts_together", "verbs")

    verbs: dict[str, tuple[str, ...]]
    failed_group_aborts_together: bool


class Block(Group):
    """transaction_commits_in_order: commit (which starts jobs) and clean run first action first,
    otherwise last first.

    backup_step_bytes: what a backup copies at a time, and so where a crawling one (speed=1) stops.
    backup_on_cbw_error: blockdev-backup takes on-cbw-error.
    cbw_timeout_bits: how many bits of nanoseconds hold a copy-before-write filter's cbw-timeout.
    forgets_bounded_copies: a snapshot-access request that begins in what the filter has copied and goes
    beyond its end is answered from the source, which the guest has overwritten.
    """

    __slots__ = (
        "backup_on_cbw_error",
        "backup_step_bytes",
        "cbw_timeout_bits",
        "forgets_bounded_copies",
        "transaction_commits_in_order",
    )

    transaction_commits_in_order: bool
    backup_step_bytes: int
    backup_on_cbw_error: bool
    cbw_timeout_bits: int
    forgets_bounded_copies: bool


class Exports(Group):
    """server_stop_newest_first: the order in which nbd-server-stop deletes exports.

    writable_multi_conn: a writable export announces NBD_FLAG_CAN_MULTI_CONN.
    multi_conn_unless_one_connection: no export announces it when the server was started with
    max-connections=1.
    """

    __slots__ = ("multi_conn_unless_one_connection", "server_stop_newest_first", "writable_multi_conn")

    server_stop_newest_first: bool
    writable_multi_conn: bool
    multi_conn_unless_one_connection: bool


class Queries(Group):
    """Members that replies have in some versions only."""

    __slots__ = ("node_active", "node_children", "status_singlestep")

    status_singlestep: bool
    node_active: bool
    node_children: bool


class Dialect(Group):
    """Interfaces that were proposed and never merged.

    drive_backup_to_drive: drive-backup takes mode=drive, and `target` is then the id of a drive that exists.
    block_job_complete_ends_fleece: block-job-complete ends a sync=none backup successfully.
    drive_add_without_slot: HMP drive_add may be given its options alone, as the RFC writes it.
    """

    __slots__ = ("block_job_complete_ends_fleece", "drive_add_without_slot", "drive_backup_to_drive")

    drive_backup_to_drive: bool
    block_job_complete_ends_fleece: bool
    drive_add_without_slot: bool


GROUPS: dict[str, type[Group]] = {
    "identity": Identity,
    "qmp": Qmp,
    "texts": Texts,
    "jobs": Jobs,
    "block": Block,
    "exports": Exports,
    "queries": Queries,
    "dialect": Dialect,
}
