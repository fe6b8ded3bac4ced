"""What may differ between versions, in groups: the values that the model is handed, and what they mean.

A version's module gives every value with its source; nothing below the versions asks which version it is.
"""

from __future__ import annotations

from simulator.versions.block_facts import Block
from simulator.versions.command_line import CommandLine
from simulator.versions.group import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


class Identity(Group):
    """What the greeting and query-version say."""

    __slots__ = ("major", "micro", "minor", "package")

    major: int
    minor: int
    micro: int
    package: str


class Qmp(Group):
    """The monitor's own ways.

    oob: the capability is offered. quit_replies_first: before the machine begins to end.
    doubles_have_six_places: in what is sent, and not as many as they need.
    monitors_are_objects: each has one of the machine's objects.
    tells_of_second_unplug: device_del refuses a device that is on its way out already.
    turns_before_reply: how often tasks that a command has set going get their turn before the reply leaves.
    device_ids: what device_add says of an id: "registered" (it must be well-formed and free before all else),
    "well-formed" (free only once there is a place), "any", or "checked" with the place.
    device_values_are_typed: device_add takes numbers and truths as what they are, not as option text.
    json_pushed: JSON is parsed token by token (simulator/wire/json_push.py), not message by message.
    unplugged_after_ns: how long a device that has left its bus keeps its drive.
    """

    __slots__ = (
        "device_ids",
        "device_values_are_typed",
        "doubles_have_six_places",
        "json_pushed",
        "monitors_are_objects",
        "oob",
        "quit_replies_first",
        "tells_of_second_unplug",
        "turns_before_reply",
        "unplugged_after_ns",
    )

    device_ids: str
    device_values_are_typed: bool
    doubles_have_six_places: bool
    json_pushed: bool
    monitors_are_objects: bool
    oob: bool
    quit_replies_first: bool
    tells_of_second_unplug: bool
    turns_before_reply: int
    unplugged_after_ns: int


class Texts(Group):
    """What is more than other words for the same refusal: those are a module's REWORDED.

    blockstats_in_columns: HMP info blockstats prints a table.
    device_numbers: "int", "uint" and "size" -> what the text of such a property of a device has to be.
    large_sizes_name_id: a size that does not fit is refused with the device's id, not with its type.
    vm_snapshot_missing: how a snapshot {name} is refused that {device} does not have.
    vm_state_nowhere: "save" or "load" -> how that is refused where no disk can hold the machine's state.
    pci_regions_unmapped: HMP info pci says so of a region without an address, and does not print one.
    snapshots_in_wide_columns: HMP info snapshots has them apart by more than blanks of their values.
    hmp_cpus_with_model: HMP info cpus tells what kind each is.
    hmp_drive_prefix: what stands before a refusal of HMP drive_add and drive_del.
    hmp_unknown_action: what HMP watchdog_action says to a word that is none, {} in its place.
    qemu_io_heads_info: HMP qemu-io's info has a line above what the driver knows.
    reports_name_program: what a command of QMP prints on standard error begins with the program's name.
    """

    __slots__ = (
        "blockstats_in_columns",
        "device_numbers",
        "hmp_cpus_with_model",
        "hmp_drive_prefix",
        "hmp_unknown_action",
        "large_sizes_name_id",
        "pci_regions_unmapped",
        "qemu_io_heads_info",
        "reports_name_program",
        "snapshots_in_wide_columns",
        "vm_snapshot_missing",
        "vm_state_nowhere",
    )

    blockstats_in_columns: bool
    device_numbers: dict[str, str]
    hmp_cpus_with_model: bool
    hmp_drive_prefix: str
    large_sizes_name_id: bool
    hmp_unknown_action: str
    qemu_io_heads_info: bool
    reports_name_program: bool
    pci_regions_unmapped: bool
    snapshots_in_wide_columns: bool
    vm_snapshot_missing: str
    vm_state_nowhere: dict[str, str]


class Jobs(Group):
    """verbs: verb -> the statuses in which it is accepted.

    aborted_commit_restores_base: a commit of the active image that comes to nothing leaves its base
    read-only, if it was.
    amend_holds_node: a job that amends an image keeps its node from being closed.
    commit_writes_zeroes, complete_opens_backing, pause_wakes, waits_out_speed: as in
    simulator/jobs/rules.py.
    mirror_bitmap_on_filter: what differs is a bitmap of the mirror's filter, not of its source.
    mirror_knows_zeroes: a mirror looks where its target reads as zero, and writes no zeroes there.
    mirror_tells_sizes: a mirror to a target of another size says what is wrong with it.
    paused_completes: a job may be told to complete while it is paused.
    backup_chooses_late: what a backup copies is chosen when it first runs, and it looks whether it was
    cancelled before it copies.
    refused_image_keeps_drained: a drive-backup whose image is refused leaves its source drained, for ever.
    cancel_ends_waits: requests of a cancelled job do not wait for a server that is lost.
    shows_actively_synced: query-block-jobs tells of a mirror whether the guest's writes reach both sides.
    """

    __slots__ = (
        "aborted_commit_restores_base",
        "amend_holds_node",
        "backup_chooses_late",
        "cancel_ends_waits",
        "commit_writes_zeroes",
        "complete_opens_backing",
        "mirror_bitmap_on_filter",
        "mirror_knows_zeroes",
        "mirror_tells_sizes",
        "pause_wakes",
        "paused_completes",
        "refused_image_keeps_drained",
        "shows_actively_synced",
        "verbs",
        "waits_out_speed",
    )

    aborted_commit_restores_base: bool
    amend_holds_node: bool
    verbs: dict[str, tuple[str, ...]]
    backup_chooses_late: bool
    complete_opens_backing: bool
    mirror_bitmap_on_filter: bool
    mirror_knows_zeroes: bool
    mirror_tells_sizes: bool
    pause_wakes: bool
    paused_completes: bool
    refused_image_keeps_drained: bool
    cancel_ends_waits: bool
    commit_writes_zeroes: bool
    shows_actively_synced: bool
    waits_out_speed: bool


