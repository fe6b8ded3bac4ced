"""Driver `nbd`: storage behind an NBD server. Source: block/nbd.c, 7.2."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOTSUP
from os import strerror

from simulator.block.driver import (
    MAY_UNMAP,
    NO_FALLBACK,
    STATUS_DATA,
    STATUS_OFFSET_VALID,
    STATUS_ZERO,
    Driver,
)
from simulator.block.errors import QmpError
from simulator.block.nbd.client import NbdClient
from simulator.block.nbd.link import NbdLink
from simulator.block.nbd.tls import CLIENT, find_context
from simulator.wire.nbd import constants as nbd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from simulator.block.driver import DriverStatus
    from simulator.block.nbd.tls import TlsSession

_SECTOR_BYTES = 512
_MOST_BYTES = 32 << 20  # NBD_MAX_BUFFER_SIZE
_LONGEST_BYTES = (1 << 31) - 1  # of a request that carries nothing
_ANY_LENGTH = (1 << 63) - 1
_LONGEST_TEXT_BYTES = 4096  # NBD_MAX_STRING_SIZE
_LONGEST_NAME = 4095  # of a node's file name
_BOUNCE_BYTES = 32768 * _SECTOR_BYTES  # MAX_BOUNCE_BUFFER
_DEPTH = "qemu:allocation-depth"


class Nbd(Driver):
    """Options `server` (SocketAddress), `export`, `tls-creds` and `tls-hostname`, `x-dirty-bitmap` (a
    metadata context told as block status), `reconnect-delay` and `open-timeout` (seconds)."""

    format_name = "nbd"
    is_protocol = names_files = True
    children = ()
    strong_options = ("export", "tls-creds", "tls-hostname", "server")

    _client: NbdClient

    async def open(self, options: dict[str, Any]) -> None:
        for name, words in (
            ("export", "export name too long to send to server"),
            ("x-dirty-bitmap", "x-dirty-bitmap query too long to send to server"),
        ):
            if len(str(options.get(name, "")).encode()) > _LONGEST_TEXT_BYTES:
                raise QmpError(words)
        self._address: dict[str, Any] = options["server"]
        new_tls = self._tls_maker(options) if "tls-creds" in options else None
        if self._address["type"] == "fd" and not self._address["str"].isdecimal():
            raise QmpError(f"File descriptor named '{self._address['str']}' has not been found")
        if self._address["type"] not in ("unix", "inet"):
            raise QmpError(f"socket type '{self._address['type']}' is not simulated")
        self._export: str | None = options.get("export")
        self._context: str = options.get("x-dirty-bitmap", "base:allocation")
        self._must_have_context = "x-dirty-bitmap" in options
        graph = self.node.graph

        def connect() -> NbdLink:
            extended = graph.rules.nbd_extended_headers
            return NbdLink(graph.host, self._address, self._export or "", self._context, new_tls, extended)

        self._client = NbdClient(
            graph.scheduler, connect, int(options.get("reconnect-delay", 0)), self._look_at
        )
        try:
            await self._client.open(int(options.get("open-timeout", 0)))
        except OSError as error:
            raise QmpError(f"Could not open image: {error.strerror}") from None
        self.node.size_bytes = self._size_bytes + -self._size_bytes % _SECTOR_BYTES

    def _tls_maker(self, options: dict[str, Any]) -> Callable[[], TlsSession]:
        """Raises QmpError."""
        context = find_context(self.node.graph.objects, options["tls-creds"], CLIENT)
        if self.node.graph.rules.tls_over_ip_only and self._address["type"] != "inet":
            raise QmpError("TLS only supported over IP sockets")
        # A server on the network has the name that it is reached by; one on a unix socket has none.
        hostname = str(options.get("tls-hostname", self._address.get("host", "")))
        return lambda: context.session(hostname, None)

    def _look_at(self, link: NbdLink) -> int:
        """nbd_handle_updated_info: 0, or an errno."""
        ready, node = link.ready, self.node
        if self._must_have_context and not ready.contexts:
            return EINVAL
        if ready.flags & nbd.FLAG_READ_ONLY and not node.read_only:
            if not node.auto_read_only:
                return EACCES
            node.read_only = True
        self._size_bytes, self._flags = ready.size, ready.flags
        self._context_id = ready.contexts.get(self._context)
        most = ready.block_sizes[2] if ready.block_sizes else _MOST_BYTES
        self._most_bytes = min(_MOST_BYTES, most)
        # nbd_refresh_limits: a server with extended headers takes any length of what carries nothing.
        self._most_zeroes = _ANY_LENGTH if ready.extended else self._most_bytes
        self._longest = _ANY_LENGTH if ready.extended else _LONGEST_BYTES
        return 0

    async def close(self) -> None:
        self._client.close()

    async def reopen_prepare(self, options: dict[str, Any], read_only: bool) -> None:
        if not read_only and self._flags & nbd.FLAG_READ_ONLY:
            raise QmpError("Can't reopen read-only NBD mount as read/write")

    def cancel_in_flight(self) -> None:
        self._client.stop_waiting()

    # -- requests
    def _pieces(self, offset: int, length: int, longest: int) -> Iterator[tuple[int, int]]:
        for start in range(offset, offset + length, longest):
            yield start, min(longest, offset + length - start)

    async def read(self, offset: int, length: int) -> bytes:
        """What the block layer rounded the size up by reads as zero."""
        pieces = []
        inside = max(0, min(length, self._size_bytes - offset))
        for start, count in self._pieces(offset, inside, self._most_bytes):
            reply = await self._client.request(nbd.CMD_READ, start, count)
            pieces.append(bytes(reply.payload))
        if inside < length:
            pieces.append(bytes(length - inside))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        view = memoryview(payload)
        for start, count in self._pieces(offset, len(payload), self._most_bytes):
            piece = view[start - offset : start - offset + count]
            await self._client.request(nbd.CMD_WRITE, start, count, piece)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        can, fast = self._flags & nbd.FLAG_SEND_WRITE_ZEROES, self._flags & nbd.FLAG_SEND_FAST_ZERO
        if flags & NO_FALLBACK and not (can and fast):
            raise OSError(ENOTSUP, strerror(ENOTSUP))
        for start, count in self._pieces(offset, length, self._most_zeroes):
            if not can or not await self._zero(start, count, flags):
                for at, part in self._pieces(start, count, min(self._most_bytes, _BOUNCE_BYTES)):
                    await self._client.request(nbd.CMD_WRITE, at, part, bytes(part))

    async def _zero(self, offset: int, length: int, flags: int) -> bool:
        """False: the server cannot, and zeroes are to be written like anything else."""
        wire = 0 if flags & MAY_UNMAP else nbd.CMD_FLAG_NO_HOLE
        if flags & NO_FALLBACK:
            wire |= nbd.CMD_FLAG_FAST_ZERO
        try:
            await self._client.request(nbd.CMD_WRITE_ZEROES, offset, length, None, wire)
        except OSError as error:
            if error.errno != ENOTSUP or flags & NO_FALLBACK:
                raise
            return False
        return True

    async def discard(self, offset: int, length: int) -> None:
        if self._flags & nbd.FLAG_SEND_TRIM:
            for start, count in self._pieces(offset, length, self._longest):
                await self._client.request(nbd.CMD_TRIM, start, count)

    async def flush(self) -> None:
        """Always, whether anything was written or not (bdrv_co_flush_to_os)."""
        if self._flags & nbd.FLAG_SEND_FLUSH:
            await self._client.request(nbd.CMD_FLUSH)

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        if self._context_id is None:
            return length, STATUS_DATA | STATUS_OFFSET_VALID, None, offset
        if offset >= self._size_bytes:
            return length, STATUS_ZERO, None, offset
        asked = min(self._longest, length, self._size_bytes - offset)
        reply = await self._client.request(nbd.CMD_BLOCK_STATUS, offset, asked, None, nbd.CMD_FLAG_REQ_ONE)
        covered, said = reply.extents[self._context_id][0]
        if self._context == _DEPTH and said > 2:
            said = 2
        flags = STATUS_OFFSET_VALID
        flags |= 0 if said & nbd.STATE_HOLE else STATUS_DATA
        flags |= STATUS_ZERO if said & nbd.STATE_ZERO else 0
        return min(covered, length), flags, None, offset

    async def truncate(self, size_bytes: int, exact: bool = False, preallocation: str = "off") -> None:
        if size_bytes != self._size_bytes and exact:
            raise QmpError("Cannot resize NBD nodes")
        if size_bytes > self._size_bytes:
            raise QmpError("Cannot grow NBD nodes")

    # -- what others may ask
    @property
    def filename(self) -> str:
        address, export = self._address, self._export
        name = ""
        if address["type"] == "unix":
            path = address["path"]
            name = f"nbd+unix://?socket={path}" if export is None else f"nbd+unix:///{export}?socket={path}"
        elif address["type"] == "inet" and not {"ipv4", "ipv6", "to"} & set(address):
            place = f"{address['host']}:{address['port']}"
            name = f"nbd://{place}" if export is None else f"nbd://{place}/{export}"
        return name if len(name.encode()) <= _LONGEST_NAME else ""

    def actual_size_bytes(self) -> int | None:
        return None
