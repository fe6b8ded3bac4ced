"""What a block driver is. One driver a file in drivers/; each overrides only what it does differently."""

from __future__ import annotations

from errno import ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.errors import QmpError
from simulator.block.filenames import needs_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Edge, Node

# Flags of a request (BdrvRequestFlags, include/block/block-common.h).
WRITE_UNCHANGED, SERIALISING, MAY_UNMAP, NO_FALLBACK, FUA, WRITE_COMPRESSED = 1, 2, 4, 8, 16, 32

# Flags of block status (BDRV_BLOCK_*).
STATUS_DATA, STATUS_ZERO, STATUS_OFFSET_VALID, STATUS_RAW = 1, 2, 4, 8
STATUS_ALLOCATED, STATUS_EOF, STATUS_RECURSE = 16, 32, 64

# (length from the offset asked for, flags, the child the data lies in or None, its offset there)
DriverStatus = tuple[int, int, "Edge | None", int]


class Driver:
    """Base of all drivers: a filter that passes everything to its `file` child.

    A driver is made with its node; `open` is called once the children named in `children` are attached.
    Requests are inside the node's size, and offsets and lengths are bytes. Failures are OSError with an
    errno.
    """

    format_name = ""
    is_filter = False
    is_protocol = False  # reaches the host itself, has no `file` child
    # A format's node is named by a child of such a driver (BlockDriver.protocol_name).
    names_files = False
    supports_backing = False
    stands_on_itself = False  # the node is a child of its own, where nobody refuses that
    outlives_refusal = False  # ... and its children were not looked at again when it was refused
    # Options that hold a child: (name, role, required), opened in this order before `open`.
    children: tuple[tuple[str, int, bool], ...] = (
        ("file", permissions.FILTERED | permissions.PRIMARY, True),
    )
    # Whether `event` wants to know of what requests come to (BdrvDebugEvent).
    hears_events = False
    # A filter that hands a flush on as it is (bdrv_co_flush), whether anybody may write or not.
    hands_flush_on = False
    # The option that lists any number of children, which the driver opens itself.
    children_option = ""
    # Whether QEMU asks anew for the length each time (BlockDriver.has_variable_length), and whether a filter
    # takes over its child's new length in versions that tell it.
    length_is_variable = False
    follows_child_length = True
    # Requests are multiples of this (BlockLimits.request_alignment), in bytes.
    request_alignment: int = 1
    # What drain-induced behaviour, blockdev-create and bitmaps need to know.
    can_store_bitmaps = False
    holds_snapshots = False
    limits_ask_child = False  # when they are refreshed, by a request (bdrv_get_info)
    supports_compressed_writes = False
    # blockdev-reopen: whether the driver can; which of its options may be left out then, and which may have
    # new values.
    can_reopen = True
    resettable_options: tuple[str, ...] = ()
    changeable_options: tuple[str, ...] = ()
    # Options without which the file's name alone would open something else (strong_runtime_opts).
    strong_options: tuple[str, ...] = ()
    # Options that QEMU's driver reads as sizes (QEMU_OPT_SIZE): none is negative, and in a drive's they may
    # have a suffix.
    size_options: tuple[str, ...] = ()
    # QEMU's driver takes it for granted that options can be read, and aborts where they cannot.
    trusts_options = False

    def __init__(self, node: Node) -> None:
        self.node = node

    # -- life
    async def open(self, options: dict[str, Any]) -> None:
        """Set node.size_bytes. `options` are the driver's own, checked against the schema. Raises
        QmpError."""
        self.measure()

    async def close(self) -> None:
        """Write back what is held in memory. Raises OSError; the node is gone afterwards all the same."""

    async def inactivate(self) -> None:
        """The node is about to become inactive: write back what is held in memory. Raises OSError."""

    async def activate(self) -> None:
        """It is active again, and the image may be another's work. Raises QmpError."""

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        """blockdev-reopen with new options: refuse (QmpError) or remember them; then commit or abort is
        called. Until then the node is as it was."""

    def reopen_commit(self) -> None: ...

    async def reopen_finished(self) -> None:
        """After the commit of all nodes that are reopened together, those below this one first."""

    def reopen_abort(self) -> None: ...

    @property
    def file(self) -> Edge:
        return self.node.children["file"]

    def listed_children(self) -> list[Edge]:
        """In the order of `children_option`: a child that moves to another node keeps its place there."""
        return list(self.node.children.values())

    async def tell_storage(self, event: str) -> None:
        """BLKDBG_EVENT on the primary child, if there is one."""
        for edge in self.node.children.values():
            if edge.role & permissions.PRIMARY:
                await edge.event(event)
                return

    def can_replace(self, wanted: Node) -> bool:
        """Whether nobody sees that `wanted`, somewhere below, becomes a copy of this node."""
        below = self.node.filtered
        return below is not None and below.can_replace(wanted)

    def child_resized(self, edge: Edge) -> None:
        """Become as long as the child has become, where the version does so (BlockRules.lengths_follow)."""
        rule = self.node.graph.rules.lengths_follow
        follows = self.length_is_variable
        if rule == "filters":
            follows = follows or (self.is_filter and self.follows_child_length)
        if follows and rule != "none" and edge is self.file:
            self.measure()

    def measure(self) -> None:
        """Set the node's length by that of its child."""
        self.node.size_bytes = self.file.node.size_bytes

    # -- permissions
    def role_of(self, name: str, role: int) -> int:
        """What a child in `children` is to this very node, where that depends on its options."""
        return role

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        """(needed, shared) on a child, from what the parents need and share."""
        return permissions.default_permissions(self.node, role, perm, shared)

    def check_permissions(self, perm: int, shared: int) -> None:
        """Take the locks that these need; raise QmpError if that is not possible. Then commit or abort is
        called."""

    def commit_permissions(self) -> None: ...

    def abort_permissions(self) -> None: ...

    # -- requests
    async def read(self, offset: int, length: int) -> bytes:
        return await self.file.read(offset, length)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self.file.write(offset, payload, flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self.file.write_zeroes(offset, length, flags)

    async def discard(self, offset: int, length: int) -> None:
        await self.file.discard(offset, length)

    async def flush(self) -> None:
        """Write back what this node itself keeps; children are flushed after it (bdrv_co_flush_to_os)."""

    async def flush_to_disk(self) -> None:
        """After `flush`, if anything was written since the last time (bdrv_co_flush_to_disk)."""

    async def hand_flush_on(self) -> None:
        """Of a driver with `hands_flush_on`."""
        await self.file.flush()

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        return length, STATUS_RAW | STATUS_OFFSET_VALID, self.file, offset

    async def event(self, name: str) -> None:
        """Something that blkdebug's rules may name has come about on this node."""

    def cancel_in_flight(self) -> None:
        """Requests that wait for something which may never come are to fail now (bdrv_cancel_in_flight)."""

    # -- drains: told after the users of the node, if it follows them (bdrv_co_drain_begin,
    # bdrv_co_drain_end). Calls nest.
    follows_drains = False

    def drained_begin(self) -> None: ...

    def drained_end(self) -> None: ...

    # -- a point in time that this node keeps, for snapshot-access. Filters do not pass these on
    # (block/io.c:3628, 7.2).
    async def snapshot_read(self, offset: int, length: int) -> bytes:
        raise OSError(ENOTSUP, strerror(ENOTSUP))

    async def snapshot_discard(self, offset: int, length: int) -> None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))

    async def snapshot_block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        raise OSError(ENOTSUP, strerror(ENOTSUP))

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        """Change the size; sets node.size_bytes. A filter hands it on, and of others only those can that say
        how (bdrv_co_truncate). Raises QmpError."""
        if not self.is_filter:
            raise QmpError("Image format driver does not support resize")
        await self.file.node.truncate(size_bytes, exact, preallocation)
        self.node.size_bytes = size_bytes

    async def make_empty(self) -> None:
        """Give up all that this layer holds itself, if it can. Raises OSError."""

    # -- snapshots inside the image, of a driver with `holds_snapshots`. Raise OSError.
    def snapshot_infos(self) -> list[dict[str, Any]]:
        """SnapshotInfo of each, oldest first."""
        raise NotImplementedError

    async def create_snapshot(self, name: str, date_ns: int, vm_clock_ns: int, vm_state_bytes: int) -> str:
        """Returns its id. `vm_state_bytes` of a machine's state were saved before, and go with it."""
        raise NotImplementedError

    async def go_to_snapshot(self, name: str) -> None:
        """The disk holds again what it did then. Raises OSError or QmpError."""
        raise NotImplementedError

    async def save_vm_state(self, state: bytes) -> None:
        raise NotImplementedError

    async def load_vm_state(self, length: int) -> bytes:
        raise NotImplementedError

    async def delete_snapshot(self, identifier: str) -> None:
        raise NotImplementedError

    # -- x-blockdev-change. Raises QmpError.
    async def add_child(self, child: Node) -> None:
        raise QmpError(f"The node {self.node.device_or_node_name} does not support adding a child")

    async def remove_child(self, edge: Edge) -> None:
        raise QmpError(f"The node {self.node.device_or_node_name} does not support removing a child")

    # -- what others may ask
    def limits(self) -> dict[str, int]:
        """Members of BlockLimitsInfo that the driver sets itself, but for the alignment of requests."""
        return {}

    def strong_values(self) -> dict[str, Any]:
        """Those of `strong_options` that were given, as they belong into a name of the node."""
        return {name: self.node.options[name] for name in self.strong_options if name in self.node.options}

    @property
    def cluster_bytes(self) -> int | None:
        """Allocation unit (BlockDriverInfo.cluster_size); None where QEMU's driver has no such
        information."""
        return None

    @property
    def unmaps_zeroes(self) -> bool:
        """Whether writing zeroes may give up what the range takes (BDRV_REQ_MAY_UNMAP in
        supported_zero_flags)."""
        return not self.is_protocol and self.file.node.driver.unmaps_zeroes

    def image_info(self) -> dict[str, Any]:
        """Members of ImageInfo beyond the common ones: cluster-size, format-specific, dirty-flag, ..."""
        return {}

    def specific_stats(self) -> dict[str, Any] | None:
        """What the driver counts by itself, for query-blockstats (bdrv_get_specific_stats)."""
        return None

    @property
    def filename(self) -> str:
        """A file name that by itself leads to this node (bs->exact_filename), or ""; see filenames.py."""
        file = self.node.children.get("file")
        if file is None or self.is_filter or not file.node.driver.names_files or needs_options(self.node):
            return ""
        return file.node.driver.filename

    def actual_size_bytes(self) -> int | None:
        """Host bytes used; None if the driver cannot tell."""
        return self.file.node.driver.actual_size_bytes() if "file" in self.node.children else None


class _NoDriver(Driver):
    """Of a node that was closed. All that may still come there is the end of a drained section."""

    def __init__(self) -> None:
        """Without a node: whatever else is asked of it is a mistake, and fails."""


NO_DRIVER = _NoDriver()
