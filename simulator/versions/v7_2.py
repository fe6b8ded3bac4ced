"""QEMU 7.2, as Debian 12 ships it (7.2.22). The base that other versions are told apart from.

Each fact: name, value, source (file:line of 7.2.22, or how it was observed).
"""

from __future__ import annotations

NAME = "7.2"
BASE = None
RECORDED = "7.2"
SCHEMA_EDITS = ()
REWORDED = ()

_ALIVE = ("created", "running", "paused", "ready", "standby")
VERBS = {
    "cancel": (*_ALIVE, "waiting", "pending"),
    "pause": _ALIVE,
    "resume": _ALIVE,
    "set-speed": _ALIVE,
    "complete": ("ready", "standby"),
    "finalize": ("pending",),
    "dismiss": ("concluded",),
}

_WORDS_OF_THE_WIRE: dict[str, str] = {}

# What goes together and what does not, in the order in which it is checked.
NEEDS_RAM = ("postcopy-preempt", True, "postcopy-ram", "Postcopy preempt requires postcopy-ram")
IGNORES_SHARED = (
    "postcopy-ram", False, "x-ignore-shared", "Postcopy is not compatible with ignore-shared"
)  # fmt: skip
ZERO_COPY = (
    "zero-copy-send", True, "multifd",
    "Zero copy only available for non-compressed non-TLS multifd migration",
)  # fmt: skip
# check_caps_background_snapshot
_NOT_IN_BACKGROUND = (
    "postcopy-ram", "dirty-bitmaps", "postcopy-blocktime", "late-block-activate", "return-path", "multifd",
    "pause-before-switchover", "auto-converge", "release-ram", "rdma-pin-all", "compress", "xbzrle", "x-colo",
    "validate-uuid", "zero-copy-send",
)  # fmt: skip
IN_BACKGROUND = tuple(
    ("background-snapshot", False, other, f"Background-snapshot is not compatible with {other}")
    for other in _NOT_IN_BACKGROUND
)
CAPABILITY_RULES = (
    IGNORES_SHARED,
    *IN_BACKGROUND,
    ZERO_COPY,
    NEEDS_RAM,
    ("postcopy-preempt", False, "compress", "Postcopy preempt not compatible with compress"),
    ("multifd", False, "compress", "Multifd is not compatible with compress"),
)

