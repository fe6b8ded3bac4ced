"""Driver `quorum`: children that are written alike, and read by a vote. Source: block/quorum.c, 7.2."""

from __future__ import annotations

from collections import Counter
from errno import EIO
from os import strerror

from simulator.block import permissions
from simulator.block.driver import STATUS_DATA, STATUS_ZERO, Driver
from simulator.block.errors import QmpError
from simulator.block.opening import ABORTED, open_child
from simulator.block.status import status_above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.block.drained import Drained
    from simulator.block.driver import DriverStatus
    from simulator.block.node import Edge, Node

    Outcome = tuple[Any, OSError | None]

_SECTOR_BYTES = 512


class Quorum(Driver):
    """Options `children` (nodes), `vote-threshold`, `blkverify`, `rewrite-corrupted`, `read-pattern`: quorum
    or fifo. With `blkverify` the process exits where the two children differ."""

    format_name = "quorum"
    children = ()
    children_option = "children"
    can_reopen = False
    strong_options = ("vote-threshold", "blkverify", "rewrite-corrupted", "read-pattern")

    _rewrites = _verifies = False

    async def open(self, options: dict[str, Any]) -> None:
        given = options.get("children", [])
        if not given:
            raise QmpError("Number of provided children must be 1 or more")
        self._threshold = int(options["vote-threshold"])
        if self._threshold < 1:
            raise QmpError("Parameter 'vote-threshold' expects a value >= 1")
        if self._threshold > len(given):
            raise QmpError("threshold may not exceed children count")
        self._is_fifo = options.get("read-pattern", "quorum") == "fifo"
        if not self._is_fifo:
            self._verifies = options.get("blkverify", False)
            self._rewrites = options.get("rewrite-corrupted", False)
        if self._verifies and (len(given) != 2 or self._threshold != 2):
            raise QmpError(
                "blkverify=on can only be set if there are exactly two files and vote-threshold is 2"
            )
        if self._verifies and self._rewrites:
            raise QmpError("rewrite-corrupted=on cannot be used with blkverify=on")
        try:
            for number, child in enumerate(given):
                await open_child(self.node, f"children.{number}", permissions.DATA, child)
        except QmpError:
            # The graph is changed once for this alone, whether there is one to let go of or none.
            async with await self.node.graph.while_changing():
                for edge in self.listed_children():
                    await self.node.graph.detach(edge, refresh=False)
            raise
        self._next_number = len(given)
        sizes = [edge.node.size_bytes for edge in self.listed_children()]
        if self.stands_on_itself:
            sizes.append(self.node.size_bytes)
        if min(sizes) != max(sizes):
            self.outlives_refusal = True
            raise QmpError(f"Could not refresh total sector count: {strerror(EIO)}")
        self.node.size_bytes = sizes[0]

    def listed_children(self) -> list[Edge]:
        return sorted(super().listed_children(), key=_number_of)

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        rewriting = permissions.WRITE if self._rewrites else 0
        kept = shared & (permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED)
        return perm & ~permissions.GRAPH_MOD | rewriting, kept | permissions.GRAPH_MOD

    def can_replace(self, wanted: Node) -> bool:
        # Any child may become right; but not one that others use too, who would see it change.
        return any(edge.node is wanted and wanted.parents == [edge] for edge in self.listed_children())

    # -- x-blockdev-change
    async def add_child(self, child: Node) -> None:
        if child.parents:
            raise QmpError(f"The node {child.node_name} already has a parent")
        if self._verifies:
            raise QmpError("Cannot add a child to a quorum in blkverify mode")
        graph = self.node.graph
        async with self._drained():
            if not graph.rules.permissions_at_once and self.node in permissions.topological([child]):
                # Nobody looks for a cycle, and what is drained with its parent is drained once more.
                words = "bdrv_replace_child_noperm: Assertion `new_bs->quiesce_counter <= "
                await graph.end_process(ABORTED, f"{words}new_bs_quiesce_counter' failed.")
            name = f"children.{self._next_number}"
            self.node.graph.attach(self.node, name, permissions.DATA, child, 0, permissions.ALL)
            self._next_number += 1

    async def remove_child(self, edge: Edge) -> None:
        if len(self.node.children) <= self._threshold:
            raise QmpError(
                f"The number of children cannot be lower than the vote threshold {self._threshold}"
            )
        if edge.name == f"children.{self._next_number - 1}":
            self._next_number -= 1
        async with self._drained():
            await self.node.graph.detach(edge)

    def _drained(self) -> Drained:
        """While a child comes or goes; unless all nodes were drained just before (bdrv_graph_wrlock)."""
        graph = self.node.graph
        return graph.drained() if graph.rules.changes_drain_all else graph.drained(self.node)

    # -- requests
    async def _from_all(
        self, kind: str, offset: int, length: int, ask: Callable[[Edge], Coroutine[Any, Any, Any]]
    ) -> list[tuple[Edge, Outcome]]:
        """What each child answers. Raises OSError, that of most of them, if fewer than the threshold can."""
        outcomes: list[tuple[Edge, Outcome]] = []
        for edge in self.listed_children():
            try:
                outcomes.append((edge, (await ask(edge), None)))
            except OSError as error:
                self._report_bad(kind, offset, length, edge, error)
                outcomes.append((edge, (None, error)))
        errors = [error for _, (_, error) in outcomes if error is not None]
        if len(outcomes) - len(errors) < self._threshold:
            if kind != "flush":
                self._report_failure(offset, length)
            raise _most_frequent(errors)
        return outcomes

    async def read(self, offset: int, length: int) -> bytes:
        if self._is_fifo:
            return await self._read_first(offset, length)
        outcomes = await self._from_all("read", offset, length, lambda edge: edge.read(offset, length))
        answers = [(edge, bytes(payload)) for edge, (payload, error) in outcomes if error is None]
        votes = Counter(payload for _, payload in answers)
        # Of as many votes the version that was found last: the list of versions has the newest first.
        winner = max(reversed(list(votes)), key=votes.__getitem__)
        if len(votes) == 1:
            return winner
        if self._verifies:
            await self._end_process(offset, length, list(votes))
        if votes[winner] < self._threshold:
            self._report_failure(offset, length)
            raise OSError(EIO, strerror(EIO))
        losers = [edge for edge, payload in answers if payload != winner]
        for edge in losers:
            self._report_bad("read", offset, length, edge, None)
        for edge in losers if self._rewrites else ():
            try:
                await edge.write(offset, winner)
            except OSError:
                continue  # it was no more than an attempt
        return winner

    async def _end_process(self, offset: int, length: int, versions: list[bytes]) -> None:
        first, second = versions
        at = offset + next(at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
        words = f"quorum: offset={offset} bytes={length} contents mismatch at offset {at}"
        await self.node.graph.end_process(1, words)

    async def _read_first(self, offset: int, length: int) -> bytes:
        edges = self.listed_children()
        for edge in edges:
            try:
                return await edge.read(offset, length)
            except OSError as error:
                self._report_bad("read", offset, length, edge, error)
                if edge is edges[-1]:
                    raise
        raise AssertionError("a quorum without children")

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._from_all("write", offset, len(payload), lambda edge: edge.write(offset, payload, flags))

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self._from_all("write", offset, length, lambda edge: edge.write_zeroes(offset, length, flags))

    async def discard(self, offset: int, length: int) -> None:
        """QEMU's driver has no discard."""

    @property
    def hands_flush_on(self) -> bool:  # type: ignore[override]
        return self.node.graph.rules.quorum_flushes_all

    async def flush_to_disk(self) -> None:
        await self.hand_flush_on()

    async def hand_flush_on(self) -> None:
        await self._from_all("flush", 0, 0, lambda edge: edge.flush())

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        if not self.node.graph.rules.quorum_tells_zeroes:
            return length, STATUS_DATA, None, 0
        zeroes, data = length, 0
        for edge in self.listed_children():
            try:
                flags, run, _ = await status_above(edge.node, None, offset, length, want_zero)
            except OSError as error:
                self._report_bad("read", offset, length, edge, error)
                data = length
                break
            if flags & STATUS_ZERO:
                zeroes = min(zeroes, run)
            else:
                data = max(data, run)
        return (data, STATUS_DATA, None, 0) if data else (zeroes, STATUS_ZERO, None, 0)

    # -- what it tells
    def _report_bad(self, kind: str, offset: int, length: int, edge: Edge, error: OSError | None) -> None:
        why = {} if error is None else {"error": strerror(error.errno or EIO)}
        told = {"type": kind, **why, "node-name": edge.node.node_name, **_sectors(offset, length)}
        self.node.graph.emit("QUORUM_REPORT_BAD", told)

    def _report_failure(self, offset: int, length: int) -> None:
        told = {"reference": self.node.device_or_node_name, **_sectors(offset, length)}
        self.node.graph.emit("QUORUM_FAILURE", told)

    @property
    def unmaps_zeroes(self) -> bool:
        return all(edge.node.driver.unmaps_zeroes for edge in self.listed_children())

    @property
    def filename(self) -> str:
        return ""

    def actual_size_bytes(self) -> int | None:
        sizes = [edge.node.driver.actual_size_bytes() for edge in self.listed_children()]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def _number_of(child: Edge) -> int:
    return int(child.name.partition(".")[2])


def _sectors(offset: int, length: int) -> dict[str, int]:
    first = offset // _SECTOR_BYTES
    return {"sector-num": first, "sectors-count": -(-(offset + length) // _SECTOR_BYTES) - first}


def _most_frequent(errors: list[OSError]) -> OSError:
    numbers = Counter(error.errno or EIO for error in errors)
    number = max(reversed(list(numbers)), key=numbers.__getitem__)
    return OSError(number, strerror(number))
