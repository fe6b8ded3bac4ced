"""Driver `throttle`: a filter that lets requests through at the speed of its group. Source: block/throttle.c,
7.2."""

from __future__ import annotations

from simulator.block.driver import Driver
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.throttle_groups import Member, ThrottleGroup


class Throttle(Driver):
    """Option `throttle-group`: the name of a throttle-group object."""

    format_name = "throttle"
    changeable_options = ("throttle-group",)
    is_filter = True
    supports_compressed_writes = True  # of what is below, at most
    hands_flush_on = True
    strong_options = ("throttle-group",)

    _member: Member | None = None

    async def open(self, options: dict[str, Any]) -> None:
        await super().open(options)
        self._join(self._group(options))

    async def close(self) -> None:
        if self._member is not None:
            self._member.group.leave(self._member)
            self._member = None

    def _group(self, options: dict[str, Any]) -> ThrottleGroup:
        name = options.get("throttle-group")
        if name is None:
            raise QmpError("Please specify a throttle group")
        group = self.node.graph.throttle_groups.get(name)
        if group is None:
            raise QmpError(f"Throttle group '{name}' does not exist")
        return group

    def _join(self, group: ThrottleGroup) -> None:
        self._member = group.join()
        self._member.disabled = self.node.quiesce_count

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        self._reopened = self._group(options)

    def reopen_commit(self) -> None:
        assert self._member is not None
        if self._reopened is not self._member.group:
            self._member.group.leave(self._member)
            self._join(self._reopened)

    # -- requests
    async def _pass(self, length: int, is_write: bool) -> None:
        assert self._member is not None
        await self._member.group.pass_through(self._member, length, is_write)

    async def read(self, offset: int, length: int) -> bytes:
        await self._pass(length, False)
        return await self.file.read(offset, length)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._pass(len(payload), True)
        await self.file.write(offset, payload, flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self._pass(length, True)
        await self.file.write_zeroes(offset, length, flags)

    async def discard(self, offset: int, length: int) -> None:
        await self._pass(length, True)
        await self.file.discard(offset, length)

    # -- drains
    follows_drains = True

    def drained_begin(self) -> None:
        if self._member is not None:
            self._member.group.drained_begin(self._member)

    def drained_end(self) -> None:
        if self._member is not None:
            self._member.group.drained_end(self._member)