FACTS = (
    ("identity.major", 7, "greeting of the binary"),
    ("identity.minor", 2, "greeting of the binary"),
    ("identity.micro", 22, "greeting of the binary"),
    ("identity.package", "Debian 1:7.2+dfsg-7+deb12u18+b3", "greeting of the binary"),
    ("qmp.json_pushed", False, "qobject/json-streamer.c:92: tokens are parsed once brackets match"),
    ("qmp.quit_replies_first", False, "observed: the main loop looks for a shutdown before it replies"),
    ("qmp.oob", True, "greeting of the binary"),
    (
        "qmp.turns_before_reply",
        4096,
        "qapi/qmp-dispatch.c:213: the dispatcher goes through the main loop's context before it replies; "
        "observed: a job that never waits for the host has concluded by then, of a gigabyte too",
    ),
    (
        "texts.vm_snapshot_missing",
        "Snapshot '{name}' does not exist in one or more devices",
        "migration/savevm.c: load_snapshot",
    ),
    (
        "texts.vm_state_nowhere",
        dict.fromkeys(("save", "load"), "no block device can store vmstate for snapshot"),
        "block/snapshot.c: bdrv_all_find_vmstate_bs",
    ),
    ("block.closing_marks_clean", True, "block/qcow2.c:2739: qcow2_inactivate asks not whether it may write"),
    ("block.has_zstd", True, "observed"),
    ("block.raw_takes_what_it_needs", True, "block/raw-format.c:583: raw_child_perm"),
    ("block.raw_outside_is_placed", True, "block/qcow2.c:3582"),
    ("block.tells_dirty_images", True, "block/qcow2.c: qcow2_co_get_info; observed"),
    ("block.deleting_asks_all_disks", True, "migration/savevm.c: delete_snapshot"),
    ("texts.hmp_unknown_action", "Error: invalid parameter value: {}", "qapi/qapi-util.c:87"),
    (
        "texts.reports_name_program",
        False,
        "util/error-report.c:147: print_loc, not while a monitor's command runs; observed with a backup",
    ),
    (
        "texts.device_numbers",
        {"int": "integer", "uint": "integer", "size": "size"},
        "qapi/qobject-input-visitor.c:427,461,646",
    ),
    ("texts.large_sizes_name_id", False, "hw/core/qdev-properties.c:528"),
    ("texts.hmp_drive_prefix", "", "block/monitor/block-hmp-cmds.c:105: error_report_err"),
    (
        "command_line.chardev_taken",
        "Device '{id}' is in use",
        "chardev/char-fe.c:218: qemu_chr_fe_init",
    ),
    ("command_line.daemon_options_unknown", (), "storage-daemon/qemu-storage-daemon.c:168"),
    ("command_line.daemon_reads_twice", True, "storage-daemon/qemu-storage-daemon.c:421: process_options"),
    ("command_line.daemon_shows_option", True, "storage-daemon/qemu-storage-daemon.c:187: loc_set_cmdline"),
    ("command_line.flags_warn", True, "util/qemu-option.c:871: get_opt_name_value"),
    ("command_line.json_devices", True, "softmmu/vl.c: QEMU_OPTION_device"),
    ("command_line.machine_refusal", "unsupported machine type", "softmmu/vl.c: select_machine"),
    (
        "command_line.misuse_warns",
        False,
        "chardev/char-socket.c; monitor/monitor.c: monitor_init",
    ),
    ("command_line.pid_file_first", False, "softmmu/vl.c: qemu_process_early_options"),
    ("command_line.pid_file_refusal", "Could not create '{path}'", "util/oslib-posix.c: qemu_write_pidfile"),
    ("command_line.sockets_need_address", False, "chardev/char-socket.c: qemu_chr_parse_socket"),
    ("command_line.shows_machine_option", False, "softmmu/vl.c: qemu_create_machine"),
    ("jobs.verbs", VERBS, "job.c:74"),
    ("jobs.shows_actively_synced", False, "introspection of the binary: BlockJobInfo"),
    ("jobs.paused_completes", True, "job.c:1015"),
    ("jobs.backup_chooses_late", False, "block/copy-before-write.c:455: with the filter"),
    ("jobs.mirror_bitmap_on_filter", False, "block/mirror.c:1790"),
    ("jobs.mirror_knows_zeroes", False, "block/mirror.c:817: mirror_dirty_init"),
    ("jobs.complete_opens_backing", False, "block/mirror.c:739: mirror_exit_common"),
    ("jobs.mirror_tells_sizes", True, "block/mirror.c:935"),
    ("jobs.aborted_commit_restores_base", False, "block/mirror.c:1627: it is not told; observed"),
    ("jobs.amend_holds_node", True, "block/amend.c:134"),
    ("jobs.refused_image_keeps_drained", False, "blockdev.c:1726: state->bs is set before it is drained"),
    ("jobs.cancel_ends_waits", True, "block/backup.c:332, block/mirror.c:1207: bdrv_cancel_in_flight"),
    ("jobs.commit_writes_zeroes", False, "block/commit.c:155"),
    (
        "jobs.waits_out_speed",
        False,
        "block/commit.c:147, block/mirror.c:1131, block/stream.c:145: job_sleep_ns",
    ),
    ("jobs.pause_wakes", True, "job.c:687: job_pause_locked enters a job that is not paused"),
    ("block.transaction_commits_in_order", True, "blockdev.c:2370"),
    ("block.backup_filter", "copy-before-write", "block/copy-before-write.c:520: bdrv_cbw_append"),
    ("block.backup_step_bytes", 1 << 20, "block/block-copy.c:29"),
    ("block.cbw_timeout_bits", 32, "block/copy-before-write.c:44, observed: 5 s are 0.7 s"),
    ("block.host_tells_alignment", False, "block/file-posix.c:345, raw_probe_alignment: by trying"),
    ("block.inserted_in_main_loop", False, "block.c:5171: bdrv_insert_node"),
    ("block.snapshot_discards_whole", False, "block/copy-before-write.c:305, util/hbitmap.c:560; observed"),
    ("block.list_goes_on_behind", False, "block/block-backend.c:560, bdrv_next"),
    ("block.lengths_follow", "variable", "block.c:5602: has_variable_length"),
    ("block.quorum_flushes_all", True, "block/quorum.c:1284: bdrv_co_flush"),
    (
        "block.empty_merge_crashes",
        True,
        "block/monitor/bitmap-qmp-cmds.c:310: hbitmap_free of no copy; observed",
    ),
    (
        "block.forgets_bounded_copies",
        True,
        "util/hbitmap.c:334 says false of a dirty run that ends inside the range, observed",
    ),
    (
        "block.lost_bitmap_ends_abort",
        True,
        "blockdev.c:2094, block_dirty_bitmap_enable_abort: it does not look for one",
    ),
    (
        "block.refused_stream_keeps_backend",
        True,
        "block/stream.c:373, job_early_fail: no .clean, which has the blk_unref (111)",
    ),
    ("block.changes_drain_all", False, "observed with a job on another node", "session drains/*"),
    (
        "block.failed_preallocate_keeps_file",
        False,
        "block/preallocate.c, preallocate_child_perm",
    ),
    ("block.adapter_minds_blockers", True, "hw/scsi/virtio-scsi.c:948, virtio_scsi_hotplug"),
    ("block.contexts_drain_all", False, "block.c:7346: nothing where it is the same"),
    ("block.changes_made_drained", False, "blockjob.c:468"),
    ("block.stream_has_filter", True, "block/stream.c:300"),
    ("block.permissions_at_once", True, "block.c:2220"),
    ("block.drive_moves", True, "hw/core/qdev-properties-system.c:83: since 6.2, observed"),
    ("block.ending_jobs_outlive_exports", True, "softmmu/runstate.c:813"),
    ("block.ending_stops_first", False, "softmmu/runstate.c:824"),
    ("block.copy_bitmap_on_filter", False, "block/block-copy.c:433"),
    ("block.creating_yields", False, "block/qcow2.c:3497: bdrv_open_blockdev_ref, observed"),
    ("block.filter_always_reads", False, "block/copy-before-write.c:343"),
    ("block.replaced_is_missing", "Failed to find node with node-name='{name}'", "block.c:7580"),
    ("block.mirror_passes_needs_on", True, "block/mirror.c:1560"),
    ("block.set_backing_minds_driver", True, "block.c:3348: bdrv_set_file_or_backing_noperm"),
    ("block.stored_bitmaps_need_write", False, "block/dirty-bitmap.c:514, observed"),
    ("block.transaction_checks_groups_first", False, "blockdev.c:1258"),
    ("block.daemon_closes_nodes", True, "storage-daemon/qemu-storage-daemon.c:411"),
    ("block.max_length_bytes", (1 << 63) - (1 << 30), "block.c:1104, block/io.c:986: BDRV_MAX_LENGTH"),
    ("block.moved_edge_is_newest", True, "block.c:1429: every attached child is put at the list's head"),
    ("block.probing_drains", 2, "block/block-backend.c:470,904: blk_unref, blk_remove_bs; observed"),
    ("block.resize_names_blocker", False, "blockdev.c:2447, observed"),
    ("exports.answers_bad_magic", True, "nbd/server.c:2352, observed"),
    ("exports.nbd_texts", _WORDS_OF_THE_WIRE, "simulator/wire/nbd/messages.py has those of 7.2"),
    ("exports.extended_headers", False, "nbd/server.c: since 8.2"),
    ("exports.deleted_by_the_reply", True, "block/export/export.c:351, observed"),
    ("exports.hole_is_unallocated", False, "nbd/server.c:2193"),
    ("exports.list_needs_structured", False, "nbd/server.c:1021"),
    ("exports.handshake_limit_s", 10, "include/block/nbd.h:34"),
    ("exports.deleted_within_another", False, "observed with four exports"),
    ("exports.tls_keys_encipher", False, "crypto/tlscredsx509.c: not looked at, observed with 7.2.22"),
    ("exports.tls_over_ip_only", False, "block/nbd.c and blockdev-nbd.c look at no type of socket, observed"),
    ("exports.tells_refused_thread", False, "block/export/export.c:120"),
    ("exports.writable_multi_conn", True, "nbd/server.c:1732"),
    ("exports.multi_conn_unless_one_connection", True, "nbd/server.c:1732"),
    ("migration.capability_rules", CAPABILITY_RULES, "migration/migration.c:1224"),
    ("migration.checks_address_first", False, "migration/migration.c:2437, observed"),
    ("migration.fails_in_two_steps", False, "migration/migration.c:2004, observed"),
    ("migration.activates_early", True, "migration/migration.c:524, late-block-activate is off"),
    ("migration.disabled_arrive_busy", True, "migration/block-dirty-bitmap.c: dirty_bitmap_load_start"),
    ("migration.refuses_again", True, "migration/migration.c: migrate_prepare, observed"),
    ("migration.tells_device", False, "migration/migration.c:3333, only where it pauses; observed"),
    ("migration.tells_errors", False, "migration/block-dirty-bitmap.c: error_report, observed"),
    ("migration.tells_incoming_setup", False, "migration/migration.c: fill_destination_migration_info"),
    ("migration.names_options", False, "migration/migration.c:1433"),
    (
        "migration.ignored_parameters",
        ("multifd-zlib-level", "multifd-zstd-level"),
        "migration/migration.c:1590, migrate_params_apply leaves them out; observed",
    ),
    ("queries.chardev_options_unknown", ("reconnect-ms",), "chardev/char.c: qemu_chardev_opts"),
    ("queries.chardev_shows_peer", False, "chardev/char-socket.c:561"),
    ("queries.chardev_switches_say_on", True, "chardev/char-socket.c:424"),
    ("queries.root_folders", ("machine", "chardevs", "objects"), "observed"),
    ("queries.status_singlestep", True, "softmmu/runstate.c:239"),
    (
        "queries.iothread_settings",
        {"poll-max-ns": 32768, "poll-grow": 0, "poll-shrink": 0, "aio-max-batch": 0},
        "monitor/hmp-cmds.c:1891, iothread.c:109, observed",
    ),
    ("queries.shows_active", False, "introspection of the binary"),
    ("queries.shows_bitmap_status", False, "introspection of the binary"),
    ("queries.shows_children", False, "introspection of the binary"),
    ("queries.shows_device_accounts", True, "block/accounting.c:34: on by default, observed"),
    ("queries.shows_drive_bitmaps", False, "introspection of the binary"),
    ("queries.shows_file_specific", False, "introspection of the binary"),
    ("queries.shows_graph_mod", False, "introspection of the binary: BlockPermission"),
    ("queries.shows_limits", False, "introspection of the binary"),
    ("queries.shows_missing_key", False, "introspection of the binary"),
    ("queries.shows_zone_append", False, "introspection of the binary"),
    ("dialect.drive_backup_to_drive", False, "qapi/block-core.json, NewImageMode: no 'drive'"),
    ("dialect.drive_add_without_slot", False, "hmp-commands.hx: pci_addr:s,opts:s"),
    ("dialect.block_job_complete_ends_fleece", False, "block/backup.c: the job driver has no .complete"),
    ("block.negative_size_is_out_of_range", False, "util/cutils.c: do_strtosz, EINVAL"),
    ("qmp.device_values_are_typed", False, "softmmu/qdev-monitor.c: qmp_device_add, qemu_opts_from_qdict"),
    ("qmp.device_ids", "well-formed", "softmmu/qdev-monitor.c: qmp_device_add, qemu_opts_from_qdict"),
    ("block.dropped_filter_lets_go", True, "block.c, bdrv_drop_filter: detach_subchain, observed"),
    ("block.devices_open_as_files", False, "block/file-posix.c: raw_open_common, observed"),
    ("qmp.unplugged_after_ns", 50_600_000, "util/rcu.c:252: call_rcu_thread waits 5 times 10 ms; observed"),
    ("qmp.tells_of_second_unplug", True, "softmmu/qdev-monitor.c: qmp_device_del"),
    ("qmp.monitors_are_objects", False, "monitor/monitor.c: monitor_init makes none"),
    (
        "block.new_children_are_asked_nothing",
        False,
        "block.c:2955: permissions are made of edges that are there",
    ),
    ("block.formats_left_out", (), "observed"),
    ("qmp.doubles_have_six_places", False, "qobject/json-writer.c: %.17g"),
    ("block.too_long_is_empty", False, "block.c: refresh_total_sectors"),
    ("texts.blockstats_in_columns", False, "block/monitor/block-hmp-cmds.c: hmp_info_blockstats"),
    ("block.jobs_have_backend", False, "blockjob.c: BlockJob has none"),
    ("texts.qemu_io_heads_info", False, "qemu-io-cmds.c: info_f prints it on standard output"),
    ("block.used_threads_go", False, "util/async.c: aio_ctx_finalize, observed"),
    ("texts.hmp_cpus_with_model", False, "monitor/hmp-cmds.c: hmp_info_cpus"),
    ("texts.pci_regions_unmapped", False, "monitor/hmp-cmds.c: hmp_info_pci_device"),
    ("texts.snapshots_in_wide_columns", False, "block/qapi.c: bdrv_snapshot_dump"),
    ("block.quorum_tells_zeroes", True, "block/quorum.c: quorum_co_block_status"),
)
