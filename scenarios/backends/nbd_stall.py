"""NBD clients that stop in the middle of something and stay connected."""

from __future__ import annotations

from struct import pack

from scenarios.backends.interface import NbdFailed, Transport
from scenarios.backends.nbd_client import connect
from scenarios.language.steps import Stall
from simulator.wire.nbd import constants as nbd

_GREETING_BYTES = 18
_HALF_BYTES = 14  # of a request's header of 28
_REQUESTS, _REQUEST_BYTES = 32, 1 << 20  # together far more than sockets hold


async def stall(transport: Transport, export: str, at: Stall) -> None:
    """Go as far as `at` says. Raises NbdFailed, OSError if the server does not come along so far."""
    if at in ("idle", "request", "replies"):
        client = await connect(transport, export)
        if at == "idle":
            return
        if at == "replies":
            length = min(client.size, _REQUEST_BYTES)
            for cookie in range(_REQUESTS):
                await transport.send(_request(cookie, length))
            # Now the server is in the middle of a reply that no socket holds; before, it may not have begun.
            await transport.peek()
        else:
            await transport.send(_request(0, 512)[:_HALF_BYTES])
        return
    received = b""
    while len(received) < _GREETING_BYTES:
        piece = await transport.receive()
        if not piece:
            raise NbdFailed("EOF", "the server closed the connection before its greeting")
        received += piece
    if at != "greeting":
        await transport.send(pack(">I", nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES))
    if at == "option":
        await transport.send(nbd.OPTION_MAGIC + pack(">I", nbd.OPT_GO))


def _request(cookie: int, length: int) -> bytes:
    return pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.CMD_READ, cookie, 0, length)
