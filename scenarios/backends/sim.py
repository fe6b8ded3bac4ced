"""`sim:VERSION`: the simulator in this process, in virtual time, with files in memory and no sockets. The
runner's coroutines, clients and the machine share one scheduler, so a seed is an interleaving of them all."""

from __future__ import annotations

from typing import Any

from scenarios.backends import certificates, sim_tls
from scenarios.backends.interface import Backend, Body, DeadlinePassed, SetupError
from scenarios.backends.sim_session import SimSession
from scenarios.backends.storage import FEATURE
from scenarios.language import destination
from scenarios.language.steps import Scenario
from simulator import versions
from simulator.engine.scheduler import Stuck

PREFIX = "sim"
FORM = "sim:VERSION"


class SimBackend(Backend):
    """One version. Machines of different runs share nothing but the version's introspection."""

    def __init__(self, name: str, version: versions.Version) -> None:
        self.name = name
        self.version = f"{version.identity.major}.{version.identity.minor}"
        self._version = version

    @property
    def features(self) -> frozenset[str]:
        found = {"moves"} if self._version.block.drive_moves else set()
        found |= certificates.features()
        return frozenset(("hmp", "machine", "mounts", "processes", "simulator", FEATURE, *found))

    def probe(self) -> tuple[frozenset[str], list[Any]]:
        return self.features, self._version.schema("system").entries

    def _session(self, scenario: Scenario, seed: int) -> SimSession:
        from scenarios.backends.sim_watched import WatchedSimSession

        kind = WatchedSimSession if self.has_watched_monitor else SimSession
        session = kind(self._version, scenario, self.features, seed)
        if scenario.destination is not None:
            second = SimSession(
                self._version, destination.scenario_of(scenario), self.features, seed, first=session
            )
            second.shares_images = scenario.destination.images == "shared"
            session.second = second
        return session

    def run(self, scenario: Scenario, seed: int, body: Body, fresh: bool = True) -> None:
        session = self._session(scenario, seed)

        async def whole() -> None:
            await session.prepare()
            if isinstance(session.second, SimSession):
                await session.second.prepare()
            await body(session)

        with sim_tls.made(session.host, scenario.certificates) as session.certificates_path:
            task = session.scheduler.spawn(whole(), "scenario")
            try:
                session.scheduler.run_until(task)
            except Stuck as stuck:
                raise DeadlinePassed(str(stuck), 0) from None


def open_backend(name: str, argument: str) -> Backend:
    """`argument`: the version. Raises SetupError naming the known ones."""
    try:
        return SimBackend(name, versions.load(argument))
    except versions.UnknownVersion as error:
        raise SetupError(f"{name}: {error}; the form is {FORM}") from None
