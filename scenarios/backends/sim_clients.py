"""What reaches the in-process simulator without a socket: an NBD connection, and a guest's device."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from errno import errorcode
from typing import TYPE_CHECKING, Any

from scenarios.backends.interface import NbdFailed
from simulator.block.backend import BlockBackend
from simulator.block.driver import MAY_UNMAP
from simulator.engine.task import Future

if TYPE_CHECKING:
    from scenarios.backends.sim import SimSession

EXCHANGE_NS = 30_000_000_000


class InProcessTransport:
    """An NBD connection to the machine, without a socket: `nbd_client.Transport`."""

    def __init__(self, session: SimSession, connection: Any) -> None:
        self._session = session
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
        self._connection.receive(bytes(payload))

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
            await self._session.within(self._arrived, "bytes from the NBD server", EXCHANGE_NS)

    def close(self) -> None:
        self._connection.receive_eof()

    def new_future(self) -> Future:
        return self._session.new_future("a reply of the NBD server")


class SimGuest:
    """A disk as the guest's device sees it: requests straight into the device's backend.

    `run` runs one as a task of the machine, so that it ends with the machine. Raises MachineGone."""

    largest_request_bytes: int | None = None

    def __init__(
        self,
        find_backend: Callable[[], BlockBackend],
        run: Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]],
    ) -> None:
        self._backend, self._run = find_backend, run

    async def _made(self, request: Coroutine[Any, Any, Any]) -> Any:
        answer, error = await self._run(_answer(request))
        if error is not None:
            raise NbdFailed(errorcode.get(error.errno or 0, "EIO"), error.strerror or "")
        return answer

    async def read(self, offset: int, length: int) -> bytes | None:
        content: bytes = await self._made(self._backend().read(offset, length))
        return content

    async def verify(self, offset: int, length: int, pattern: int) -> bool:
        return await self.read(offset, length) == bytes((pattern,)) * length

    async def write(self, offset: int, length: int, pattern: int) -> None:
        await self._made(self._backend().write(offset, bytes((pattern,)) * length))

    async def zero(self, offset: int, length: int, unmap: bool) -> None:
        await self._made(self._backend().write_zeroes(offset, length, MAY_UNMAP if unmap else 0))

    async def discard(self, offset: int, length: int) -> None:
        await self._made(self._backend().discard(offset, length))

    async def flush(self) -> None:
        await self._made(self._backend().flush())


async def _answer(request: Coroutine[Any, Any, Any]) -> tuple[Any, OSError | None]:
    try:
        return await request, None
    except OSError as error:
        return None, error
