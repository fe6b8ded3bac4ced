"""QEMU 10.0, as Debian 13 ships it (10.0.13), told apart from 7.2.

Each fact: name, value, source (file:line of 10.0.13, or how it was observed).
"""

from __future__ import annotations

from simulator.versions.v7_2 import IGNORES_SHARED, IN_BACKGROUND, NEEDS_RAM, VERBS, ZERO_COPY

NAME = "10.0"
BASE = "7.2"
RECORDED = "10.0"
SCHEMA_EDITS = ()

CAPABILITY_RULES = (
    IGNORES_SHARED,
    ("postcopy-ram", False, "multifd", "Postcopy is not yet compatible with multifd"),
    *IN_BACKGROUND,
    ZERO_COPY,
    NEEDS_RAM,
    ("switchover-ack", True, "return-path", "Capability 'switchover-ack' requires capability 'return-path'"),
    (
        "dirty-limit",
        False,
        "auto-converge",
        "dirty-limit conflicts with auto-converge either of then available currently",
    ),
    ("multifd", False, "xbzrle", "Multifd is not compatible with xbzrle"),
    ("mapped-ram", False, "xbzrle", "Mapped-ram migration is incompatible with xbzrle"),
    ("mapped-ram", False, "postcopy-ram", "Mapped-ram migration is incompatible with postcopy"),
)

REWORDED = (
    (
        "Protocol driver '{driver}' does not support image creation, and opening the image failed: {reason}",
        "Protocol driver '{driver}' does not support creating new images, so an existing image must be "
        "selected as the target; however, opening the given target as an existing image failed: {reason}",
        "block.c: bdrv_co_create_opts_simple",
    ),
    (
        "Property {owner}.{name} doesn't take value {value} (minimum: {least}, maximum: {most})",
        "parameter {name} must be a power of 2 between {least} and {most}",
        "util/block-helpers.c: check_block_size",
    ),
    (
        "Property {owner}.{name} doesn't take value '{value}', it's not a power of 2",
        "parameter {name} must be a power of 2 between 512 and 2097152",
        "util/block-helpers.c: check_block_size",
    ),
    (
        "Could not dup FD for {path} flags {flags}: No such file or directory",
        "Failed to find fdset {path}",
        "monitor/fds.c:471: monitor_fdset_dup_fd_add tells itself; observed",
    ),
    (
        "warning: The target block device doesn't provide information about the block size and it doesn't "
        "have a backing file. The default block size of {bytes} bytes is used. If the actual block size of "
        "the target exceeds this default, the backup may be unusable",
        "warning: The target block device doesn't provide information about the block size and it doesn't "
        "have a backing file. The (default) block size of {bytes} bytes is used. If the actual block size of "
        "the target exceeds this value, the backup may be unusable",
        "block/block-copy.c:336",
    ),
    (
        "migrate-pause is currently only supported during postcopy-active state",
        "migrate-pause is currently only supported during postcopy-active or postcopy-recover state",
        "observed with no migration",
    ),
    (
        "this feature or command is not currently supported",
        "machine does not provide NMIs",
        "observed with inject-nmi and no board",
    ),
    (
        "Action '{action}' does not support Transaction property completion-mode = {mode}",
        "Action '{action}' does not support transaction property completion-mode = {mode}",
        "blockdev.c:2193",
    ),
)

