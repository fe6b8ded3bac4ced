"""A guest whose disk is a writable NBD export: real requests of our own client, as many at once as it
likes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scenarios.backends.interface import NbdClient


class NbdGuest:
    """`connect` gives the disk's open connection."""

    largest_request_bytes: int | None = None

    def __init__(self, connect: Callable[[], Awaitable[NbdClient]]) -> None:
        self._connect = connect

    async def read(self, offset: int, length: int) -> bytes | None:
        return await (await self._connect()).read(offset, length)

    async def verify(self, offset: int, length: int, pattern: int) -> bool:
        return await self.read(offset, length) == pattern.to_bytes() * length

    async def write(self, offset: int, length: int, pattern: int) -> None:
        await (await self._connect()).write(offset, pattern.to_bytes() * length)

    async def zero(self, offset: int, length: int, unmap: bool) -> None:
        await (await self._connect()).zero(offset, length, no_hole=not unmap)

    async def discard(self, offset: int, length: int) -> None:
        await (await self._connect()).trim(offset, length)

    async def flush(self) -> None:
        await (await self._connect()).flush()
