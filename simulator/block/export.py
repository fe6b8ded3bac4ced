"""Exports: nodes that clients outside the machine may use. Of NBD's kind only; others need QEMU's own host.

Source: block/export/export.c and nbd/server.c (nbd_export_create, nbd_export_request_shutdown), 7.2.
"""

from __future__ import annotations

from simulator.block import iothreads, permissions
from simulator.block.activity import activate
from simulator.block.backend import BlockBackend
from simulator.block.bitmap import DirtyBitmap, find_bitmap
from simulator.block.errors import QmpError
from simulator.block.ids import well_formed_id
from simulator.engine.task import Future
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.messages import ExportInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.iothreads import IoThread
    from simulator.block.nbd.server import NbdConnection, NbdServer
    from simulator.block.node import Node
    from simulator.engine.outbox import Outbox
    from simulator.versions.version import Version

_MAX_STRING_BYTES = 4096  # NBD_MAX_STRING_SIZE
_SECTOR_BYTES = 512


class ExportBackend(BlockBackend):
    """Requests already begun go through in a drained section; the connections begin no new ones."""

    __slots__ = ("export", "on_let_go")

    queues_while_drained = False
    export: NbdExport | None
    on_let_go: Callable[[], Awaitable[None]]

    async def was_removed(self) -> None:
        await self.on_let_go()

    def drained_end(self) -> None:
        super().drained_end()
        if not self.quiesce_count and self.export is not None:
            for connection in list(self.export.connections):
                connection.resume()

    def drained_busy(self) -> bool:
        if self.in_flight:
            return True
        export = self.export
        return export is not None and any(connection.in_flight for connection in export.connections)


class NbdExport:
    """`info` is what clients see of it. The user owns it until block-export-del; it goes away with its last
    client.

    `deleted` is done when nothing is left of it.
    """

    __slots__ = ("backend", "bitmaps", "connections", "deleted", "id", "info", "user_owned", "writethrough")

    type_name = "nbd"

    def __init__(
        self, export_id: str, backend: ExportBackend, info: ExportInfo, bitmaps: list[DirtyBitmap]
    ) -> None:
        self.id = export_id
        self.backend = backend
        self.info = info
        self.bitmaps = bitmaps
        self.connections: list[NbdConnection] = []
        self.user_owned = True
        self.writethrough = False
        self.deleted = Future(f"export '{export_id}' to go away")

    @property
    def node(self) -> Node:
        node = self.backend.node
        assert node is not None
        return node

    @property
    def in_use(self) -> bool:
        return bool(self.connections)


