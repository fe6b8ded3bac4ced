"""Dirty bitmaps on their way to another machine.

Source: migration/block-dirty-bitmap.c, 7.2.
"""

from __future__ import annotations

from simulator.block.bitmap import DirtyBitmap, find_bitmap
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Node

    Mapping = list[dict[str, Any]]

_MAX_ALIAS_BYTES = 255
_CHUNK_BYTES = 1024  # of bits in one piece (CHUNK_SIZE)
_HEADER_BYTES = 13  # flags, first sector, number of sectors
_BITS_HEADER_BYTES = 8


class Leaving:
    """One bitmap of the machine that the guest leaves. `sent_bytes`: up to where on its disk its bits have
    been sent."""

    def __init__(self, bitmap: DirtyBitmap, node_alias: str, alias: str, persistent: bool) -> None:
        self.bitmap, self.node_alias, self.alias, self.persistent = bitmap, node_alias, alias, persistent
        self.enabled = bitmap.enabled
        self.sent_bytes = 0
        bitmap.busy = True

    @property
    def pending_bits(self) -> int:
        return -(-(self.bitmap.size_bytes - self.sent_bytes) // self.bitmap.granularity_bytes)

    def next_chunk(self) -> tuple[int, list[tuple[int, int]]]:
        """(bytes that QEMU would put on the wire for it, what is dirty in it)."""
        first = self.sent_bytes
        last = min(first + _CHUNK_BYTES * 8 * self.bitmap.granularity_bytes, self.bitmap.size_bytes)
        self.sent_bytes = last
        areas = list(_areas(self.bitmap, first, last))
        return _HEADER_BYTES + (_BITS_HEADER_BYTES + _CHUNK_BYTES if areas else 0), areas


def _areas(bitmap: DirtyBitmap, first: int, last: int) -> Iterator[tuple[int, int]]:
    while (area := bitmap.next_dirty_area(first, last, last)) is not None:
        yield area
        first = area[0] + area[1]


def collect(graph: Graph, mapping: Mapping | None) -> list[Leaving]:
    """All that go along, busy from here on (init_dirty_bitmap_migration). Raises QmpError, and then none
    is."""
    leaving: list[Leaving] = []
    try:
        done: list[Node] = []
        if mapping is None:
            for name, backend in graph.backends.items():
                node = backend.node
                while node is not None and node.driver.is_filter and not _has_named(node):
                    node = node.filtered
                if node is not None and not node.driver.is_filter:
                    _collect_of(leaving, node, name, None)
                    done.append(node)
        for node in list(graph.nodes.values()):
            if node not in done:
                _collect_of(leaving, node, node.node_name, mapping)
    except QmpError:
        let_go(leaving)
        raise
    for each in leaving:
        each.bitmap.skip_store = True
    return leaving


def let_go(leaving: list[Leaving]) -> None:
    for each in leaving:
        each.bitmap.busy = False


def _has_named(node: Node) -> bool:
    return any(bitmap.name is not None for bitmap in node.bitmaps)


def _collect_of(leaving: list[Leaving], node: Node, name: str, mapping: Mapping | None) -> None:
    """add_bitmaps_to_list: `name` is the node's, or that of the drive on it."""
    named = [bitmap for bitmap in node.bitmaps if bitmap.name is not None]
    if not named:
        return
    node_alias, aliases = name, None
    if mapping is not None:
        mapped = next((each for each in mapping if each["node-name"] == name), None)
        if mapped is None:
            return
        node_alias = mapped["alias"]
        aliases = {each["name"]: each for each in mapped["bitmaps"]}
    if node_alias.startswith("#"):
        where = f"a node with auto-generated name '{node_alias}'"
        raise QmpError(f"Bitmap '{named[0].name}' in {where} can't be migrated")
    for bitmap in named:
        bitmap.check()
        assert bitmap.name is not None
        alias, persistent = bitmap.name, bitmap.persistent
        if aliases is not None:
            if alias not in aliases:
                continue
            persistent = _transformed(aliases[alias], persistent)
            alias = aliases[alias]["alias"]
        elif len(alias.encode()) > _MAX_ALIAS_BYTES:
            raise QmpError(
                f"Cannot migrate bitmap '{alias}' on node '{name}': Name is longer than {_MAX_ALIAS_BYTES}"
                " bytes"
            )
        leaving.append(Leaving(bitmap, node_alias, alias, persistent))


def _transformed(mapped: dict[str, Any], persistent: bool) -> bool:
    value: bool = mapped.get("transform", {}).get("persistent", persistent)
    return value


class Arriving:
    """One bitmap of the machine that the guest comes to."""

    def __init__(self, bitmap: DirtyBitmap, enabled: bool) -> None:
        self.bitmap, self.enabled, self.complete = bitmap, enabled, False


class Arrivals:
    """All of them, by the numbers that they have in the stream. What is not known here is told by `report`,
    and from then on bitmaps are lost, and nothing else (cancel_incoming_locked)."""

    def __init__(self, graph: Graph, mapping: Mapping | None, disabled_are_busy: bool) -> None:
        self._graph, self._mapping, self._disabled_are_busy = graph, mapping, disabled_are_busy
        self._all: list[Arriving | None] = []
        self._lost = self._guest_runs = False

    def begin(self, node_alias: str, alias: str, granularity: int, enabled: bool, persistent: bool) -> None:
        """Raises QmpError where QEMU takes the stream to be broken."""
        self._all.append(None)
        if self._lost:
            return
        try:
            node, name, persistent = self._find(node_alias, alias, persistent)
        except QmpError as error:
            self._graph.report(error.desc)
            self.lose()
            return
        if find_bitmap(node, name) is not None:
            raise QmpError(f"Bitmap with the same name ('{name}') already exists on destination")
        bitmap = DirtyBitmap(node, name, granularity)
        bitmap.persistent = persistent
        bitmap.enabled = False
        if enabled:
            bitmap.create_successor()
        else:
            bitmap.busy = self._disabled_are_busy
        self._all[-1] = Arriving(bitmap, enabled)

    def _find(self, node_alias: str, alias: str, persistent: bool) -> tuple[Node, str, bool]:
        if self._mapping is None:
            return self._graph.lookup(node_alias, node_alias), alias, persistent
        mapped = next((each for each in self._mapping if each["alias"] == node_alias), None)
        if mapped is None:
            raise QmpError(f"Error: Unknown node alias '{node_alias}'")
        node = self._graph.lookup("", mapped["node-name"])
        inner = next((each for each in mapped["bitmaps"] if each["alias"] == alias), None)
        if inner is None:
            where = f"'{node.node_name}' (alias '{node_alias}')"
            raise QmpError(f"Error: Unknown bitmap alias '{alias}' on node {where}")
        return node, inner["name"], _transformed(inner, persistent)

    def set_bits(self, number: int, areas: list[tuple[int, int]]) -> None:
        arriving = self._all[number]
        if arriving is not None:
            for offset, length in areas:
                arriving.bitmap.set(offset, length)

    def complete(self, number: int) -> None:
        arriving = self._all[number]
        if arriving is not None:
            _give_back(arriving.bitmap)
            arriving.complete = True
            if self._guest_runs:
                self._all[number] = None

    def before_guest_runs(self) -> None:
        """From here on its writes are recorded (dirty_bitmap_mig_before_vm_start)."""
        self._guest_runs = True
        for number, arriving in enumerate(self._all):
            if arriving is None:
                continue
            if arriving.enabled and arriving.complete:
                arriving.bitmap.enabled = True
            elif arriving.enabled and arriving.bitmap.successor is not None:
                arriving.bitmap.successor.enabled = True
            if arriving.complete:
                self._all[number] = None

    def lose(self) -> None:
        self._lost = True
        for number, arriving in enumerate(self._all):
            if arriving is not None:
                _give_back(arriving.bitmap)
                arriving.bitmap.release()
                self._all[number] = None


def _give_back(bitmap: DirtyBitmap) -> None:
    """It is nobody's but the monitor's again, with what was written since the guest ran."""
    if bitmap.successor is not None:
        bitmap.reclaim()
    else:
        bitmap.busy = False
