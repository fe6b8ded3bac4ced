"""What every server of a disk's storage has to be: the image file behind NBD, with one fault."""

from __future__ import annotations

from typing import Any, Protocol

# What is missing where a backend has no such server, in the words of Session.features.
FEATURE = "storage-server"
# A server cannot make its file longer, so it is given one with room: the tables of any image stay far below
# the second half, and nothing is allocated of what nobody writes.
_ROOM_FOR_TABLES_BYTES = 16 << 20


def served_bytes(image_format: str, disk_bytes: int, file_bytes: int) -> int:
    """The length that an image file has to have to be served to a machine that writes to it."""
    return file_bytes if image_format == "raw" else max(file_bytes, 2 * disk_bytes + _ROOM_FOR_TABLES_BYTES)


class StorageServer(Protocol):
    """A server that listens. A fault that only delays or refuses is there from the start; one that stops
    everything begins with `strike`, so that the machine can connect before."""

    address: dict[str, Any]  # as option `server` of driver nbd

    async def strike(self) -> None: ...

    async def heal(self) -> None:
        """From here on every request is answered, at the latest once what is left of the fault is used up.
        Nothing is asked of the machine."""

    async def close(self) -> None: ...