class Exports(Group):
    """answers_bad_magic: a request without the magic number is answered before the connection ends.
    extended_headers: NBD_OPT_EXTENDED_HEADERS is known, to the server and to the driver.
    nbd_texts: what the NBD server says in words of the version; keys as in simulator/wire/nbd/messages.py.

    hole_is_unallocated: base:allocation tells of a hole where nothing is allocated, not where no data is.
    list_needs_structured: contexts are listed only after structured replies were negotiated.
    deleted_within_another: exports that end at once are deleted one within the other.

    tls_over_ip_only: no TLS on unix sockets, for clients and servers.
    tls_keys_encipher: a certificate that says what its key is for must allow the encipherment of keys.
    tells_refused_thread: block-export-add fails where the node cannot go to the thread that is merely
    wished for, and yet the export is there.
    writable_multi_conn: a writable export announces NBD_FLAG_CAN_MULTI_CONN.
    deleted_by_the_reply: an export without clients is gone when block-export-del replies; else soon after.
    handshake_limit_s: how long a client's handshake may take, unless the server is told; 0 is for ever.
    multi_conn_unless_one_connection: no export announces it when the server was started with
    max-connections=1.
    """

    __slots__ = (
        "answers_bad_magic",
        "deleted_by_the_reply",
        "deleted_within_another",
        "extended_headers",
        "handshake_limit_s",
        "hole_is_unallocated",
        "list_needs_structured",
        "multi_conn_unless_one_connection",
        "nbd_texts",
        "tells_refused_thread",
        "tls_keys_encipher",
        "tls_over_ip_only",
        "writable_multi_conn",
    )

    answers_bad_magic: bool
    nbd_texts: dict[str, str]
    deleted_by_the_reply: bool
    extended_headers: bool
    handshake_limit_s: int
    hole_is_unallocated: bool
    list_needs_structured: bool
    deleted_within_another: bool
    tells_refused_thread: bool
    tls_keys_encipher: bool
    tls_over_ip_only: bool
    writable_multi_conn: bool
    multi_conn_unless_one_connection: bool


class Queries(Group):
    """Members that replies have in some versions only; `shows_...`: see simulator/block/rules.py.

    chardev_options_unknown: of those that -chardev has in some version.
    chardev_shows_peer: of a connected unix socket, query-chardev tells where a client went.
    chardev_switches_say_on: in query-chardev a switch is "server=on", not "server".
    root_folders: what the object tree's root holds, in the order in which it was made.
    status_singlestep: query-status has `singlestep`.
    iothread_settings: what query-iothreads tells of a thread, in HMP's order, and the defaults.
    """

    __slots__ = (
        "chardev_options_unknown",
        "chardev_shows_peer",
        "chardev_switches_say_on",
        "iothread_settings",
        "root_folders",
        "shows_active",
        "shows_bitmap_status",
        "shows_children",
        "shows_device_accounts",
        "shows_drive_bitmaps",
        "shows_file_specific",
        "shows_graph_mod",
        "shows_limits",
        "shows_missing_key",
        "shows_zone_append",
        "status_singlestep",
    )

    chardev_options_unknown: tuple[str, ...]
    chardev_shows_peer: bool
    chardev_switches_say_on: bool
    root_folders: tuple[str, ...]
    shows_zone_append: bool
    status_singlestep: bool
    iothread_settings: dict[str, int]


class Migration(Group):
    """capability_rules: (capability, whether it needs another, the other, what is said where it is not so).
    checks_address_first: an address that is none is refused before anything changes.
    fails_in_two_steps: what fails is "failing" first. names_options: refusals call a parameter an option.
    ignored_parameters: those that are taken and stay as they are.
    disabled_arrive_busy: a bitmap that does not record may not be used either while it comes.
    activates_early: images are taken over when a guest has come, and by `cont` before it has; otherwise once
    it is to run. refuses_again: a guest that has gone is not sent off once more. tells_device: the state in
    which it has stopped and goes, and what comes after. tells_errors: query-migrate says why it failed,
    whatever it was. tells_incoming_setup: and that a guest is waited for.
    """

    __slots__ = (
        "activates_early",
        "capability_rules",
        "checks_address_first",
        "disabled_arrive_busy",
        "fails_in_two_steps",
        "ignored_parameters",
        "names_options",
        "refuses_again",
        "tells_device",
        "tells_errors",
        "tells_incoming_setup",
    )

    capability_rules: tuple[tuple[str, bool, str, str], ...]
    activates_early: bool
    disabled_arrive_busy: bool
    refuses_again: bool
    tells_device: bool
    tells_errors: bool
    tells_incoming_setup: bool
    checks_address_first: bool
    fails_in_two_steps: bool
    names_options: bool
    ignored_parameters: tuple[str, ...]


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
    "command_line": CommandLine,
    "exports": Exports,
    "queries": Queries,
    "migration": Migration,
    "dialect": Dialect,
}
