"""What differs between versions in the block layer."""

from __future__ import annotations

from simulator.versions.group import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


class Block(Group):
    """transaction_commits_in_order: commit (which starts jobs) and clean run first action first,
    otherwise last first.

    backup_filter: the driver of the filter that a backup job puts above its source.
    backup_step_bytes: what a backup copies at a time, where a crawling one stops; 0: a cluster.
    daemon_closes_nodes: a storage daemon that quits ends jobs and exports, and closes nodes, before it goes.
    copy_bitmap_on_filter: what is still to copy is a bitmap of the filter, not of the source.
    set_backing_minds_driver: nothing is put below a node as its backing file that can have none.
    stored_bitmaps_need_write: persistent bitmaps are added and removed only where the image can be written.
    creating_yields: making a qcow2 image gives way before it begins, so that the command replies first.
    ending_jobs_outlive_exports: at the end of the process exports are closed before jobs are cancelled.
    ending_stops_first: at the end of the process the machine is stopped, which drains all nodes, before they
    are drained for good.
    used_threads_go: a thread with a node in it can be deleted; otherwise QEMU aborts.
    filter_always_reads: a copy-before-write filter in use reads its source, even for users who only read.
    transaction_checks_groups_first: before any action begins; only backups have groups.
    changes_drain_all: every edge of the graph that comes or goes drains all nodes, as jobs on any node see.
    contexts_drain_all, changes_made_drained, jobs_have_backend: as in simulator/block/rules.py.
    permissions_at_once, failed_preallocate_keeps_file: as in simulator/block/rules.py.
    adapter_minds_blockers: as in simulator/block/rules.py.
    dropped_filter_lets_go: a filter that is dropped has no child any more, even while somebody holds it.
    devices_open_as_files: driver `file` takes devices of the host, too.
    closing_marks_clean, has_zstd, raw_outside_is_placed, raw_takes_what_it_needs, tells_dirty_images: as in
    simulator/block/rules.py.
    deleting_asks_all_disks: HMP delvm deletes nothing unless all disks can hold snapshots.
    drive_moves: a device's drive can be set to another node while the machine runs.
    moved_edge_is_newest, negative_size_is_out_of_range, probing_drains,
    new_children_are_asked_nothing, stream_has_filter: as in simulator/block/rules.py.
    max_length_bytes: no disk is longer. too_long_is_empty: one that would be is shown as empty, and not
    refused.
    quorum_flushes_all: as in simulator/block/rules.py.
    quorum_tells_zeroes: a node of driver quorum knows of zeroes; otherwise all is data.
    mirror_passes_needs_on: a mirror's filter needs of the source what its users need, not just to write.
    replaced_is_missing: how a mirror is refused that is to replace node {name}, which there is not.
    resize_names_blocker: block_resize of a job's target names the job, and not the device alone.
    cbw_timeout_bits: how many bits of nanoseconds hold a copy-before-write filter's cbw-timeout.
    formats_left_out: drivers that the introspection tells of and the binary does not have.
    empty_merge_crashes, host_tells_alignment, inserted_in_main_loop, lengths_follow,
    refused_stream_keeps_backend,
    list_goes_on_behind, lost_bitmap_ends_abort, snapshot_discards_whole: as in simulator/block/rules.py.
    forgets_bounded_copies: a snapshot-access request that begins in what the filter has copied and goes
    beyond its end is answered from the source, which the guest has overwritten.
    """

    __slots__ = (
        "adapter_minds_blockers",
        "backup_filter",
        "backup_step_bytes",
        "cbw_timeout_bits",
        "changes_drain_all",
        "changes_made_drained",
        "closing_marks_clean",
        "contexts_drain_all",
        "copy_bitmap_on_filter",
        "creating_yields",
        "daemon_closes_nodes",
        "deleting_asks_all_disks",
        "devices_open_as_files",
        "drive_moves",
        "dropped_filter_lets_go",
        "empty_merge_crashes",
        "ending_jobs_outlive_exports",
        "ending_stops_first",
        "failed_preallocate_keeps_file",
        "filter_always_reads",
        "forgets_bounded_copies",
        "formats_left_out",
        "has_zstd",
        "host_tells_alignment",
        "inserted_in_main_loop",
        "jobs_have_backend",
        "lengths_follow",
        "list_goes_on_behind",
        "lost_bitmap_ends_abort",
        "max_length_bytes",
        "mirror_passes_needs_on",
        "moved_edge_is_newest",
        "negative_size_is_out_of_range",
        "new_children_are_asked_nothing",
        "permissions_at_once",
        "probing_drains",
        "quorum_flushes_all",
        "quorum_tells_zeroes",
        "raw_outside_is_placed",
        "raw_takes_what_it_needs",
        "refused_stream_keeps_backend",
        "replaced_is_missing",
        "resize_names_blocker",
        "set_backing_minds_driver",
        "snapshot_discards_whole",
        "stored_bitmaps_need_write",
        "stream_has_filter",
        "tells_dirty_images",
        "too_long_is_empty",
        "transaction_checks_groups_first",
        "transaction_commits_in_order",
        "used_threads_go",
    )

    transaction_commits_in_order: bool
    backup_filter: str
    backup_step_bytes: int
    quorum_flushes_all: bool
    quorum_tells_zeroes: bool
    replaced_is_missing: str
    resize_names_blocker: bool
    max_length_bytes: int
    mirror_passes_needs_on: bool
    too_long_is_empty: bool
    moved_edge_is_newest: bool
    negative_size_is_out_of_range: bool
    new_children_are_asked_nothing: bool
    probing_drains: int
    daemon_closes_nodes: bool
    permissions_at_once: bool
    contexts_drain_all: bool
    failed_preallocate_keeps_file: bool
    adapter_minds_blockers: bool
    changes_made_drained: bool
    jobs_have_backend: bool
    closing_marks_clean: bool
    deleting_asks_all_disks: bool
    has_zstd: bool
    raw_outside_is_placed: bool
    raw_takes_what_it_needs: bool
    tells_dirty_images: bool
    devices_open_as_files: bool
    dropped_filter_lets_go: bool
    drive_moves: bool
    ending_jobs_outlive_exports: bool
    ending_stops_first: bool
    changes_drain_all: bool
    snapshot_discards_whole: bool
    set_backing_minds_driver: bool
    stored_bitmaps_need_write: bool
    stream_has_filter: bool
    copy_bitmap_on_filter: bool
    creating_yields: bool
    filter_always_reads: bool
    transaction_checks_groups_first: bool
    cbw_timeout_bits: int
    forgets_bounded_copies: bool
    refused_stream_keeps_backend: bool
    empty_merge_crashes: bool
    host_tells_alignment: bool
    inserted_in_main_loop: bool
    lengths_follow: str
    list_goes_on_behind: bool
    lost_bitmap_ends_abort: bool
    formats_left_out: tuple[str, ...]
    used_threads_go: bool
