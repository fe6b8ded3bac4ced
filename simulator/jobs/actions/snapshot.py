"""blockdev-snapshot and blockdev-snapshot-sync: an overlay takes the place of a node, which becomes its
backing file.

Source: external_snapshot_prepare and internal_snapshot_prepare, blockdev.c:1265-1680, 7.2.
"""

from __future__ import annotations

from contextlib import suppress
from errno import EIO
from os import strerror

from simulator.block import internal_snapshots, permissions
from simulator.block.activity import inactivate
from simulator.block.errors import QmpError
from simulator.block.reopening import set_read_only
from simulator.jobs.actions.action import Action
from simulator.jobs.backing import append, take_off
from simulator.jobs.new_image import create_image, describe_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


class _Snapshot(Action):
    """What both kinds share. The old node is drained from prepare to clean."""

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        super().__init__(kind, arguments, jobs, txn)
        self._old: Node | None = None
        self._new: Node | None = None
        self._appended = False

    async def _begin(self, device: str, node_name: str) -> Node:
        old = self.graph.lookup(device, node_name)
        old.drained_begin()
        self._old = old
        await self.graph.wait_drained([old])
        self.graph.check_operation(old, "external-snapshot")
        if not old.read_only:
            try:
                await old.flush()
            except OSError:
                raise QmpError("An IO error has occurred") from None
        return old

    async def _append(self, old: Node, new: Node) -> None:
        """`new` is held by this action from here to clean."""
        new.references += 1
        self._new = new
        needed, _ = permissions.cumulative(new)
        if needed & permissions.CONSISTENT_READ:
            raise QmpError("The overlay is already in use")
        if new.driver.is_filter:
            raise QmpError("Filters cannot be used as overlays")
        if new.backing is not None:
            raise QmpError("The overlay already has a backing image")
        if not new.driver.supports_backing:
            raise QmpError("The overlay does not support backing images")
        if old.inactive and not new.inactive:
            await inactivate(new)
        await append(self.graph, new, old)
        self._appended = True

    async def commit(self) -> None:
        """The old node becomes read-only, if it can (bdrv_reopen_set_read_only, errors ignored)."""
        assert self._old is not None
        if not self._old.read_only:
            with suppress(QmpError):
                await set_read_only(self.graph, self._old, True)

    async def abort(self) -> None:
        if self._appended:
            assert self._new is not None
            assert self._old is not None
            await take_off(self.graph, self._new, self._old)

    async def clean(self) -> None:
        if self._old is not None:
            self._old.drained_end()
        if self._new is not None:
            self._new.references -= 1
            await self.graph.release(self._new)


class BlockdevSnapshot(_Snapshot):
    """The overlay is a node that exists, without a backing file."""

    async def prepare(self) -> None:
        old = await self._begin(self.arguments["node"], self.arguments["node"])
        overlay = self.arguments["overlay"]
        await self._append(old, self.graph.lookup(overlay, overlay))


class BlockdevSnapshotSync(_Snapshot):
    """The overlay is a file, made here unless mode=existing."""

    async def prepare(self) -> None:
        arguments = self.arguments
        old = await self._begin(arguments.get("device", ""), arguments.get("node-name", ""))
        new_name: str | None = arguments.get("snapshot-node-name")
        if "node-name" in arguments and new_name is None:
            raise QmpError("New overlay node-name missing")
        if new_name is not None and self.graph.find(new_name) is not None:
            raise QmpError("New overlay node-name already in use")
        filename, image_format = arguments["snapshot-file"], arguments.get("format", "qcow2")
        if arguments.get("mode", "absolute-paths") != "existing":
            await create_image(self.graph, filename, image_format, old.size_bytes, old)
        options = describe_image(self.graph, filename, image_format, old)
        options |= {"backing": None, "read-only": old.read_only}
        if new_name is not None:
            options["node-name"] = new_name
        await self._append(old, await self.graph.open(options))


class InternalSnapshot(Action):
    """blockdev-snapshot-internal-sync."""

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        super().__init__(kind, arguments, jobs, txn)
        self._node: Node | None = None
        self._holder: Node | None = None  # whose image it is in
        self._made = ""  # its id

    async def prepare(self) -> None:
        device, name = self.arguments["device"], self.arguments["name"]
        node = self.jobs.root_node(device)
        self._node = node
        node.drained_begin()
        await self.graph.wait_drained([node])
        self.graph.check_operation(node, "internal-snapshot")
        if node.read_only:
            raise QmpError(f"Device '{device}' is read only")
        holder = self._holder = internal_snapshots.holder_to_write(node)
        if holder is None:
            raise QmpError(
                f"Block format '{node.driver.format_name}' used by device '{device}' does not support "
                "internal snapshots"
            )
        if not name:
            raise QmpError("Name is empty")
        if name in [info["name"] for info in internal_snapshots.listed_by_name(node)]:
            raise QmpError(f"Snapshot with name '{name}' already exists on device '{device}'")
        try:
            self._made = await holder.driver.create_snapshot(name, *self.graph.times(), 0)
        except OSError as error:
            why = strerror(error.errno or EIO)
            raise QmpError(f"Failed to create snapshot '{name}' on device '{device}': {why}") from None

    async def abort(self) -> None:
        if self._made:
            assert self._holder is not None
            with suppress(OSError):
                await self._holder.driver.delete_snapshot(self._made)

    async def clean(self) -> None:
        if self._node is not None:
            self._node.drained_end()
