"""Driver `compress`: a filter that has all that is written compressed. Source: block/filter-compress.c,
7.2."""

from __future__ import annotations

from simulator.block.driver import WRITE_COMPRESSED, Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Compress(Driver):
    """A write that is not of whole clusters is made one with what is around it (the driver's
    request_alignment). Zeroes are handed on as they are."""

    format_name = "compress"
    is_filter = length_is_variable = True
    can_reopen = False
    limits_ask_child = True

    async def open(self, options: dict[str, Any]) -> None:
        below = self.file.node.driver
        if not below.supports_compressed_writes:
            raise QmpError(f"Compression is not supported for underlying format: {below.format_name}")
        await super().open(options)

    @property
    def request_alignment(self) -> int:  # type: ignore[override]
        return self.file.node.driver.cluster_bytes or super().request_alignment

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        unit = self.request_alignment
        end = offset + len(payload)
        start, aligned_end = offset - offset % unit, min(end + -end % unit, self.node.size_bytes)
        head = await self.file.read(start, offset - start) if start < offset else b""
        tail = await self.file.read(end, aligned_end - end) if end < aligned_end else b""
        await self.file.write(start, head + payload + tail, flags | WRITE_COMPRESSED)
