"""Driver `blkverify`: two images that must have the same contents. Source: block/blkverify.c, 7.2."""

from __future__ import annotations

from errno import EIO

from simulator.block import permissions
from simulator.block.driver import Driver
from simulator.block.filenames import needs_options
from simulator.block.opening import ABORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from simulator.block.node import Edge, Node


class Blkverify(Driver):
    """Every request goes to `test` and to `raw`, whose answers must be the same. Where they are not, the
    process exits. Writing zeroes aborts it: the driver cannot, and says that it can."""

    format_name = "blkverify"
    is_filter = True
    can_reopen = False
    hands_flush_on = names_files = True
    follows_child_length = False
    children = (
        ("raw", permissions.FILTERED | permissions.PRIMARY, True),
        ("test", permissions.DATA, True),
    )

    def measure(self) -> None:
        self.node.size_bytes = self._test.node.size_bytes

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        """Of `raw` alone: the node stays as long as `test` is (blkverify_getlength)."""
        await super().truncate(size_bytes, exact, preallocation)
        self.measure()

    @property
    def file(self) -> Edge:
        return self.node.children["raw"]

    @property
    def _test(self) -> Edge:
        return self.node.children["test"]

    def can_replace(self, wanted: Node) -> bool:
        # Where the two differ the process ends, so both show what this node does.
        return any(edge.node.can_replace(wanted) for edge in self.node.children.values())

    async def read(self, offset: int, length: int) -> bytes:
        name = f"read offset={offset} bytes={length}"
        tested, raw = await self._both(name, self._test.read(offset, length), self.file.read(offset, length))
        if tested != raw:
            at = next(at for at, (a, b) in enumerate(zip(tested, raw, strict=True)) if a != b)
            await self._mismatch(f"{name} contents mismatch at offset {offset + at}")
        return bytes(tested)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._both(
            f"write offset={offset} bytes={len(payload)}",
            self._test.write(offset, payload, flags),
            self.file.write(offset, payload, flags),
        )

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        words = "bdrv_co_do_pwrite_zeroes: Assertion `!bs->supported_zero_flags' failed."
        await self.node.graph.end_process(ABORTED, words)

    async def discard(self, offset: int, length: int) -> None:
        """QEMU's driver has no discard."""

    async def hand_flush_on(self) -> None:
        await self._test.flush()

    async def _both(
        self, name: str, on_test: Coroutine[Any, Any, Any], on_raw: Coroutine[Any, Any, Any]
    ) -> tuple[Any, Any]:
        """What both gave. Raises OSError; of two that fail in the same way, that."""
        (tested, failed), (raw, raw_failed) = await _outcome(on_test), await _outcome(on_raw)
        number, raw_number = ((each.errno or EIO) if each else 0 for each in (failed, raw_failed))
        if number != raw_number:
            await self._mismatch(f"{name} return value mismatch {-number} != {-raw_number}")
        if failed is not None:
            raise failed
        return tested, raw

    async def _mismatch(self, what: str) -> None:
        await self.node.graph.end_process(1, f"blkverify: {what}")

    @property
    def filename(self) -> str:
        raw, test = self.file.node.driver.filename, self._test.node.driver.filename
        return f"blkverify:{raw}:{test}" if raw and test and not needs_options(self.node) else ""

    def actual_size_bytes(self) -> int | None:
        return None


async def _outcome(request: Coroutine[Any, Any, Any]) -> tuple[Any, OSError | None]:
    try:
        return await request, None
    except OSError as error:
        return None, error
