"""One machine's control connection: qemu.qmp's client, with events kept in the order of the stream."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from qemu.qmp import (
    ConnectError,
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    QMPClient,
    Runstate,
    StateError,
)
from qemu.qmp.error import ProtocolError
from qemu.qmp.message import Message

from scenarios.backends.interface import DeadlinePassed, QmpRefused
from scenarios.backends.processes import deadline

_DRAIN_NS = 2_000_000_000


class LinkLost(Exception):
    """The connection broke or never came up; str() is qemu.qmp's reason."""


class _Recorder(EventListener):
    """Hands every event on while the message that follows it is still unread."""

    def __init__(self, sink: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._sink = sink

    async def put(self, event: Message) -> None:
        self._sink(dict(event))


class _Client(QMPClient):
    """Without its log of all messages, whose text is made up whether anybody reads it or not: histories have
    them."""

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


class QmpLink:
    """A QMP session after capabilities negotiation. `on_event` gets every event before any later reply is
    seen; it may be set anew."""

    def __init__(self, name: str, on_event: Callable[[dict[str, Any]], None]) -> None:
        self.on_event = on_event
        self._client = _Client(name)
        self._client.register_listener(_Recorder(lambda event: self.on_event(event)))

    async def connect(self, connected: socket.socket) -> None:
        """Take the socket over, read the greeting, negotiate. Raises LinkLost."""
        try:
            await self._client.connect(connected)
        except (ConnectError, ProtocolError, OSError) as error:
            raise LinkLost(str(error)) from error

    async def execute(self, command: str, arguments: dict[str, Any] | None) -> Any:
        """The `return` member. Raises QmpRefused, LinkLost."""
        try:
            return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise QmpRefused(error.error_class, str(error)) from error
        except (ExecInterruptedError, StateError, ProtocolError, OSError) as error:
            raise LinkLost(str(error)) from error

    async def drain(self) -> None:
        """After the machine's end: take in what it still said, until its side is seen to be closed."""
        with contextlib.suppress(DeadlinePassed):
            async with deadline("end of the control connection", _DRAIN_NS):
                while self._client.runstate == Runstate.RUNNING:
                    await self._client.runstate_changed()

    async def close(self) -> None:
        """Never raises: why the connection broke has been told where it mattered."""
        with contextlib.suppress(Exception):
            await self._client.disconnect()