FACTS = (
    ("migration.activates_early", False, "migration/migration.c: migration_block_activate; observed"),
    ("migration.tells_device", True, "migration/migration.c: migration_switchover_start; observed"),
    ("migration.tells_errors", True, "observed with bitmaps that cannot go"),
    ("migration.tells_incoming_setup", True, "observed"),
    ("migration.capability_rules", CAPABILITY_RULES, "migration/options.c, migrate_caps_check; observed"),
    ("migration.checks_address_first", True, "migration/migration.c, qmp_migrate; observed"),
    ("migration.ignored_parameters", (), "observed"),
    ("identity.major", 10, "greeting of the binary"),
    ("identity.minor", 0, "greeting of the binary"),
    ("identity.micro", 13, "greeting of the binary"),
    ("identity.package", "Debian 1:10.0.13+ds-0+deb13u1", "greeting of the binary"),
    ("jobs.aborted_commit_restores_base", True, "block/mirror.c:799"),
    ("jobs.verbs", {**VERBS, "change": VERBS["pause"]}, "job.c:74"),
    ("jobs.commit_writes_zeroes", True, "block/commit.c:150"),
    ("jobs.waits_out_speed", True, "blockjob.c: block_job_ratelimit_sleep"),
    ("jobs.mirror_bitmap_on_filter", True, "block/mirror.c:1799"),
    ("jobs.shows_actively_synced", True, "block/mirror.c:1302"),
    ("block.transaction_commits_in_order", False, "util/transactions.c:57: the newest is the list's head"),
    ("block.cbw_timeout_bits", 64, "block/copy-before-write.c:46"),
    ("block.forgets_bounded_copies", False, "util/hbitmap.c, hbitmap_status: true of a run that ends inside"),
    ("block.snapshot_discards_whole", True, "block/copy-before-write.c:331"),
    (
        "block.list_goes_on_behind",
        True,
        "block/block-backend.c:596, bdrv_next: it->bs at the second phase",
        "session vmstate/*",
    ),
    ("block.inserted_in_main_loop", True, "block.c:5605: an assertion, observed"),
    (
        "block.lengths_follow",
        "none",
        "block/io.c:207, block/raw-format.c:404: a device's length alone varies",
    ),
    ("block.changes_drain_all", True, "block.c: who calls bdrv_graph_wrlock, observed", "session drains/*"),
    ("block.ending_stops_first", True, "system/runstate.c, qemu_cleanup: vm_shutdown comes first; observed"),
    ("block.copy_bitmap_on_filter", True, "block/block-copy.c:433: copy_bitmap_bs, observed"),
    ("block.dropped_filter_lets_go", False, "block.c:5440: bdrv_replace_node_common, observed"),
    (
        "block.failed_preallocate_keeps_file",
        True,
        "block/preallocate.c, preallocate_child_perm: data_end",
    ),
    ("block.adapter_minds_blockers", False, "hw/scsi/virtio-scsi.c, virtio_scsi_hotplug; observed"),
    ("block.creating_yields", True, "block/qcow2.c, qcow2_co_create: a co_wrapper, observed"),
    ("block.filter_always_reads", True, "block/copy-before-write.c, cbw_child_perm, observed"),
    ("block.transaction_checks_groups_first", True, "blockdev.c:2185"),
    ("block.resize_names_blocker", True, "block.c:7190, observed"),
    (
        "exports.nbd_texts",
        {
            "too-long": "len ({length}) is larger than max len ({limit})",
            "request-magic": "invalid magic (got 0x{magic:x}, expected 0x{expected:x})",
        },
        "nbd/server.c:1548,2574, observed",
    ),
    ("exports.extended_headers", True, "nbd/server.c:1346, nbd/client.c:976"),
    ("exports.deleted_within_another", True, "block/graph-lock.c:170, observed with two exports"),
    ("queries.chardev_options_unknown", (), "chardev/char.c: qemu_chardev_opts"),
    ("queries.chardev_shows_peer", True, "observed"),
    ("queries.root_folders", ("chardevs", "objects", "backend", "machine"), "observed"),
    ("queries.status_singlestep", False, "introspection of the binary"),
    ("queries.shows_active", True, "introspection of the binary"),
    ("queries.shows_file_specific", True, "introspection of the binary"),
    ("queries.shows_zone_append", True, "introspection of the binary"),
    ("block.negative_size_is_out_of_range", True, "util/cutils.c:287: do_strtosz, ERANGE; observed"),
    ("qmp.device_values_are_typed", True, "observed with bootindex and share-rw"),
    ("qmp.device_ids", "any", "observed with the id '1'"),
    ("command_line.chardev_taken", "chardev '{id}' is already in use", "chardev/char-fe.c: qemu_chr_fe_init"),
    (
        "command_line.machine_refusal",
        'unsupported machine type: "{name}"',
        "system/vl.c: select_machine, observed",
    ),
    ("texts.qemu_io_heads_info", True, "qemu-io-cmds.c: info_f, observed"),
    ("block.closing_marks_clean", False, "block/qcow2.c: qcow2_inactivate; observed"),
    ("texts.pci_regions_unmapped", True, "hw/pci/pci-hmp-cmds.c: hmp_info_pci_device"),
    ("texts.snapshots_in_wide_columns", True, "block/qapi.c:741: bdrv_snapshot_dump"),
)
