"""An in-process machine with a monitor that a recorded session is played on."""

from __future__ import annotations

import contextlib
from typing import Any

from scenarios.backends.interface import DeadlinePassed, MonitorWire
from scenarios.backends.sim_session import SimSession
from scenarios.backends.watched_monitor import InProcessMonitor
from simulator.engine.task import Future


class WatchedSimSession(SimSession):
    """A session of the simulator that has `watched_monitor`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._watched: InProcessMonitor

    async def _start(self) -> None:
        await super()._start()
        self._watched = InProcessMonitor(self, self.machine.connect_monitor())

    async def watched_monitor(self) -> MonitorWire:
        return self._watched

    async def next_output(self, arrived: Future, until_ns: int) -> None:
        """Until `arrived` is done, something happens in the machine, or that time has come."""
        self._wait_for_events.append(arrived)
        with contextlib.suppress(DeadlinePassed):
            await self.within(arrived, "output of the machine", until_ns - self.scheduler.now_ns)
