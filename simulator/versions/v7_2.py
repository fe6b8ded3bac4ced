"""QEMU 7.2, as Debian 12 ships it (7.2.22). The base that other versions are told apart from.

Each fact: name, value, source (file:line of 7.2.22, or how it was observed).
"""

from __future__ import annotations

from simulator.qapi.errors import Words

NAME = "7.2"
BASE = None
RECORDED = "7.2"
SCHEMA_EDITS = ()

_RUNNING = ("created", "running", "paused", "ready", "standby")

FACTS = (
    ("identity.major", 7, "greeting of the binary"),
    ("identity.minor", 2, "greeting of the binary"),
    ("identity.micro", 22, "greeting of the binary"),
    ("identity.package", "Debian 1:7.2+dfsg-7+deb12u18+b3", "greeting of the binary"),
    ("qmp.oob", True, "greeting of the binary"),
    ("qmp.events_before_reply", True, "qapi/qmp-dispatch.c:206: the coroutine yields after the command"),
    (
        "qmp.turns_before_reply",
        64,
        "qapi/qmp-dispatch.c:213: the dispatcher goes through the main loop's context before it replies; "
        "observed: a job over a few clusters has concluded by then, one over megabytes has not",
    ),
    ("texts.argument", Words(), "qapi/qapi-visit-core.c:407, include/qapi/qmp/qerror.h:38"),
    (
        "texts.cannot_find_device",
        "Cannot find device='{device}' nor node-name='{node_name}'",
        "block.c:6143",
    ),
    ("texts.blockdev_del_unknown", "Failed to find node with node-name='{node_name}'", "blockdev.c:3631"),
    ("texts.duplicate_node", "Duplicate nodes with node-name='{node_name}'", "block.c:1634"),
    ("texts.invalid_node_name", "Invalid node-name: '{node_name}'", "block.c:1621"),
    (
        "texts.permission_conflict",
        "Permission conflict on node '{node_name}': permissions '{permissions}' are both required by {user} "
        "(uses node '{node_name}' as '{user_child}' child) and unshared by {other} "
        "(uses node '{node_name}' as '{other_child}' child).",
        "block.c:2220",
    ),
    (
        "texts.grouped_unsupported",
        "Action '{action}' does not support Transaction property completion-mode = {completion_mode}",
        "blockdev.c:1261",
    ),
    (
        "texts.bitmaps_unmergeable",
        "Bitmaps are of different sizes (destination size is {destination_size}, "
        "source size is {source_size}) and can't be merged",
        "block/dirty-bitmap.c:913",
    ),
    (
        "texts.bitmap_readonly_remove",
        "Bitmap '{name}' is readonly and cannot be modified",
        "block/dirty-bitmap.c:188, observed",
    ),
    ("texts.filter_refused", "Could not create node: {reason}", "block.c:5366"),
    ("texts.resize_of_job_target", "Device '{device}' is in use", "blockdev.c:2447, observed"),
    ("texts.hmp_drive_prefix", "", "block/monitor/block-hmp-cmds.c:105: error_report_err"),
    (
        "jobs.verbs",
        {
            "cancel": (*_RUNNING, "waiting", "pending"),
            "pause": _RUNNING,
            "resume": _RUNNING,
            "set-speed": _RUNNING,
            "complete": ("ready", "standby"),
            "finalize": ("pending",),
            "dismiss": ("concluded",),
        },
        "job.c:74",
    ),
    ("jobs.failed_group_aborts_together", False, "job.c:935, observed"),
    ("block.transaction_commits_in_order", True, "blockdev.c:2370"),
    ("block.backup_step_bytes", 1 << 20, "block/block-copy.c:29"),
    ("block.cbw_timeout_bits", 32, "block/copy-before-write.c:44, observed: 5 s are 0.7 s"),
    (
        "block.forgets_bounded_copies",
        True,
        "util/hbitmap.c:334 says false of a dirty run that ends inside the range, observed",
    ),
    ("block.backup_on_cbw_error", False, "introspection of the binary"),
    ("exports.server_stop_newest_first", False, "observed with four exports"),
    ("exports.writable_multi_conn", True, "nbd/server.c:1732"),
    ("exports.multi_conn_unless_one_connection", True, "nbd/server.c:1732"),
    ("queries.status_singlestep", True, "softmmu/runstate.c:239"),
    ("queries.node_active", False, "introspection of the binary"),
    ("queries.node_children", False, "introspection of the binary"),
    ("dialect.drive_backup_to_drive", False, "qapi/block-core.json, NewImageMode: no 'drive'"),
    ("dialect.drive_add_without_slot", False, "hmp-commands.hx: pci_addr:s,opts:s"),
    ("dialect.block_job_complete_ends_fleece", False, "block/backup.c: the job driver has no .complete"),
)
