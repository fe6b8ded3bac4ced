"""What versions of QEMU do differently with nodes: values that a version hands to the block layer."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.versions.version import Version


MAX_LENGTH_BYTES = (1 << 63) - (1 << 30)  # BDRV_MAX_LENGTH


class Members:
    """Members that replies about nodes and drives have in some versions only. The defaults are 7.2's.

    `active`, `children`, `limits`, `file_specific`: of a node. `graph_mod`: the permission GRAPH_MOD.
    `missing_key`: a node's encryption_key_missing. `bitmap_status`: of a bitmap, and `drive_bitmaps`: a drive
    has its node's bitmaps, too. `zone_append`: a node's counters of such requests. `device_accounts`: a
    device counts refused and failed requests, as a drive does.
    """

    __slots__ = (
        "active",
        "bitmap_status",
        "children",
        "device_accounts",
        "drive_bitmaps",
        "file_specific",
        "graph_mod",
        "limits",
        "missing_key",
        "zone_append",
    )

    def __init__(self, **shown: bool) -> None:
        for name in self.__slots__:
            setattr(self, name, shown.pop(name, name == "device_accounts"))
        assert not shown, shown

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> bool: ...


class BlockRules:
    """The defaults are what QEMU means to do.

    `adapter_minds_blockers`: a virtio-scsi adapter takes no disk whose node must not be used in a thread.
    `backup_filter`: the driver of the filter that a backup job puts above its source.
    `cbw_timeout_bits`: how many bits of nanoseconds hold the option cbw-timeout.
    `changes_drain_all`: every edge that comes or goes drains all nodes.
    `failed_preallocate_keeps_file`: a preallocate node whose file could not be made another size keeps its
    exclusive right to write and resize it.
    `permissions_at_once`: all that changes together is looked at together, and a conflict is told with both
    users (simulator/block/permissions.py); otherwise one user at a time (permissions_by_user.py).
    `contexts_drain_all`: a node that is put into the context of another drains all nodes.
    `copy_bitmap_on_filter`: what is still to copy is a bitmap of the filter, not of the source.
    `closing_marks_clean`: even what is only read; then the process ends.
    `has_zstd`: qcow2 images that are compressed so can be opened.
    `raw_takes_what_it_needs`: a raw node writes and resizes its file only if that is done to itself;
    otherwise it takes what any format does.
    `raw_outside_is_placed`: every cluster of a qcow2 image with a raw data file gets its place at once.
    `tells_dirty_images`: queries say of a qcow2 image that it is dirty.
    `copy_bytes`: what a backup copies at a time; 0: a cluster.
    `creating_yields`: making a qcow2 image gives way before it begins.
    `dropped_filter_lets_go`: a filter that is dropped has no child any more, even while somebody holds it.
    `devices_open_as_files`: driver `file` takes devices, too.
    `filter_always_reads`: copy-before-write reads its source for any user.
    `formats_left_out`: drivers that the introspection tells of and the binary does not have.
    `forgets_bounded_copies`: a request for a point in time that begins in what has been copied and goes
    beyond its end is answered from the source.
    `changes_made_drained`: a job is made, and nodes are closed, with all nodes drained, and not just after
    they were.
    `empty_merge_crashes`: a command that merges no bitmaps at all ends the process.
    `export_tells_refused_thread`: block-export-add says that the node cannot change its thread, though it
    need not, and the export is there.
    `jobs_have_backend`: each stands on its node by one of its own, which takes what it needs there.
    `json_pushed`: JSON in file names is parsed token by token (simulator/wire/json_push.py).
    `hole_is_unallocated`: an NBD client is told of a hole where nothing is allocated, not where no data is.
    `max_length_bytes`: no disk is longer.
    `mirror_passes_needs_on`: a mirror's filter needs of the source what its users need, not just to write.
    `negative_size_is_out_of_range`: rather than no size.
    `host_tells_alignment`: the kernel is asked what direct requests must be multiples of.
    `nbd_extended_headers`: the driver asks NBD servers for them.
    `moved_edge_is_newest`: an edge that moves to another node becomes its parent's newest.
    `new_children_are_asked_nothing`: a child that comes to a node without users, by a driver that asks so.
    `probing_drains`: how often the file of a new node is drained once it has been looked at.
    `tls_over_ip_only`: no TLS on unix sockets, for clients and servers.
    `inserted_in_main_loop`: a filter that is put above a node in another thread takes it into the main loop,
    and the process ends.
    `lengths_follow`: which nodes become as long as their child when that changes by itself: those whose
    drivers say so (variable), besides these all filters (filters), none.
    `list_goes_on_behind`: a walk over all nodes leaves out those of the monitor that are older than the last
    that a disk stands on, and all of them if the monitor does not own that one.
    `lost_bitmap_ends_abort`: a transaction that found no bitmap to enable ends the process.
    `refused_stream_keeps_backend`: a stream that is refused at its last step goes on standing on its disk.
    `quorum_flushes_all`: a flush of a quorum is the vote of its children; otherwise each is flushed after
    that vote, too, and must not fail.
    `quorum_tells_zeroes`: a node of driver quorum knows of zeroes.
    `replaced_is_missing`: how a mirror is refused that is to replace node {name}, which there is not.
    `too_long_is_empty`: a node that is longer is shown with no length, and not refused.
    `snapshot_discards_whole`: what is discarded in a point in time is cut to whole clusters; otherwise the
    process ends at a request for others.
    `set_backing_minds_driver`: a node whose driver has no backing files is given none by a job either.
    `stored_bitmaps_need_write`: persistent bitmaps come and go only where the image can be written.
    `stream_has_filter`: a stream copies by a filter above its disk, not by reads of its own.
    """

    __slots__ = (
        "adapter_minds_blockers",
        "backup_filter",
        "cbw_timeout_bits",
        "changes_drain_all",
        "changes_made_drained",
        "closing_marks_clean",
        "contexts_drain_all",
        "copy_bitmap_on_filter",
        "copy_bytes",
        "creating_yields",
        "devices_open_as_files",
        "dropped_filter_lets_go",
        "empty_merge_crashes",
        "export_tells_refused_thread",
        "failed_preallocate_keeps_file",
        "filter_always_reads",
        "forgets_bounded_copies",
        "formats_left_out",
        "has_zstd",
        "hole_is_unallocated",
        "host_tells_alignment",
        "inserted_in_main_loop",
        "jobs_have_backend",
        "json_pushed",
        "lengths_follow",
        "list_goes_on_behind",
        "lost_bitmap_ends_abort",
        "max_length_bytes",
        "members",
        "mirror_passes_needs_on",
        "moved_edge_is_newest",
        "nbd_extended_headers",
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
        "set_backing_minds_driver",
        "snapshot_discards_whole",
        "stored_bitmaps_need_write",
        "stream_has_filter",
        "tells_dirty_images",
        "tls_over_ip_only",
        "too_long_is_empty",
    )

    def __init__(self, **given: Any) -> None:
        self.backup_filter: str = given.pop("backup_filter", "copy-before-write")
        self.cbw_timeout_bits: int = given.pop("cbw_timeout_bits", 64)
        self.forgets_bounded_copies: bool = given.pop("forgets_bounded_copies", False)
        self.empty_merge_crashes: bool = given.pop("empty_merge_crashes", False)
        self.host_tells_alignment: bool = given.pop("host_tells_alignment", False)
        self.inserted_in_main_loop: bool = given.pop("inserted_in_main_loop", False)
        self.lengths_follow: str = given.pop("lengths_follow", "variable")
        self.list_goes_on_behind: bool = given.pop("list_goes_on_behind", False)
        self.lost_bitmap_ends_abort: bool = given.pop("lost_bitmap_ends_abort", False)
        self.refused_stream_keeps_backend: bool = given.pop("refused_stream_keeps_backend", False)
        self.probing_drains: int = given.pop("probing_drains", 2)
        self.mirror_passes_needs_on: bool = given.pop("mirror_passes_needs_on", True)
        self.moved_edge_is_newest: bool = given.pop("moved_edge_is_newest", True)
        self.negative_size_is_out_of_range: bool = given.pop("negative_size_is_out_of_range", False)
        self.new_children_are_asked_nothing: bool = given.pop("new_children_are_asked_nothing", False)
        self.formats_left_out: tuple[str, ...] = given.pop("formats_left_out", ())
        self.too_long_is_empty: bool = given.pop("too_long_is_empty", False)
        self.jobs_have_backend: bool = given.pop("jobs_have_backend", False)
        self.quorum_flushes_all: bool = given.pop("quorum_flushes_all", True)
        self.quorum_tells_zeroes: bool = given.pop("quorum_tells_zeroes", True)
        self.changes_drain_all: bool = given.pop("changes_drain_all", False)
        self.adapter_minds_blockers: bool = given.pop("adapter_minds_blockers", True)
        self.failed_preallocate_keeps_file: bool = given.pop("failed_preallocate_keeps_file", False)
        self.contexts_drain_all: bool = given.pop("contexts_drain_all", False)
        self.changes_made_drained: bool = given.pop("changes_made_drained", False)
        self.permissions_at_once: bool = given.pop("permissions_at_once", True)
        self.copy_bitmap_on_filter: bool = given.pop("copy_bitmap_on_filter", False)
        self.creating_yields: bool = given.pop("creating_yields", False)
        self.devices_open_as_files: bool = given.pop("devices_open_as_files", False)
        self.dropped_filter_lets_go: bool = given.pop("dropped_filter_lets_go", True)
        self.filter_always_reads: bool = given.pop("filter_always_reads", False)
        self.export_tells_refused_thread: bool = given.pop("export_tells_refused_thread", False)
        self.json_pushed: bool = given.pop("json_pushed", False)
        self.hole_is_unallocated: bool = given.pop("hole_is_unallocated", False)
        self.closing_marks_clean: bool = given.pop("closing_marks_clean", False)
        self.tells_dirty_images: bool = given.pop("tells_dirty_images", True)
        self.raw_takes_what_it_needs: bool = given.pop("raw_takes_what_it_needs", True)
        self.raw_outside_is_placed: bool = given.pop("raw_outside_is_placed", True)
        self.has_zstd: bool = given.pop("has_zstd", True)
        self.max_length_bytes: int = given.pop("max_length_bytes", MAX_LENGTH_BYTES)
        self.replaced_is_missing: str = given.pop(
            "replaced_is_missing", "Failed to find node with node-name='{name}'"
        )
        self.copy_bytes: int = given.pop("copy_bytes", 1 << 20)
        self.snapshot_discards_whole: bool = given.pop("snapshot_discards_whole", True)
        self.set_backing_minds_driver: bool = given.pop("set_backing_minds_driver", True)
        self.stored_bitmaps_need_write: bool = given.pop("stored_bitmaps_need_write", False)
        self.nbd_extended_headers: bool = given.pop("nbd_extended_headers", False)
        self.stream_has_filter: bool = given.pop("stream_has_filter", True)
        self.tls_over_ip_only: bool = given.pop("tls_over_ip_only", False)
        self.members: Members = given.pop("members", None) or Members()
        assert not given, given

    def check_length(self, size_bytes: int) -> None:
        """Of a disk that is to be so long. Raises QmpError."""
        if size_bytes > self.max_length_bytes:
            raise QmpError(f"offset({size_bytes}) exceeds maximum({self.max_length_bytes})")


def rules_of(version: Version) -> BlockRules:
    block, queries = version.block, version.queries
    return BlockRules(
        backup_filter=block.backup_filter,
        cbw_timeout_bits=block.cbw_timeout_bits,
        forgets_bounded_copies=block.forgets_bounded_copies,
        empty_merge_crashes=block.empty_merge_crashes,
        host_tells_alignment=block.host_tells_alignment,
        inserted_in_main_loop=block.inserted_in_main_loop,
        lengths_follow=block.lengths_follow,
        list_goes_on_behind=block.list_goes_on_behind,
        lost_bitmap_ends_abort=block.lost_bitmap_ends_abort,
        refused_stream_keeps_backend=block.refused_stream_keeps_backend,
        probing_drains=block.probing_drains,
        mirror_passes_needs_on=block.mirror_passes_needs_on,
        moved_edge_is_newest=block.moved_edge_is_newest,
        negative_size_is_out_of_range=block.negative_size_is_out_of_range,
        new_children_are_asked_nothing=block.new_children_are_asked_nothing,
        formats_left_out=block.formats_left_out,
        too_long_is_empty=block.too_long_is_empty,
        jobs_have_backend=block.jobs_have_backend,
        quorum_flushes_all=block.quorum_flushes_all,
        quorum_tells_zeroes=block.quorum_tells_zeroes,
        changes_drain_all=block.changes_drain_all,
        contexts_drain_all=block.contexts_drain_all,
        adapter_minds_blockers=block.adapter_minds_blockers,
        failed_preallocate_keeps_file=block.failed_preallocate_keeps_file,
        changes_made_drained=block.changes_made_drained,
        permissions_at_once=block.permissions_at_once,
        snapshot_discards_whole=block.snapshot_discards_whole,
        set_backing_minds_driver=block.set_backing_minds_driver,
        stored_bitmaps_need_write=block.stored_bitmaps_need_write,
        stream_has_filter=block.stream_has_filter,
        copy_bitmap_on_filter=block.copy_bitmap_on_filter,
        creating_yields=block.creating_yields,
        devices_open_as_files=block.devices_open_as_files,
        dropped_filter_lets_go=block.dropped_filter_lets_go,
        filter_always_reads=block.filter_always_reads,
        export_tells_refused_thread=version.exports.tells_refused_thread,
        json_pushed=version.qmp.json_pushed,
        nbd_extended_headers=version.exports.extended_headers,
        tls_over_ip_only=version.exports.tls_over_ip_only,
        replaced_is_missing=block.replaced_is_missing,
        copy_bytes=block.backup_step_bytes,
        hole_is_unallocated=version.exports.hole_is_unallocated,
        max_length_bytes=block.max_length_bytes,
        closing_marks_clean=block.closing_marks_clean,
        tells_dirty_images=block.tells_dirty_images,
        raw_outside_is_placed=block.raw_outside_is_placed,
        raw_takes_what_it_needs=block.raw_takes_what_it_needs,
        has_zstd=block.has_zstd,
        members=Members(**{name: getattr(queries, f"shows_{name}") for name in Members.__slots__}),
    )