class Exports:
    """All exports of a machine. `by_age` newest first, as query-block-exports lists them."""

    __slots__ = ("_graph", "_outbox", "_to_delete", "by_age", "rules", "served")

    def __init__(self, graph: Graph, outbox: Outbox, version: Version) -> None:
        self._graph = graph
        self._outbox = outbox
        self.rules = version.exports
        self._to_delete: list[NbdExport] = []
        self.by_age: list[NbdExport] = []
        self.served: list[NbdExport] = []  # oldest first: what an NBD client can still find

    def find(self, export_id: str) -> NbdExport | None:
        for export in self.by_age:
            if export.id == export_id:
                return export
        return None

    def find_served(self, name: str) -> NbdExport | None:
        for export in self.served:
            if export.info.name == name:
                return export
        return None

    # -- adding
    async def add(
        self,
        arguments: dict[str, Any],
        server: NbdServer | None,
        threads: Mapping[str, IoThread] | None = None,
    ) -> NbdExport:
        """block-export-add with its arguments, checked against the schema. Raises QmpError and leaves
        nothing (but see `BlockRules.export_tells_refused_thread`)."""
        export_id = arguments["id"]
        if not well_formed_id(export_id):
            raise QmpError("Invalid block export id")
        if self.find(export_id) is not None:
            raise QmpError(f"Block export id '{export_id}' is already in use")
        node = self._graph.lookup("", arguments["node-name"])
        if arguments["type"] != NbdExport.type_name:
            raise QmpError(f"an export of type {arguments['type']} is not simulated, only nbd")
        writable = arguments.get("writable", False)
        if node.read_only and writable:
            raise QmpError("Cannot export read-only node as writable")
        refused = await self._move(arguments, node, threads or {})
        if not arguments.get("allow-inactive"):
            await activate(node)
        perm = permissions.CONSISTENT_READ | (permissions.WRITE if writable else 0)
        backend = ExportBackend(self._graph, "", perm, permissions.ALL)
        backend.export = None
        backend.on_let_go = self._let_go
        backend.iothread = node.iothread
        backend.allows_inactivity = arguments.get("allow-inactive", False)
        backend.allows_iothread_change = not arguments.get("fixed-iothread")
        await self._graph.changing()
        backend.insert(node)
        try:
            export = self._create(arguments, backend, node, server)
        except QmpError:
            await backend.remove()
            raise
        backend.export = export
        export.writethrough = arguments.get("writethrough", False)
        self.by_age.insert(0, export)
        self.served.append(export)
        if refused is not None and self._graph.rules.export_tells_refused_thread:
            raise refused
        return export

    async def _move(
        self, arguments: dict[str, Any], node: Node, threads: Mapping[str, IoThread]
    ) -> QmpError | None:
        """To the thread that is wanted. If the node cannot go there it stays, unless it must: why. Raises
        QmpError."""
        if "iothread" not in arguments:
            return None
        wanted = arguments["iothread"]
        names = wanted if isinstance(wanted, list) else [wanted]
        if not names:
            raise QmpError("The set of I/O threads must not be empty")
        for name in names:
            if name not in threads:
                raise QmpError(f'iothread "{name}" not found')
        await self._graph.changing_context()
        try:
            iothreads.move(node, threads[names[0]])
        except QmpError as error:
            if arguments.get("fixed-iothread"):
                raise
            return error
        return None

    def _create(
        self, arguments: dict[str, Any], backend: ExportBackend, node: Node, server: NbdServer | None
    ) -> NbdExport:
        """nbd_export_create."""
        if server is None:
            raise QmpError("NBD server not running")
        name = arguments.get("name", arguments["node-name"])
        if len(name.encode()) > _MAX_STRING_BYTES:
            raise QmpError(f"export name '{name}' too long")
        description = arguments.get("description")
        if description is not None and len(description.encode()) > _MAX_STRING_BYTES:
            raise QmpError(f"description '{description}' too long")
        if self.find_served(name) is not None:
            raise QmpError(f"NBD server already has export named '{name}'")
        # A client learns the size once.
        backend.set_permissions(backend.perm, backend.shared & ~permissions.RESIZE)
        writable = arguments.get("writable", False)
        bitmaps = self._bitmaps(arguments.get("bitmaps", []), node, writable)
        for bitmap in bitmaps:
            bitmap.busy = True
        contexts = ["base:allocation"]
        if arguments.get("allocation-depth"):
            contexts.append("qemu:allocation-depth")
        contexts += [f"qemu:dirty-bitmap:{bitmap.name}" for bitmap in bitmaps]
        info = ExportInfo(
            name,
            node.size_bytes - node.size_bytes % _SECTOR_BYTES,
            self._flags(writable, server),
            description,
            contexts=tuple(contexts),
        )
        export = NbdExport(arguments["id"], backend, info, bitmaps)
        info.export = export
        return export

    def _flags(self, writable: bool, server: NbdServer) -> int:
        flags = nbd.FLAG_HAS_FLAGS | nbd.FLAG_SEND_FLUSH | nbd.FLAG_SEND_FUA | nbd.FLAG_SEND_CACHE
        rules = self.rules
        several = server.max_connections != 1 or not rules.multi_conn_unless_one_connection
        if several and (rules.writable_multi_conn or not writable):
            flags |= nbd.FLAG_CAN_MULTI_CONN
        if not writable:
            return flags | nbd.FLAG_READ_ONLY
        return flags | nbd.FLAG_SEND_TRIM | nbd.FLAG_SEND_WRITE_ZEROES | nbd.FLAG_SEND_FAST_ZERO

    def _bitmaps(self, given: list[str | dict[str, str]], node: Node, writable: bool) -> list[DirtyBitmap]:
        found = []
        for item in given:
            bitmap = _find_in_chain(node, item, writable) if isinstance(item, str) else self._external(item)
            bitmap.check(readonly=False)
            found.append(bitmap)
        return found

    def _external(self, given: dict[str, str]) -> DirtyBitmap:
        node = self._graph.find(given["node"])
        if node is None:
            raise QmpError(f"Node '{given['node']}' not found")
        bitmap = find_bitmap(node, given["name"])
        if bitmap is None:
            raise QmpError(f"Dirty bitmap '{given['name']}' not found")
        return bitmap

    # -- removing
    async def remove(self, export_id: str, mode: str = "safe") -> None:
        """block-export-del: at the return it is gone, or with mode "hard" goes when its clients are. Raises
        QmpError."""
        export = self.find(export_id)
        if export is None:
            raise QmpError(f"Export '{export_id}' is not found")
        if not export.user_owned:
            raise QmpError(f"Export '{export_id}' is already shutting down")
        if mode == "safe" and export.in_use:
            raise QmpError(f"export '{export_id}' still in use")
        alone = not export.in_use
        self.request_shutdown(export)
        if alone and self.rules.deleted_by_the_reply:
            await export.deleted

    def request_shutdown(self, export: NbdExport) -> None:
        """Close its connections; it is deleted when the last of them has come to rest."""
        if not export.user_owned:
            return
        for connection in list(export.connections):
            connection.close()
        self.served.remove(export)
        export.user_owned = False
        if not export.in_use:
            self._spawn_delete(export)

    def client_gone(self, export: NbdExport, connection: NbdConnection) -> None:
        """The connection has nothing under way any more."""
        export.connections.remove(connection)
        if not export.user_owned and not export.in_use:
            self._spawn_delete(export)

    def came_to_rest(self) -> None:
        """A connection has no request under way any more: a drained section may go on."""
        self._graph.progress()

    def _spawn_delete(self, export: NbdExport) -> None:
        """In the main loop's next round (blk_exp_unref, block/export/export.c:214, 7.2)."""
        self._to_delete.append(export)
        self._graph.scheduler.enter(self._delete_in_turn(), f"delete export '{export.id}'")

    async def _delete_in_turn(self) -> None:
        await self._graph.scheduler.loop_turn
        if self._to_delete:
            await self._delete(self._to_delete.pop())

    async def _let_go(self) -> None:
        """What else was to be deleted in this round comes before the end of a change of the graph, if that
        polls (bdrv_graph_wrunlock, block/graph-lock.c:170, 10.0)."""
        while self.rules.deleted_within_another and self._to_delete:
            await self._delete(self._to_delete.pop())

    async def _delete(self, export: NbdExport) -> None:
        self.by_age.remove(export)
        for bitmap in export.bitmaps:
            bitmap.busy = False
        await export.backend.remove()
        export.backend.export = export.info.export = None
        self._outbox.emit("BLOCK_EXPORT_DELETED", {"id": export.id})
        export.deleted.set_result()

    async def close_all(self) -> None:
        """Remove all, clients or not, and wait for it (blk_exp_close_all)."""
        exports = list(self.by_age)
        for export in exports:
            self.request_shutdown(export)
        for export in exports:
            await export.deleted

    def query(self) -> list[dict[str, Any]]:
        """BlockExportInfo of each."""
        return [
            {
                "id": export.id,
                "type": export.type_name,
                "node-name": export.node.node_name,
                "shutting-down": not export.user_owned,
            }
            for export in self.by_age
        ]


def _find_in_chain(node: Node, name: str, writable: bool) -> DirtyBitmap:
    """The bitmap of that name, nearest to the top of the chain. Raises QmpError."""
    layer: Node | None = node
    while layer is not None:
        bitmap = find_bitmap(layer, name)
        if bitmap is not None:
            if not writable and layer.is_writable() and bitmap.enabled:
                raise QmpError(f"Enabled bitmap '{name}' incompatible with readonly export")
            return bitmap
        layer = layer.below
    raise QmpError(f"Bitmap '{name}' is not found")
