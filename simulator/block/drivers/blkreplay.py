"""Driver `blkreplay`: a filter whose requests end in a later turn of the event loop, where a recording of the
machine would note them. Source: block/blkreplay.c, 7.2."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.driver import Driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Edge


class Blkreplay(Driver):
    """Machines here are never recorded."""

    format_name = "blkreplay"
    is_filter = True
    can_reopen = False
    hands_flush_on = True
    children = (("image", permissions.FILTERED | permissions.PRIMARY, True),)

    @property
    def file(self) -> Edge:
        return self.node.children["image"]

    async def _later(self) -> None:
        await self.node.graph.scheduler.loop_turn

    async def read(self, offset: int, length: int) -> bytes:
        payload = await super().read(offset, length)
        await self._later()
        return payload

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await super().write(offset, payload, flags)
        await self._later()

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await super().write_zeroes(offset, length, flags)
        await self._later()

    async def discard(self, offset: int, length: int) -> None:
        await super().discard(offset, length)
        await self._later()

    async def hand_flush_on(self) -> None:
        await super().hand_flush_on()
        await self._later()

    def actual_size_bytes(self) -> int | None:
        return self.file.node.driver.actual_size_bytes()
