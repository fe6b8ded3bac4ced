"""Drivers `null-co` and `null-aio`: a disk that forgets. Source: block/null.c, 7.2."""

from __future__ import annotations

from errno import ENOTSUP
from os import strerror

from simulator.block.driver import NO_FALLBACK, STATUS_OFFSET_VALID, STATUS_ZERO, Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.driver import DriverStatus


class NullCo(Driver):
    """Options `size` (bytes, 1 GiB), `latency-ns` of each request, `read-zeroes`.

    Reads give zeroes in any case: without `read-zeroes` QEMU leaves the buffer as it is, and block status
    does not promise them."""

    format_name = "null-co"
    is_protocol = names_files = True
    strong_options = ("size", "read-zeroes")
    size_options = ("size",)
    trusts_options = True
    children = ()

    _latency_ns = 0
    _read_zeroes = False

    async def open(self, options: dict[str, Any]) -> None:
        size = int(options.get("size", 1 << 30))
        self._latency_ns = int(options.get("latency-ns", 0))
        if self._latency_ns < 0 or self._latency_ns >= 1 << 63:
            raise QmpError("latency-ns is invalid")
        self._read_zeroes = bool(options.get("read-zeroes", False))
        self._has_plain_name = not options.keys() & {"size", "read-zeroes"}
        self.node.size_bytes = size + -size % 512

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        """Anything may be given again; nothing changes."""

    async def _pass_time(self) -> None:
        if self._latency_ns:
            await self.node.graph.scheduler.sleep(self._latency_ns)

    async def read(self, offset: int, length: int) -> bytes:
        await self._pass_time()
        return bytes(length)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._pass_time()

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        """QEMU's driver can only write them out, which is not what a client that is in a hurry asks for
        (block/io.c, bdrv_co_do_pwrite_zeroes)."""
        if flags & NO_FALLBACK:
            raise OSError(ENOTSUP, strerror(ENOTSUP))
        await self._pass_time()

    async def discard(self, offset: int, length: int) -> None:
        """QEMU's driver has no discard: nothing happens, and it takes no time."""

    async def flush_to_disk(self) -> None:
        await self._pass_time()

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        flags = STATUS_OFFSET_VALID | (STATUS_ZERO if self._read_zeroes else 0)
        return length, flags, None, offset

    @property
    def filename(self) -> str:
        return f"{self.format_name}://" if self._has_plain_name else ""

    def actual_size_bytes(self) -> int | None:
        return 0


class NullAio(NullCo):
    """The same, but each request ends in a later turn of the event loop."""

    format_name = "null-aio"

    async def _pass_time(self) -> None:
        await super()._pass_time()
        if not self._latency_ns:
            await self.node.graph.scheduler.loop_turn
