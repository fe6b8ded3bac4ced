"""A guest whose disk is a writable NBD export: real requests of our own client, as many at once as it likes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scenarios.backends.interface import NbdClient

# The most that QEMU's server takes in one request (NBD_MAX_BUFFER_SIZE, include/block/nbd.h, 7.2). A kernel splits
# larger requests of a guest too.
LARGEST_REQUEST_BYTES = 32 << 20


def _pieces(offset: int, length: int) -> list[tuple[int, int]]:
    end = offset + length
    return [
        (start, min(LARGEST_REQUEST_BYTES, end - start))
        for start in range(offset, end, LARGEST_REQUEST_BYTES)
    ]


class NbdGuest:
    """`connect` gives the disk's open connection."""

    def __init__(self, connect: Callable[[], Awaitable[NbdClient]]) -> None:
        self._connect = connect

    async def read(self, offset: int, length: int) -> bytes | None:
        client = await self._connect()
        return b"".join([await client.read(*piece) for piece in _pieces(offset, length)])

    async def verify(self, offset: int, length: int, pattern: int) -> bool:
        client = await self._connect()
        for start, size in _pieces(offset, length):
            if await client.read(start, size) != pattern.to_bytes() * size:
                return False
        return True

    async def write(self, offset: int, length: int, pattern: int) -> None:
        client = await self._connect()
        for start, size in _pieces(offset, length):
            await client.write(start, pattern.to_bytes() * size)

    async def zero(self, offset: int, length: int, unmap: bool) -> None:
        await (await self._connect()).zero(offset, length, no_hole=not unmap)

    async def discard(self, offset: int, length: int) -> None:
        await (await self._connect()).trim(offset, length)

    async def flush(self) -> None:
        await (await self._connect()).flush()
