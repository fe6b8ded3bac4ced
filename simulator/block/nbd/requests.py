"""What the NBD server does for one request, and the extents it tells of (nbd/server.c: nbd_handle_request,
7.2)."""

from __future__ import annotations

from errno import EINVAL, EPERM
from os import strerror

from simulator.block.driver import MAY_UNMAP, NO_FALLBACK, STATUS_ALLOCATED, STATUS_DATA, STATUS_ZERO
from simulator.block.status import status_above
from simulator.wire.nbd import constants as nbd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from simulator.block.bitmap import DirtyBitmap
    from simulator.block.export import NbdExport
    from simulator.block.node import Node
    from simulator.wire.nbd.messages import Payload, Request
    from simulator.wire.nbd.server import ServerConnection

_INT32_MAX = (1 << 31) - 1
_INT64_MAX = (1 << 63) - 1
_UINT32_MAX = (1 << 32) - 1
_UINT64_MAX = (1 << 64) - 1


class ConnectionLostError(Exception):
    """The connection cannot go on: QEMU drops it, with this reason in its log."""


class _FailedError(Exception):
    """An answer with an errno; `text` None is what QEMU always says for that command."""

    def __init__(self, errno: int, text: str | None = None) -> None:
        super().__init__(errno, text)
        self.errno = errno
        self.text = text


