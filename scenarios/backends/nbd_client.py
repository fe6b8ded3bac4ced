"""NBD sessions for scenarios: `NbdClient` of interface.py over any byte transport, without a loop of its own.

Whoever waits for a reply while nobody reads becomes the reader, and hands on every reply it comes
across; when it has its own, it wakes the next one to read. So any number of coroutines can share a
session, on asyncio as on the simulator's scheduler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from scenarios.backends.interface import Extent, NbdFailed, Transport, Waiter
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import ClientConnection, open_export
from simulator.wire.nbd.client import list_exports as listing
from simulator.wire.nbd.connection import CLOSED
from simulator.wire.nbd.messages import ConnectionEnded, OptionAnswered, ProtocolError, Ready, Reply, Request

# A server that is sent garbage closes the connection by then.
RAW_REPLY_NS = 10_000_000_000
_GREETING_BYTES = 18
_DEFAULT_BLOCK_SIZES = (1, 4096, 32 << 20)
_LONGEST_BYTES = 1 << 31  # of a request without payload: aligned, and fits 32 bits


class Client:
    """An open session (`NbdClient`). Made by `connect`."""

    def __init__(self, transport: Transport, connection: ClientConnection) -> None:
        self._transport = transport
        self._connection = connection
        self._reading = self._sending = False
        self._replies: dict[int, Reply] = {}
        self._sleepers: dict[int, Waiter] = {}
        self._failure: NbdFailed | None = None
        ready = connection.ready
        self.size = ready.size
        self.flags = ready.flags
        self.contexts = dict(ready.contexts)
        self.block_sizes = ready.block_sizes or _DEFAULT_BLOCK_SIZES

    # -- requests

    async def read(self, offset: int, length: int) -> bytes:
        pieces = []
        for start, piece_length in _pieces(offset, length, self.block_sizes[2]):
            reply = await self._ask(nbd.CMD_READ, start, piece_length)
            pieces.append(bytes(reply.payload))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def write(self, offset: int, payload: bytes, fua: bool = False) -> None:
        view = memoryview(payload)
        flags = nbd.CMD_FLAG_FUA if fua else 0
        for start, length in _pieces(offset, len(payload), self.block_sizes[2]):
            await self._ask(
                nbd.CMD_WRITE, start, length, view[start - offset : start - offset + length], flags
            )

    async def zero(self, offset: int, length: int, no_hole: bool = True) -> None:
        flags = nbd.CMD_FLAG_NO_HOLE if no_hole else 0
        for start, piece_length in _pieces(offset, length, _LONGEST_BYTES):
            await self._ask(nbd.CMD_WRITE_ZEROES, start, piece_length, None, flags)

    async def trim(self, offset: int, length: int) -> None:
        for start, piece_length in _pieces(offset, length, _LONGEST_BYTES):
            await self._ask(nbd.CMD_TRIM, start, piece_length)

    async def flush(self) -> None:
        await self._ask(nbd.CMD_FLUSH)

    async def block_status(self, context: str, offset: int, length: int) -> list[Extent]:
        """The extents of the range; neighbours of equal flags are one, and the last ends where the
        range does.
        """
        if context not in self.contexts:
            raise NbdFailed(
                "EINVAL", f"metadata context {context!r} is not negotiated, only {list(self.contexts)}"
            )
        context_id = self.contexts[context]
        extents: list[Extent] = []
        end = offset + length
        while offset < end:
            reply = await self._ask(nbd.CMD_BLOCK_STATUS, offset, min(end - offset, _LONGEST_BYTES))
            for extent_length, flags in reply.extents[context_id]:
                extent_length = min(extent_length, end - offset)
                if extents and extents[-1][2] == flags:
                    extents[-1] = (extents[-1][0], extents[-1][1] + extent_length, flags)
                elif extent_length:
                    extents.append((offset, extent_length, flags))
                offset += extent_length
        return extents

    async def disconnect(self) -> None:
        self._connection.disconnect()
        with suppress(NbdFailed):  # if the server went first, gone is gone
            await self._send()
        self._close("EOF", "the client disconnected")

    async def drop(self, after_request: tuple[int, int] | None = None) -> None:
        if after_request is not None and self._failure is None:
            self._connection.request(nbd.CMD_READ, *after_request)
            await self._send()
        self._close("EOF", "the client dropped the connection")

    # -- how a reply is waited for

    async def _ask(
        self, kind: int, offset: int = 0, length: int = 0, payload: memoryview | None = None, flags: int = 0
    ) -> Reply:
        if self._failure is not None:
            raise self._failure
        request = self._connection.request(kind, offset, length, payload, flags)
        await self._send()
        reply = await self._reply_to(request)
        if reply.error:
            name = nbd.ERRNO_NAMES.get(reply.error, "EINVAL")
            raise NbdFailed(name, f"{name}: {reply.text}" if reply.text else name)
        return reply

    async def _reply_to(self, request: Request) -> Reply:
        cookie, replies = request.cookie, self._replies
        try:
            while cookie not in replies:
                if self._failure is not None:
                    raise self._failure
                if self._reading:
                    sleeper = self._sleepers[cookie] = self._transport.new_future()
                    await sleeper
                else:
                    await self._read()
            return replies.pop(cookie)
        finally:
            # Also when this coroutine is cancelled: a reader that leaves hands the reading on.
            self._sleepers.pop(cookie, None)
            if not self._reading:
                self._wake_next()

    async def _read(self) -> None:
        self._reading = True
        try:
            received = await self._transport.receive()
            connection = self._connection
            self._take(connection.receive_data(received) if received else connection.receive_eof())
        except ProtocolError as error:
            self._close("EPROTO", str(error))
        except (OSError, NbdFailed) as error:
            self._close("EOF", str(error))
        finally:
            self._reading = False

    def _take(self, events: list[Any]) -> None:
        for event in events:
            if type(event) is Reply:
                cookie = event.request.cookie
                self._replies[cookie] = event
                self._wake(cookie)
            elif type(event) is ConnectionEnded:
                self._close("EOF", event.reason or "the server closed the connection")

    def _wake(self, cookie: int) -> None:
        sleeper = self._sleepers.pop(cookie, None)
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def _wake_next(self) -> None:
        """Wake the oldest sleeper; it finds that nobody reads."""
        for cookie in self._sleepers:
            self._wake(cookie)
            return

    def _close(self, errno_name: str, message: str) -> None:
        """Every request, open or to come, fails."""
        if self._failure is None:
            self._failure = NbdFailed(errno_name, message)
        self._transport.close()
        if self._connection.state != CLOSED:
            self._connection.disconnect()
        for cookie in list(self._sleepers):
            self._wake(cookie)

    async def _send(self) -> None:
        """Send what is queued. Only one sends at a time: buffers must not interleave."""
        if self._sending:
            return
        self._sending = True
        try:
            while output := self._connection.take_output():
                await self._transport.send(output[0] if len(output) == 1 else b"".join(output))
        except (OSError, NbdFailed) as error:
            self._close("EOF", str(error))
            assert self._failure is not None
            raise self._failure from error
        except BaseException:
            # Cancelled in the middle of a buffer: where the next request begins is lost.
            self._close("EOF", "sending was cancelled")
            raise
        finally:
            self._sending = False


def _pieces(offset: int, length: int, longest: int) -> list[tuple[int, int]]:
    if length <= longest:
        return [(offset, length)]
    end = offset + length
    return [(start, min(longest, end - start)) for start in range(offset, end, longest)]


# -- handshakes


async def _negotiate(transport: Transport, connection: ClientConnection) -> list[Any]:
    """All events until the connection is open or ended. Raises NbdFailed."""
    events: list[Any] = []
    try:
        while not (events and isinstance(events[-1], Ready | ConnectionEnded)):
            received = await transport.receive()
            events += connection.receive_data(received) if received else connection.receive_eof()
            if output := connection.take_output():
                await transport.send(b"".join(output))
    except ProtocolError as error:
        raise NbdFailed("EPROTO", str(error)) from error
    except (OSError, NbdFailed) as error:
        raise NbdFailed("EOF", str(error)) from error
    return events


def _refusal(events: list[Any], option: int) -> NbdFailed | None:
    """Why `option` was not granted."""
    for event in events:
        if isinstance(event, OptionAnswered) and event.option == option:
            if not event.error:
                return None
            name = nbd.REP_ERROR_NAMES.get(event.error, f"NBD_REP_ERR {event.error:#x}")
            return NbdFailed(name, f"{name}: {event.text}" if event.text else name)
    return NbdFailed("EOF", events[-1].reason)


async def hesitate(transport: Transport, sleep: Callable[[int], Awaitable[None]], ns: int) -> None:
    """Before `connect`: wait so long after the server's greeting has come."""
    if ns:
        await transport.peek()
        await sleep(ns)


