"""A QMP monitor beside the one that the runner uses: its bytes are seen as they come, and nothing is said on
it that a session does not say."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from struct import unpack
from typing import TYPE_CHECKING

from scenarios.backends.interface import MonitorWire, Session
from scenarios.backends.processes import deadline
from simulator.engine.task import Future

if TYPE_CHECKING:
    from scenarios.backends.sim_watched import WatchedSimSession
    from simulator.monitor.session import Session as QmpSession

_CONNECTED_NS = 10_000_000_000
_DUMPED_NS = 5_000_000_000
_READ_BYTES = 1 << 18
# A host's timers are late by about that: what falls due at the same time as who waits is done by then.
_LATE_NS = 100_000


class SocketMonitor:
    """`interface.MonitorWire`. The machine is the client of a socket that is there before it, so that nobody
    has to look for one to appear; `path` may be mounted elsewhere at the same place."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        self._listener.listen()
        self.option = f"path={path}"
        self.closed = False
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._arrived = asyncio.Event()

    async def connected(self) -> SocketMonitor:
        """Itself, once the machine has been started. Raises DeadlinePassed."""
        loop = asyncio.get_running_loop()
        async with deadline("the machine to connect its watched monitor", _CONNECTED_NS):
            self._socket, _ = await loop.sock_accept(self._listener)
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._read)
        return self

    def send(self, payload: bytes) -> None:
        """What a machine does not read in time is lost: a session says little at a time."""
        assert self._socket is not None
        with contextlib.suppress(OSError):
            self._socket.sendall(payload)

    def take(self) -> bytes:
        taken = bytes(self._received)
        self._received.clear()
        self._arrived.clear()
        return taken

    async def more(self, timeout_ns: int) -> bool:
        if not self.closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), timeout_ns / 1e9)
        if not self._arrived.is_set() and self._is_dying():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), _DUMPED_NS / 1e9)
        return bool(self._received) or self.closed

    def _is_dying(self) -> bool:
        """A process that has aborted keeps its sockets until its core is written."""
        assert self._socket is not None
        pid, _, _ = unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        try:
            return "CoreDumping:\t1" in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False

    def _read(self) -> None:
        assert self._socket is not None
        try:
            piece = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._received += piece
        if not piece:
            self.closed = True
            asyncio.get_running_loop().remove_reader(self._socket)
        self._arrived.set()

    def close(self) -> None:
        """Inside the loop that it was connected in."""
        self._listener.close()
        if self._socket is not None:
            if not self.closed:
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()


class WatchedSession(Session):
    """A session whose machine has such a monitor if `watched` was set before it started."""

    watched: SocketMonitor | None = None

    async def watched_monitor(self) -> MonitorWire:
        return await (self.watched.connected() if self.watched else super().watched_monitor())

    def watched_chardevs(self) -> dict[str, str]:
        return {"watched": f"socket,id=watched,{self.watched.option}"} if self.watched else {}


class InProcessMonitor:
    """`interface.MonitorWire` to a simulated machine, in virtual time."""

    def __init__(self, session: WatchedSimSession, monitor: QmpSession) -> None:
        self._session, self._monitor = session, monitor
        self._arrived: Future | None = None
        self._received = bytearray()
        monitor.on_output = self._wake
        self._received += monitor.take()

    @property
    def closed(self) -> bool:
        return self._session.ended()

    def send(self, payload: bytes) -> None:
        self._monitor.receive(payload)

    def take(self) -> bytes:
        self._session.machine.flush_events()
        self._received += self._monitor.take()
        taken = bytes(self._received)
        self._received.clear()
        return taken

    async def more(self, timeout_ns: int) -> bool:
        until_ns = self._session.now_ns() + timeout_ns + _LATE_NS
        while True:
            # An event is handed over when somebody looks.
            self._session.machine.flush_events()
            self._received += self._monitor.take()
            if self._received or self.closed or self._session.now_ns() >= until_ns:
                return bool(self._received) or self.closed
            self._arrived = self._session.new_future("the watched monitor")
            await self._session.next_output(self._arrived, until_ns)

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result()
