"""A unix socket as the Transport that the NBD client speaks through."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from scenarios.backends.interface import NbdFailed

_RECEIVE_BYTES = 1 << 18
_FULL_QUEUE_S = 0.002


class AsyncioTransport:
    """One connected stream socket, read by one task at a time and written by one task at a time.

    After `close`, which any task may call, a waiting receive returns b"" and a waiting send raises
    ConnectionAbortedError.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._descriptor = connected.fileno()
        self._loop = asyncio.get_running_loop()
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed = False

    async def send(self, payload: bytes | bytearray | memoryview) -> None:
        rest = memoryview(payload)
        while rest:
            if self._closed:
                raise ConnectionAbortedError(errno.ECONNABORTED, "the connection was closed on our side")
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await self._wait_writable()

    async def receive(self) -> bytes:
        return await self._receive(0)

    async def peek(self) -> bytes:
        return await self._receive(socket.MSG_PEEK)

    async def _receive(self, flags: int) -> bytes:
        while not self._closed:
            try:
                return self._socket.recv(_RECEIVE_BYTES, flags)
            except BlockingIOError:
                await self._wait_readable()
        return b""

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for waiter in (self._readable, self._writable):
            if waiter is not None:
                _wake(waiter)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
        self._socket.close()

    def new_future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()

    async def _wait_readable(self) -> None:
        self._readable = waiter = self._loop.create_future()
        self._loop.add_reader(self._descriptor, _wake, waiter)
        try:
            await waiter
        finally:
            self._readable = None
            if not self._closed:
                self._loop.remove_reader(self._descriptor)

    async def _wait_writable(self) -> None:
        self._writable = waiter = self._loop.create_future()
        self._loop.add_writer(self._descriptor, _wake, waiter)
        try:
            await waiter
        finally:
            self._writable = None
            if not self._closed:
                self._loop.remove_writer(self._descriptor)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def connect_unix(path: str) -> AsyncioTransport:
    """As `connected_socket`. Raises NbdFailed with the errno of connect(2), such as "ENOENT"."""
    try:
        return AsyncioTransport(await connected_socket(path))
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise NbdFailed(name, f"connect to {path}: {error.strerror}") from error


async def connected_socket(path: str) -> socket.socket:
    """A non-blocking socket. Raises OSError. Waits, under the caller's deadline, while the server's queue of
    connections is full (QEMU 5.2's holds only one)."""
    connecting = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        while True:
            # Not asyncio's sock_connect: it takes the EAGAIN of a full queue, unix(7), for "in progress".
            try:
                connecting.connect(path)
                return connecting
            except BlockingIOError:
                await asyncio.sleep(_FULL_QUEUE_S)
    except BaseException:
        connecting.close()
        raise
