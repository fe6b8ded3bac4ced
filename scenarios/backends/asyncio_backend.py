"""A backend whose machines are child processes: one event loop, one directory and one machine for each
run."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from scenarios.backends.asyncio_session import START_NS, AsyncioSession
from scenarios.backends.interface import Backend, DeadlinePassed, MachineGone, QmpRefused, Session, SetupError
from scenarios.backends.processes import deadline
from scenarios.backends.run_directory import RunDirectory
from scenarios.language.steps import Scenario

SCENARIO_NS = 300_000_000_000
_ORDERLY_END_NS = 10_000_000_000


class AsyncioBackend(Backend):
    """`start_ns` bounds the time from starting the program to its QMP greeting; `scenario_ns` a whole run."""

    def __init__(self, name: str, start_ns: int = START_NS, scenario_ns: int = SCENARIO_NS) -> None:
        self.name = name
        self.start_ns, self.scenario_ns = start_ns, scenario_ns
        self._introspection: list[Any] | None = None

    @property
    @abstractmethod
    def features(self) -> frozenset[str]:
        """As Session.features."""

    @abstractmethod
    def make_session(self, place: RunDirectory, scenario: Scenario) -> AsyncioSession:
        """A session that is not started yet. Raises SetupError if there is no such program."""

    def probe(self) -> tuple[frozenset[str], list[Any]]:
        if self._introspection is None:
            self.run(Scenario(name="probe", attach="none"), 0, _quit)
        assert self._introspection is not None
        return self.features, self._introspection

    def run(
        self, scenario: Scenario, seed: int, body: Callable[[Session], Coroutine[Any, Any, None]]
    ) -> None:
        with RunDirectory() as place, asyncio.Runner() as runner:
            runner.run(self._run(place, scenario, body))

    async def _run(
        self, place: RunDirectory, scenario: Scenario, body: Callable[[Session], Coroutine[Any, Any, None]]
    ) -> None:
        session = self.make_session(place, scenario)
        try:
            async with deadline(f"scenario {scenario.name!r} to end", self.scenario_ns):
                await session.prepare()
                await session.start()
                if self._introspection is None:
                    self._introspection = await self._introspect(session)
                session.introspection = self._introspection
                await body(session)
        finally:
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


async def _quit(session: Session) -> None:
    await session.qmp("quit")
    await session.wait_end(_ORDERLY_END_NS)
