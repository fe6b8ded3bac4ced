"""Connecting to servers that are slow to accept, or are not there."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from scenarios.backends.asyncio_transport import connect_unix
from scenarios.backends.interface import DeadlinePassed, NbdFailed
from scenarios.backends.processes import deadline


def server(path: Path) -> socket.socket:
    """Its queue holds one connection, as that of QEMU 5.2's NBD server; nobody accepts yet."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(0)
    return listening


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    async def body() -> None:
        with server(tmp_path / "s") as listening:
            first = await connect_unix(str(tmp_path / "s"))
            waiting = asyncio.create_task(connect_unix(str(tmp_path / "s")))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            listening.accept()[0].close()
            second = await asyncio.wait_for(waiting, 10)
            with listening.accept()[0] as accepted:
                await second.send(b"second")
                assert accepted.recv(99) == b"second"
            first.close()
            second.close()

    asyncio.run(body())


def test_a_queue_that_stays_full_ends_at_the_deadline(tmp_path: Path) -> None:
    async def body() -> None:
        with server(tmp_path / "s"):
            first = await connect_unix(str(tmp_path / "s"))
            with pytest.raises(DeadlinePassed):
                async with deadline("a place in the queue", 50_000_000):
                    await connect_unix(str(tmp_path / "s"))
            first.close()

    asyncio.run(body())


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NbdFailed) as caught:
        asyncio.run(connect_unix(str(tmp_path / "s")))
    assert caught.value.errno_name == "ENOENT"
