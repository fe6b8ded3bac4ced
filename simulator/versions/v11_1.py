"""QEMU 11.1, as Debian's sid shipped it (11.1.3), told apart from 10.0.

Each fact: name, value, source (file:line of 11.1.3, or how it was observed).
"""

from __future__ import annotations

from simulator.versions.v10_0 import CAPABILITY_RULES

NAME = "11.1"
BASE = "10.0"
RECORDED = "11.1"
SCHEMA_EDITS = ()

REWORDED = (
    (
        "object 'pc.ram' is in use, can not be deleted",
        "Cannot delete host memory backend 'pc.ram' which is mapped",
        "observed with the board's memory",
    ),
    (
        "object '{group}' is in use, can not be deleted",
        "Cannot delete throttle group '{group}' with active references",
        "observed with a throttle group",
    ),
)

_NEEDS_RETURN_PATH = ("x-colo", True, "return-path", "Capability 'x-colo' requires capability 'return-path'")

FACTS = (
    ("migration.capability_rules", (_NEEDS_RETURN_PATH, *CAPABILITY_RULES), "observed"),
    ("migration.fails_in_two_steps", True, "observed"),
    ("migration.names_options", True, "observed"),
    ("queries.root_folders", ("chardevs", "objects", "backend", "audiodevs", "machine"), "observed"),
    ("queries.chardev_options_unknown", ("reconnect",), "observed"),
    (
        "queries.iothread_settings",
        {"poll-max-ns": 32768, "poll-grow": 2, "poll-shrink": 2, "poll-weight": 3, "aio-max-batch": 0},
        "introspection of the binary: IOThreadInfo; observed",
    ),
    ("identity.major", 11, "greeting of the binary"),
    ("identity.minor", 1, "greeting of the binary"),
    ("identity.micro", 3, "greeting of the binary"),
    ("identity.package", "Debian 1:11.1.3+ds-1", "greeting of the binary"),
    ("qmp.json_pushed", True, "observed with requests and options that are malformed", "session json/*"),
    ("texts.reports_name_program", True, "observed with a backup to a node of unknown block size"),
    (
        "block.host_tells_alignment",
        True,
        "observed with cache.direct of a file without data",
        "session direct/*",
    ),
    ("block.list_goes_on_behind", False, "observed with info snapshots", "session vmstate/*"),
    ("block.used_threads_go", True, "observed with object-del of a node's thread"),
    ("texts.hmp_cpus_with_model", True, "observed"),
    ("texts.hmp_drive_prefix", "Error: ", "observed"),
    ("block.lengths_follow", "filters", "observed with block_resize below filters", "session lengths/*"),
    ("jobs.mirror_knows_zeroes", True, "block/mirror.c, mirror_dirty_init, 10.1; observed", "session jobs/*"),
    ("block.contexts_drain_all", True, "observed with a job on another node", "session drains/*"),
    ("block.changes_made_drained", True, "observed with a job on another node", "session drains/*"),
    ("block.stored_bitmaps_need_write", True, "observed with a read-only qcow2 node"),
    ("queries.shows_children", True, "introspection of the binary"),
    ("queries.shows_limits", True, "introspection of the binary"),
    ("qmp.unplugged_after_ns", 0, "observed with device_del of a SCSI disk"),
    ("qmp.device_ids", "checked", "observed with the id '1'"),
    ("qmp.monitors_are_objects", True, "observed: qom-list of /objects"),
    ("texts.blockstats_in_columns", True, "observed"),
)