async def connect(transport: Transport, export: str, contexts: Sequence[str] = ()) -> Client:
    """Open `export` with structured replies and metadata `contexts`. Raises NbdFailed; the
    transport is then closed.
    """
    connection = open_export(export, contexts)
    try:
        events = await _negotiate(transport, connection)
        if not isinstance(events[-1], Ready):
            raise _refusal(events, nbd.OPT_GO) or NbdFailed("EOF")
    except BaseException:
        transport.close()
        raise
    return Client(transport, connection)


async def list_exports(transport: Transport) -> list[str]:
    """The names that NBD_OPT_LIST gives; closes the transport. Raises NbdFailed."""
    try:
        events = await _negotiate(transport, listing())
        refusal = _refusal(events, nbd.OPT_LIST)
        if refusal is not None:
            raise refusal
        return [name for event in events if isinstance(event, OptionAnswered) for name, _ in event.names]
    finally:
        transport.close()


async def raw(transport: Transport, payload: bytes) -> bytes:
    """Send `payload` after the greeting; all that the server sent until it closed, its greeting included."""
    received = bytearray()
    try:
        while len(received) < _GREETING_BYTES:
            piece = await transport.receive()
            if not piece:
                return bytes(received)
            received += piece
        await transport.send(payload)
        while piece := await transport.receive():
            received += piece
    except (OSError, NbdFailed):
        pass  # a reset is how a server with unread input closes
    finally:
        transport.close()
    return bytes(received)
