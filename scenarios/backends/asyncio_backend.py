"""A backend whose machines are child processes: one event loop, one directory and one machine for each
run."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from scenarios.backends.asyncio_session import START_NS, AsyncioSession
from scenarios.backends.interface import Backend, DeadlinePassed, MachineGone, QmpRefused, Session, SetupError
from scenarios.backends.nbdkit import PROGRAM
from scenarios.backends.processes import deadline
from scenarios.backends.run_directory import RunDirectory
from scenarios.backends.storage import FEATURE
from scenarios.backends.watched_monitor import SocketMonitor
from scenarios.language.steps import Disk, Scenario

SCENARIO_NS = 300_000_000_000
_ORDERLY_END_NS = 10_000_000_000
_PROBE = "probe"
_PROBE_BYTES = 65536


def _of_this_host() -> frozenset[str]:
    return frozenset({FEATURE} if shutil.which(PROGRAM) else ())


class AsyncioBackend(Backend):
    """`start_ns` bounds the time from starting the program to its QMP greeting; `scenario_ns` a whole run."""

    def __init__(self, name: str, start_ns: int = START_NS, scenario_ns: int = SCENARIO_NS) -> None:
        self.name = name
        self.start_ns, self.scenario_ns = start_ns, scenario_ns
        self._introspection: list[Any] | None = None
        self._is_probed = False
        self._found: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def features(self) -> frozenset[str]:
        """As Session.features."""

    @abstractmethod
    def make_session(self, place: RunDirectory, scenario: Scenario) -> AsyncioSession:
        """A session that is not started yet. Raises SetupError if there is no such program."""

    def probe(self) -> tuple[frozenset[str], list[Any]]:
        if not self._is_probed:
            disk = Disk(size=_PROBE_BYTES, format="raw")
            self.run(Scenario(name="probe", disks={_PROBE: disk}), 0, self._look)
            self._is_probed = True
        assert self._introspection is not None
        return self.features | self._found | _of_this_host(), self._introspection

    async def _look(self, session: Session) -> None:
        """What no schema tells: a device's drive can be set while it runs since QEMU 6.2."""
        layer = {"driver": "raw", "node-name": f"{_PROBE}-layer", "file": _PROBE}
        with contextlib.suppress(QmpRefused):
            await session.qmp("blockdev-add", layer)
            await session.put_on_top(_PROBE, f"{_PROBE}-layer")
            self._found = frozenset({"moves"})
        await session.qmp("quit")
        await session.wait_end(_ORDERLY_END_NS)

    def run(
        self, scenario: Scenario, seed: int, body: Callable[[Session], Coroutine[Any, Any, None]]
    ) -> None:
        with RunDirectory() as place, asyncio.Runner() as runner:
            runner.run(self._run(place, scenario, body))

    async def _run(
        self, place: RunDirectory, scenario: Scenario, body: Callable[[Session], Coroutine[Any, Any, None]]
    ) -> None:
        session = self.make_session(place, scenario)
        if self.has_watched_monitor:
            session.watched = SocketMonitor(place.path / "watched.sock")
        try:
            async with deadline(f"scenario {scenario.name!r} to end", self.scenario_ns):
                await session.prepare()
                await session.start()
                if self._introspection is None:
                    self._introspection = await self._introspect(session)
                session.introspection = self._introspection
                await body(session)
        except DeadlinePassed as error:
            error.stacks = await session.stacks()
            raise
        finally:
            if session.watched is not None:
                session.watched.close()
            await session.close()

    async def _introspect(self, session: AsyncioSession) -> list[Any]:
        """The schema; empty on a machine from before QAPI introspection (QEMU 2.5). A machine that cannot
        even answer this is a set-up error, not a finding."""
        try:
            triple = (await session.qmp("query-version"))["qemu"]
            self.version = f"{triple['major']}.{triple['minor']}"
            return list(await session.qmp("query-qmp-schema"))
        except QmpRefused as error:
            if error.error_class == "CommandNotFound":
                return []
            raise SetupError(f"{self.name}: refused query-qmp-schema: {error}") from error
        except (MachineGone, DeadlinePassed) as error:
            raise SetupError(f"{self.name}: did not answer query-qmp-schema: {error}") from error
