"""Driver `commit_top`: stands above what a commit job takes away, and needs nothing of it, so that the layers
below may be written to while they are read through it. Source: block/commit.c:235, 7.2."""

from __future__ import annotations

from errno import ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.drivers.backing_filter import BackingFilter


class CommitTop(BackingFilter):
    format_name = "commit_top"

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        return 0, permissions.ALL

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        raise OSError(ENOTSUP, strerror(ENOTSUP))

    async def discard(self, offset: int, length: int) -> None:
        """The driver has none: nothing happens."""
