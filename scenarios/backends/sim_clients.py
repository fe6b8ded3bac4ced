"""What reaches the in-process simulator without a socket: an NBD connection, and a guest's device."""

from __future__ import annotations

from collections.abc import Coroutine
from errno import errorcode
from functools import partial
from typing import TYPE_CHECKING, Any

from scenarios.backends.interface import NbdFailed, SetupError
from simulator.block.accounting import READ, WRITE
from simulator.block.backend import BlockBackend
from simulator.block.driver import MAY_UNMAP
from simulator.engine.task import Future

if TYPE_CHECKING:
    from scenarios.backends.sim_session import SimSession

EXCHANGE_NS = 30_000_000_000


class InProcessTransport:
    """An NBD connection to the machine, without a socket: `nbd_client.Transport`."""

    def __init__(self, session: SimSession, connection: Any, limit_ns: int = EXCHANGE_NS) -> None:
        """`limit_ns`: how long the server may be silent."""
        self._session, self._limit_ns = session, limit_ns
        self._connection = connection
        self._arrived: Future | None = None
        self._peeked = b""
        connection.on_output = self._wake

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result()

    async def send(self, payload: bytes | bytearray | memoryview, /) -> None:
        if self._connection.closed:
            raise BrokenPipeError("the server has closed the connection")
        self._session.into_machine(partial(self._connection.receive, bytes(payload)))

    async def peek(self) -> bytes:
        self._peeked = await self.receive()
        return self._peeked

    async def receive(self) -> bytes:
        peeked, self._peeked = self._peeked, b""
        if peeked:
            return peeked
        while True:
            payload: bytes = self._connection.output()
            if payload or self._connection.closed:
                return payload
            self._arrived = self._session.new_future("bytes from the NBD server")
            await self._session.within(self._arrived, "bytes from the NBD server", self._limit_ns)

    def close(self) -> None:
        self._session.into_machine(self._connection.receive_eof)

    def new_future(self) -> Future:
        return self._session.new_future("a reply of the NBD server")


async def outcome_of(request: Coroutine[Any, Any, Any]) -> Future:
    """What became of it, as a future that is done."""
    outcome = Future("a request that has ended")
    try:
        outcome.set_result(await request)
    except OSError as error:
        outcome.set_exception(error)
    return outcome


class SimGuest:
    """A disk as the guest's device sees it: requests straight into the device's backend. As with HMP qemu-io,
    reads and writes are counted (QEMU does not count its other requests)."""

    largest_request_bytes: int | None = None

    def __init__(self, session: SimSession, disk: str) -> None:
        self._session, self._disk, self._run = session, disk, session.as_machine

    def _backend(self) -> BlockBackend:
        self._session.check_alive()
        machine, disk = self._session.machine, self._disk
        device = machine.devices.find(f"{disk}-device")
        backend = device.backend if device is not None else machine.graph.backends.get(disk)
        if backend is None:
            raise SetupError(f"disk {disk} has no guest in this scenario (attach: none)")
        return backend

    async def read(self, offset: int, length: int) -> bytes | None:
        try:
            blk = self._backend()
            content: bytes = await self._run(blk.accounting.count(READ, length, blk.read(offset, length)))
            return content
        except OSError as error:
            raise _failed(error) from None

    async def verify(self, offset: int, length: int, pattern: int) -> bool:
        return await self.read(offset, length) == bytes((pattern,)) * length

    async def write(self, offset: int, length: int, pattern: int) -> None:
        try:
            blk = self._backend()
            await self._run(
                blk.accounting.count(WRITE, length, blk.write(offset, bytes((pattern,)) * length))
            )
        except OSError as error:
            raise _failed(error) from None

    async def zero(self, offset: int, length: int, unmap: bool) -> None:
        try:
            blk = self._backend()
            await self._run(blk.write_zeroes(offset, length, MAY_UNMAP if unmap else 0))
        except OSError as error:
            raise _failed(error) from None

    async def discard(self, offset: int, length: int) -> None:
        try:
            await self._run(self._backend().discard(offset, length))
        except OSError as error:
            raise _failed(error) from None

    async def flush(self) -> None:
        try:
            await self._run(self._backend().flush())
        except OSError as error:
            raise _failed(error) from None


def _failed(error: OSError) -> NbdFailed:
    return NbdFailed(errorcode.get(error.errno or 0, "EIO"), error.strerror or "")
