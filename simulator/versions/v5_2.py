"""QEMU 5.2, as Debian 11 ships it (5.2.0), told apart from 7.2.

Each fact: name, value, source (file:line of 5.2.0, or how it was observed).
"""

from __future__ import annotations

from simulator.versions.v7_2 import IGNORES_SHARED, VERBS

NAME = "5.2"
BASE = "7.2"
RECORDED = "5.2"
SCHEMA_EDITS = ()

# Of migrate-set-parameters: name, what 7.2 expects, what 5.2 says instead.
_PARAMETERS = (
    ("compress_level", "a value between 0 and 9", "is invalid, it should be in the range of 0 to 9"),
    ("compress_threads", "a value between 1 and 255", "is invalid, it should be in the range of 1 to 255"),
    ("decompress_threads", "a value between 1 and 255", "is invalid, it should be in the range of 1 to 255"),
    ("multifd_channels", "a value between 1 and 255", "is invalid, it should be in the range of 1 to 255"),
    (
        "xbzrle_cache_size",
        "a power of two no less than the target page size",
        "is invalid, it should be bigger than target page size and a power of 2",
    ),
    ("announce_initial", "a value between 0 and 100000", "is invalid, it must be less than 100000 ms"),
    ("announce_max", "a value between 0 and 100000", "is invalid, it must be less than 100000 ms"),
    ("announce_rounds", "a value between 0 and 1000", "is invalid, it must be in the range of 0 to 1000"),
    ("announce_step", "a value between 0 and 10000", "is invalid, it must be in the range of 1 to 10000 ms"),
)

REWORDED = (
    (
        "Property '{name}' is not writable",
        "Insufficient permission to perform this operation",
        "qom/object.c: object_property_set, QERR_PERMISSION_DENIED",
    ),
    (
        "Expected TLS credentials for a {endpoint} endpoint",
        "Expecting TLS credentials with a {endpoint} endpoint",
        "block/nbd.c:2123",
    ),
    (
        "Parameter '{name}' expects a value >= 1",
        "Parameter '{name}' expects value >= 1",
        "observed with vote-threshold",
    ),
    ("Duplicate device ID '{id}'", "Duplicate ID '{id}' for device", "util/qemu-option.c: qemu_opts_create"),
    (
        "Parameter 'driver' expects a non-abstract device type",
        "Parameter 'driver' expects non-abstract device type",
        "observed with pci-device",
    ),
    (
        "PCI: slot {slot} function 0 not available for {driver}, in use by {other},id={id}",
        "PCI: slot {slot} function 0 not available for {driver}, in use by {other}",
        "observed",
    ),
    (
        "Chardev with id '{id}' already exists",
        "attempt to add duplicate property '{id}' to object (type 'container')",
        "chardev/char.c: the object tree finds out",
    ),
    (
        "None or one of 'path', 'fd' or 'host' option required.",
        "Exactly one of 'path', 'fd' or 'host' required",
        "observed with several",
    ),
    ("Failed to add chardev '{id}': {reason}", "{reason}", "observed"),
    (
        "The command is permitted only before {what}",
        "The command is permitted only in 'preconfig' state",
        "observed with set-numa-node and x-exit-preconfig",
    ),
    (
        "Cannot find device='{device}' nor node-name='{node}'",
        "Cannot find device={device} nor node_name={node}",
        "block.c:5413",
    ),
    (
        "Could not open backing file: Cannot find device='{device}' nor node-name='{node}'",
        "Could not open backing file: Cannot find device={device} nor node_name={node}",
        "block.c:5413",
    ),
    (
        "'{driver}' driver requires '{path}' to be either a character or block device",
        "'{driver}' driver expects either a character or block device",
        "block/file-posix.c: raw_open_common",
    ),
    ("New overlay node-name {what}", "New overlay node name {what}", "blockdev.c:1517,1523"),
    ("Duplicate nodes with node-name='{node}'", "Duplicate node name", "block.c:1427"),
    ("Invalid node-name: '{node}'", "Invalid node name", "block.c:1414"),
    ("Can't find '{name}' in the backing chain", "Base '{name}' not found", "blockdev.c:2534"),
    (
        "no block device can store vmstate for snapshot",
        "No available block device supports snapshots",
        "observed without disks",
    ),
    *(
        (f"Parameter '{name}' expects {base}", f"Parameter '{name}' expects {own}", "observed")
        for name, base, own in _PARAMETERS
    ),
    ("'-incoming' was not specified on the command line", "For use with '-incoming defer'", "observed"),
    ("Failed to find node with node-name='{node}'", "Cannot find node {node}", "blockdev.c:3583"),
    (
        "Parameter '{name}' does not accept value '{value}'",
        "Invalid parameter '{value}'",
        "qapi/qapi-visit-core.c:377",
    ),
    (
        "Offset ({offset}) cannot be greater than size of the containing file ({size})",
        "Offset (0) cannot be greater than size of the containing file ({size})",
        "block/raw-format.c:131: it names the offset that was before",
    ),
    (
        "The sum of offset ({offset}) and size ({length}) has to be smaller or equal to the {rest}",
        "The sum of offset (0) and size (0) has to be smaller or equal to the {rest}",
        "block/raw-format.c:139: it names what was before",
    ),
    ("Could not create node: {reason}", "{reason}", "block/backup-top.c:215: no bdrv_insert_node"),
    (
        "Bitmaps are of different sizes (destination size is {a}, source size is {b}) and can't be merged",
        "Bitmaps are incompatible and can't be merged",
        "block/dirty-bitmap.c:930",
    ),
)

