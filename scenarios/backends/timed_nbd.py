"""An NBD session whose every request has a deadline that names it."""

from __future__ import annotations

from scenarios.backends.interface import Extent, NbdClient
from scenarios.backends.processes import deadline


class TimedNbdClient:
    """`NbdClient`; every method raises DeadlinePassed besides NbdFailed."""

    def __init__(self, client: NbdClient, export: str, timeout_ns: int) -> None:
        self._client, self._export, self._timeout_ns = client, export, timeout_ns
        self.size, self.flags, self.contexts = client.size, client.flags, client.contexts
        self.block_sizes = client.block_sizes

    async def read(self, offset: int, length: int) -> bytes:
        async with deadline(f"NBD read of {length} at {offset} of {self._export!r}", self._timeout_ns):
            return await self._client.read(offset, length)

    async def write(self, offset: int, payload: bytes, fua: bool = False) -> None:
        async with deadline(f"NBD write of {len(payload)} at {offset} of {self._export!r}", self._timeout_ns):
            await self._client.write(offset, payload, fua)

    async def zero(self, offset: int, length: int, no_hole: bool = True) -> None:
        async with deadline(
            f"NBD write of zeroes, {length} at {offset} of {self._export!r}", self._timeout_ns
        ):
            await self._client.zero(offset, length, no_hole)

    async def trim(self, offset: int, length: int) -> None:
        async with deadline(f"NBD trim of {length} at {offset} of {self._export!r}", self._timeout_ns):
            await self._client.trim(offset, length)

    async def flush(self) -> None:
        async with deadline(f"NBD flush of {self._export!r}", self._timeout_ns):
            await self._client.flush()

    async def block_status(self, context: str, offset: int, length: int) -> list[Extent]:
        what = f"NBD block status {context} of {length} at {offset} of {self._export!r}"
        async with deadline(what, self._timeout_ns):
            return await self._client.block_status(context, offset, length)

    async def disconnect(self) -> None:
        async with deadline(f"NBD disconnect from {self._export!r}", self._timeout_ns):
            await self._client.disconnect()

    async def drop(self, after_request: tuple[int, int] | None = None) -> None:
        async with deadline(f"NBD request to {self._export!r} before going away", self._timeout_ns):
            await self._client.drop(after_request)