async def handle(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    """Do it and put the reply into the connection's output. Raises ConnectionLostError."""
    try:
        if export.node.inactive and request.kind != nbd.CMD_READ:
            raise _FailedError(EPERM, "export is inactive")
        await _HANDLERS[request.kind](wire, export, request)
    except _FailedError as failed:
        wire.reply_error(request, failed.errno, failed.text)
    except OSError as error:
        wire.reply_error(request, error.errno or EINVAL)


async def _read(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    backend = export.backend
    if request.flags & nbd.CMD_FLAG_FUA:
        try:
            await backend.flush()
        except OSError as error:
            raise _FailedError(error.errno or EINVAL, "flush failed") from None
    if wire.structured and not request.flags & nbd.CMD_FLAG_DF and request.length:
        wire.reply_read(request, await _sparse(export, request.offset, request.length))
    else:
        payload = await backend.read(request.offset, request.length)
        wire.reply_read(request, [(request.length, payload)])


async def _sparse(export: NbdExport, offset: int, length: int) -> list[tuple[int, Payload | None]]:
    """(length, bytes), or (length, None) of what reads as zero without being read."""
    pieces: list[tuple[int, Payload | None]] = []
    while length:
        try:
            flags, count, _ = await status_above(export.node, None, offset, length)
        except OSError as error:
            number = error.errno or EINVAL
            raise _FailedError(number, f"unable to check for holes: {strerror(number)}") from None
        if flags & STATUS_ZERO:
            pieces.append((count, None))
        else:
            try:
                pieces.append((count, await export.backend.read(offset, count)))
            except OSError as error:
                # nbd_co_send_sparse_read cannot tell a failed disk from a failed socket.
                raise ConnectionLostError(f"reading from file failed: {strerror(error.errno or 0)}") from None
        offset += count
        length -= count
    return pieces


async def _write(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    assert request.payload is not None
    await export.backend.write(request.offset, bytes(request.payload))
    await _flush_after_write(export, request)
    wire.reply_done(request)


async def _flush_after_write(export: NbdExport, request: Request) -> None:
    if export.writethrough or request.flags & nbd.CMD_FLAG_FUA:
        await export.backend.flush()


async def _write_zeroes(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    flags = 0 if request.flags & nbd.CMD_FLAG_NO_HOLE else MAY_UNMAP
    if request.flags & nbd.CMD_FLAG_FAST_ZERO:
        flags |= NO_FALLBACK
    await export.backend.write_zeroes(request.offset, request.length, flags)
    await _flush_after_write(export, request)
    wire.reply_done(request)


async def _flush(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    await export.backend.flush()
    wire.reply_done(request)


async def _trim(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    await export.backend.discard(request.offset, request.length)
    if request.flags & nbd.CMD_FLAG_FUA:
        await export.backend.flush()
    wire.reply_done(request)


async def _cache(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    """QEMU looks whether the range is allocated, and reads nothing of what is."""
    if request.length:
        await status_above(export.node, export.node, request.offset, request.length, False)
    wire.reply_done(request)


async def _block_status(wire: ServerConnection, export: NbdExport, request: Request) -> None:
    limit = 1 if request.flags & nbd.CMD_FLAG_REQ_ONE else wire.policy.max_extents
    statuses: dict[int, Iterable[tuple[int, int]]] = {}
    for name, number in request.contexts.items():
        extents = ExtentList(limit, wire.extended)
        if name == "base:allocation":
            await _add_status(extents, export.node, request.offset, request.length, _base_allocation)
        elif name == "qemu:allocation-depth":
            await _add_status(extents, export.node, request.offset, request.length, _allocation_depth)
        else:
            # Numbers 0 and 1 are those two; the bitmaps follow in the order in which they were given.
            add_bitmap(extents, export.bitmaps[number - 2], request.offset, request.length)
        statuses[number] = extents.extents
    wire.reply_block_status(request, statuses)


class ExtentList:
    """At most `limit` extents (length, flags); neighbours of equal flags are one (nbd_extent_array_add).
    `extended`: their lengths have 64 bits."""

    __slots__ = ("extended", "extents", "limit", "longest")

    def __init__(self, limit: int, extended: bool = False) -> None:
        self.limit = limit
        self.extended = extended
        self.longest = _UINT64_MAX if extended else _UINT32_MAX
        self.extents: list[tuple[int, int]] = []

    def add(self, length: int, flags: int) -> bool:
        """False: there was no room, and nothing may follow."""
        if not length:
            return True
        extents = self.extents
        if extents:
            before, before_flags = extents[-1]
            if before_flags == flags and before + length <= self.longest:
                extents[-1] = (before + length, flags)
                return True
        if len(extents) >= self.limit:
            return False
        extents.append((length, flags))
        return True


async def _base_allocation(node: Node, offset: int, length: int) -> tuple[int, int]:
    flags, count, _ = await status_above(node, None, offset, length)
    no_hole = STATUS_ALLOCATED if node.graph.rules.hole_is_unallocated else STATUS_DATA
    state = 0 if flags & no_hole else nbd.STATE_HOLE
    return count, state | (nbd.STATE_ZERO if flags & STATUS_ZERO else 0)


async def _allocation_depth(node: Node, offset: int, length: int) -> tuple[int, int]:
    flags, count, depth = await status_above(node, None, offset, length, False)
    return count, depth if flags & STATUS_ALLOCATED else 0


async def _add_status(
    extents: ExtentList,
    node: Node,
    offset: int,
    length: int,
    ask: Callable[[Node, int, int], Awaitable[tuple[int, int]]],
) -> None:
    while length:
        count, flags = await ask(node, offset, length)
        if not extents.add(count, flags):
            return
        offset += count
        length -= count


def add_bitmap(extents: ExtentList, bitmap: DirtyBitmap, offset: int, length: int) -> None:
    """bitmap_to_extents."""
    end = offset + length
    most = _INT64_MAX if extents.extended else _INT32_MAX
    while (area := bitmap.next_dirty_area(offset, end, most)) is not None:
        dirty_offset, count = area
        if not extents.add(dirty_offset - offset, 0) or not extents.add(count, nbd.STATE_DIRTY):
            return
        offset = dirty_offset + count
    extents.add(end - offset, 0)


_HANDLERS = {
    nbd.CMD_READ: _read,
    nbd.CMD_WRITE: _write,
    nbd.CMD_FLUSH: _flush,
    nbd.CMD_TRIM: _trim,
    nbd.CMD_CACHE: _cache,
    nbd.CMD_WRITE_ZEROES: _write_zeroes,
    nbd.CMD_BLOCK_STATUS: _block_status,
}
