"""The in-process simulator's control connection: QMP without a socket."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from scenarios.backends.interface import DeadlinePassed
from scenarios.backends.sim_clients import EXCHANGE_NS
from simulator.engine.task import Future
from simulator.machine import Machine
from simulator.monitor import board, monitor_objects
from simulator.monitor.chardev_backends import Chardev
from simulator.monitor.session import Session as Monitor

if TYPE_CHECKING:
    from scenarios.backends.sim_session import SimSession

_LOOK_AGAIN_NS = 200_000
# As the real backends start a machine: one for the runner, one for the watcher.
_MONITORS = ("qmp", "watched")
_WATCHED_SOCKET = "/run/watched.sock"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def furnish(machine: Machine) -> None:
    """What an option makes of itself in a machine that has a command line: monitors, then a board."""
    for name in _MONITORS:
        shows_place = name == "watched" and machine.version.queries.chardev_shows_peer
        chardev = Chardev("socket", "unix:" + (_WATCHED_SOCKET if shows_place else ""))
        chardev.in_use = True
        machine.chardevs[name] = chardev
        monitor_objects.announce(machine, "control")
    board.furnish(machine)


class SimMonitor:
    """`events` are all that came, oldest first, whichever client of the monitor they came to."""

    def __init__(self, session: SimSession) -> None:
        self._session = session
        self.events: list[dict[str, Any]] = []
        self._monitor: Monitor
        self._pending: list[Future] = []
        self._changing: Future | None = None  # done when another client is there

    def connect(self, machine: Machine) -> None:
        """To a machine that was just started."""
        self._pending.clear()
        self._monitor = machine.connect_monitor()
        self._monitor.on_output = self._on_output
        self._on_output()

    def _on_output(self) -> None:
        for line in self._monitor.take().splitlines():
            message = _decode(line)
            if "event" in message:
                self.events.append(message)
            elif "QMP" not in message:
                self._pending.pop(0).set_result(message)

    async def execute(self, command: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
        """The reply. Raises MachineGone, DeadlinePassed."""
        if self._changing is not None:
            await self._changing
        self._session.check_alive()
        return await self._ask(command, arguments)

    async def _ask(self, command: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        reply = self._session.new_future(f"the reply to {command}")
        self._pending.append(reply)
        self._session.into_machine(partial(self._monitor.receive, _encode(request)))
        message: dict[str, Any] = await self._session.within(reply, f"the reply to {command}", EXCHANGE_NS)
        return message

    async def change(self) -> None:
        """Another client, once no command is in flight. Raises MachineGone, DeadlinePassed."""
        session = self._session
        self._changing = changed = session.new_future("another monitor")
        try:
            until_ns = session.now_ns() + EXCHANGE_NS
            while self._pending:
                await session.sleep(_LOOK_AGAIN_NS)
                if session.now_ns() > until_ns:
                    raise DeadlinePassed("commands in flight to return", EXCHANGE_NS)
            await session.while_it_runs()
            self._monitor.on_output = lambda: None
            session.machine.disconnect_monitor(self._monitor)
            self.connect(session.machine)
            await self._ask("qmp_capabilities")
        finally:
            self._changing = None
            changed.set_result()

    def lose(self, error: Exception) -> None:
        """The machine is gone, and with it what commands wait for."""
        pending, self._pending = self._pending, []
        for reply in pending:
            if not reply.done():
                reply.set_exception(error)