FACTS = (
    ("migration.disabled_arrive_busy", False, "migration/block-dirty-bitmap.c: dirty_bitmap_load_start"),
    ("migration.refuses_again", False, "observed: it begins, and aborts"),
    ("migration.capability_rules", (IGNORES_SHARED,), "observed"),
    ("identity.major", 5, "greeting of the binary"),
    ("identity.minor", 2, "greeting of the binary"),
    ("identity.micro", 0, "greeting of the binary"),
    ("identity.package", "Debian 1:5.2+dfsg-11+deb11u3", "greeting of the binary"),
    ("qmp.turns_before_reply", 0, "qapi/qmp-dispatch.c:91: the coroutine is woken at once, and replies"),
    ("qmp.quit_replies_first", True, "qapi/qmp-dispatch.c:91, observed"),
    ("jobs.verbs", {**VERBS, "complete": ("ready",)}, "job.c:67"),
    ("jobs.paused_completes", False, "observed: paused and ready"),
    ("jobs.backup_chooses_late", True, "block/backup.c:193,240"),
    ("jobs.complete_opens_backing", True, "block/mirror.c:1146: mirror_complete"),
    ("jobs.mirror_tells_sizes", False, "observed with a larger and a smaller target"),
    ("jobs.amend_holds_node", False, "block/amend.c:87: no bdrv_ref; observed"),
    (
        "jobs.refused_image_keeps_drained",
        True,
        "blockdev.c:1735,1834,1881: drained before state->bs says so, which the clean-up goes by",
    ),
    ("jobs.cancel_ends_waits", False, "block/io.c has no bdrv_cancel_in_flight"),
    ("jobs.pause_wakes", False, "job.c:553: job_pause only counts"),
    ("block.backup_filter", "backup-top", "block/backup-top.c:185: bdrv_backup_top_append"),
    ("block.backup_step_bytes", 0, "block/backup-top.c, block/backup.c:172: a cluster, observed"),
    ("block.daemon_closes_nodes", False, "storage-daemon/qemu-storage-daemon.c:343: it ends as it is"),
    ("block.max_length_bytes", (1 << 63) - 1, "block.c:942: refresh_total_sectors checks nothing"),
    ("block.moved_edge_is_newest", False, "block.c:2564: no child moves in its parent's list"),
    ("block.set_backing_minds_driver", False, "block.c:2895: bdrv_set_backing_hd attaches it; observed"),
    ("block.probing_drains", 0, "observed"),
    ("block.cbw_timeout_bits", 64, "there is no copy-before-write driver"),
    ("block.quorum_flushes_all", False, "block/quorum.c:1201: bdrv_co_flush_to_disk"),
    (
        "block.empty_merge_crashes",
        False,
        "block/monitor/bitmap-qmp-cmds.c:269: into a bitmap without a name, and from that",
    ),
    ("block.forgets_bounded_copies", False, "there is no snapshot-access driver"),
    ("block.replaced_is_missing", "Node name '{name}' not found", "block.c:6715"),
    ("block.mirror_passes_needs_on", False, "block/mirror.c:1517"),
    ("exports.answers_bad_magic", False, "nbd/server.c:2166: whatever is wrong with it is EIO, observed"),
    ("exports.hole_is_unallocated", True, "nbd/server.c:2018"),
    ("exports.list_needs_structured", True, "nbd/server.c:979"),
    ("exports.writable_multi_conn", False, "nbd/server.c:1588"),
    ("exports.multi_conn_unless_one_connection", False, "nbd/server.c:1588"),
    (
        "queries.chardev_options_unknown",
        ("clipboard", "mouse", "nodelay", "reconnect-ms"),
        "chardev/char.c: qemu_chardev_opts",
    ),
    (
        "command_line.daemon_options_unknown",
        ("daemonize", "pidfile"),
        "storage-daemon/qemu-storage-daemon.c: process_options",
    ),
    ("command_line.daemon_reads_twice", False, "storage-daemon/qemu-storage-daemon.c: process_options"),
    ("command_line.daemon_shows_option", False, "storage-daemon/qemu-storage-daemon.c: process_options"),
    ("command_line.flags_warn", False, "util/qemu-option.c: get_opt_name_value"),
    ("command_line.json_devices", False, "softmmu/vl.c: QEMU_OPTION_device"),
    ("command_line.misuse_warns", True, "chardev/char-socket.c; monitor/monitor.c; observed"),
    ("command_line.pid_file_first", True, "softmmu/vl.c: qemu_init, observed"),
    ("command_line.pid_file_refusal", "Cannot open pid file", "util/oslib-posix.c: qemu_write_pidfile"),
    ("command_line.sockets_need_address", True, "chardev/char-socket.c: qemu_chr_parse_socket, observed"),
    ("command_line.shows_machine_option", True, "softmmu/vl.c: select_machine, loc_push_restore"),
    ("qmp.tells_of_second_unplug", False, "observed"),
    (
        "texts.vm_snapshot_missing",
        "Device '{device}' does not have the requested snapshot '{name}'",
        "migration/savevm.c: load_snapshot",
    ),
    (
        "texts.vm_state_nowhere",
        {"save": "No block device can accept snapshots", "load": "No block device supports snapshots"},
        "observed",
    ),
    ("block.has_zstd", False, "observed"),
    ("block.raw_takes_what_it_needs", False, "block/raw-format.c:586: bdrv_default_perms"),
    ("block.raw_outside_is_placed", False, "block/qcow2.c: qcow2_co_create; observed"),
    ("block.tells_dirty_images", False, "observed"),
    ("block.deleting_asks_all_disks", False, "monitor/hmp-cmds.c: hmp_delvm"),
    ("texts.hmp_unknown_action", "Unknown watchdog action '{}'", "observed"),
    (
        "queries.chardev_switches_say_on",
        False,
        "observed",
    ),
    (
        "queries.iothread_settings",
        {"poll-max-ns": 32768, "poll-grow": 0, "poll-shrink": 0},
        "introspection of the binary: IOThreadInfo; observed",
    ),
    ("queries.shows_bitmap_status", True, "introspection of the binary"),
    ("queries.shows_device_accounts", False, "observed"),
    ("queries.shows_drive_bitmaps", True, "introspection of the binary"),
    ("queries.shows_missing_key", True, "introspection of the binary"),
    ("exports.deleted_by_the_reply", False, "block/export/export.c:225: a bottom half deletes it, observed"),
    ("queries.shows_graph_mod", True, "introspection of the binary: BlockPermission"),
    ("block.permissions_at_once", False, "block.c:1979-2380: bdrv_check_update_perm"),
    ("block.ending_jobs_outlive_exports", False, "softmmu/vl.c:4535, block.c:4475"),
    ("block.drive_moves", False, "hw/core/qdev-properties-system.c:186, observed"),
    ("exports.handshake_limit_s", 0, "nbd/server.c has no such timer, observed for 13 s"),
    ("exports.deleted_within_another", False, "observed with two exports"),
    (
        "exports.tls_keys_encipher",
        True,
        "crypto/tlscredsx509.c: qcrypto_tls_creds_check_cert_key_usage, observed",
    ),
    ("exports.tls_over_ip_only", True, "block/nbd.c:2218, blockdev-nbd.c: nbd_server_start, observed"),
    ("block.negative_size_is_out_of_range", True, "observed with a window that begins at -1"),
    (
        "texts.device_numbers",
        {"int": "int64", "uint": "uint64", "size": "a non-negative number below 2^64"},
        "observed with num-queues, bootindex and logical_block_size",
    ),
    ("texts.large_sizes_name_id", True, "observed with min_io_size"),
    ("qmp.device_ids", "registered", "softmmu/qdev-monitor.c: qmp_device_add: the options stay; observed"),
    ("block.devices_open_as_files", True, "block/file-posix.c:708: no more than a warning"),
    ("block.new_children_are_asked_nothing", True, "block/blklogwrites.c:289: a child that is not there yet"),
    ("block.formats_left_out", ("parallels",), "observed"),
    ("exports.tells_refused_thread", True, "block/export/export.c:121: the error is kept, observed"),
    ("qmp.doubles_have_six_places", True, "qobject/qnum.c: qnum_to_string, %f; observed"),
    ("block.too_long_is_empty", True, "block.c:942, 5210: only bdrv_getlength finds out"),
    ("block.stream_has_filter", False, "block/stream.c:219: no copy-on-read filter"),
    ("block.jobs_have_backend", True, "blockjob.c: block_job_create, job->blk"),
    ("block.quorum_tells_zeroes", False, "block/quorum.c has no such function; observed"),
)
