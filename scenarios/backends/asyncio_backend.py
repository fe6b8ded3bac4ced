"""A backend whose machines are child processes: one event loop, one directory and one machine for each
run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from scenarios.backends import certificates
from scenarios.backends.asyncio_session import START_NS, AsyncioSession
from scenarios.backends.interface import (
    Backend,
    Body,
    DeadlinePassed,
    MachineGone,
    QmpRefused,
    Session,
    SetupError,
)
from scenarios.backends.launcher import Launch, Launcher
from scenarios.backends.nbdkit import PROGRAM
from scenarios.backends.processes import deadline
from scenarios.backends.rooms import can_mount
from scenarios.backends.run_directory import RunDirectory
from scenarios.backends.shared_machine import Kind, SharedMachine, can_share
from scenarios.backends.storage import FEATURE
from scenarios.backends.watched_monitor import SocketMonitor
from scenarios.language import destination
from scenarios.language.steps import Disk, Scenario

SCENARIO_NS = 300_000_000_000
_ORDERLY_END_NS = 10_000_000_000
_PROBE = "probe"
_PROBE_BYTES = 65536


def _of_this_host() -> frozenset[str]:
    return certificates.features() | ({FEATURE} if shutil.which(PROGRAM) else set())


def _can_fuse(session: Session) -> bool:
    """Whether its machine may mount by FUSE, and others can reach that. The simulator has no such exports,
    whatever the introspection of its version says."""
    is_in_reach = session.mounts_path != str(session.directory)
    return is_in_reach and os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)


class AsyncioBackend(Backend):
    """`program`: a path, or a name, which the launcher finds now. `start_ns` bounds the time from starting it
    to its QMP greeting; `scenario_ns` a whole run."""

    def __init__(
        self,
        name: str,
        program: str,
        launcher: Launcher,
        start_ns: int = START_NS,
        scenario_ns: int = SCENARIO_NS,
    ) -> None:
        self.name = name
        self._launcher, self._program = launcher, launcher.find(program)
        self.start_ns, self.scenario_ns = start_ns, scenario_ns
        self._introspection: list[Any] | None = None
        self._is_probed = False
        self._found: frozenset[str] = frozenset()
        self._shared: dict[Kind, SharedMachine] = {}
        self._last: Kind | None = None

    @property
    @abstractmethod
    def features(self) -> frozenset[str]:
        """As Session.features."""

    @abstractmethod
    def make_session(
        self, launch: Launch, scenario: Scenario, host: AsyncioSession | None = None
    ) -> AsyncioSession:
        """A session that is not started yet; with a `host`, to use the machine of that. Raises SetupError if
        there is no such program."""

    def probe(self) -> tuple[frozenset[str], list[Any]]:
        if not self._is_probed:
            disk = Disk(size=_PROBE_BYTES, format="raw")
            self.run(Scenario(name="probe", disks={_PROBE: disk}), 0, self._look)
            self._is_probed = True
        assert self._introspection is not None
        return self.features | self._found | _of_this_host(), self._introspection

    async def _look(self, session: Session) -> None:
        """What no schema tells: whether this program and the machine may mount, and whether a device's drive
        can be set while it runs (since QEMU 6.2)."""
        if can_mount(session.directory):
            self._found |= {"mounts"}
        if "real" in self.features and _can_fuse(session):
            self._found |= {"fuse"}
        layer = {"driver": "raw", "node-name": f"{_PROBE}-layer", "file": _PROBE}
        with contextlib.suppress(QmpRefused):
            await session.qmp("blockdev-add", layer)
            await session.put_on_top(_PROBE, f"{_PROBE}-layer")
            self._found |= {"moves"}
        await session.qmp("quit")
        await session.wait_end(_ORDERLY_END_NS)

    def kind_of(self, scenario: Scenario) -> Kind:
        """Which machine the scenario can share."""
        return Kind(scenario.guest)

    def can_share(self, scenario: Scenario) -> bool:
        return can_share(scenario)

    def run(self, scenario: Scenario, seed: int, body: Body, fresh: bool = True) -> None:
        if not fresh and self.can_share(scenario):
            self._run_shared(scenario, body)
            return
        self.company = self._last = None
        with RunDirectory() as place, asyncio.Runner() as runner:
            runner.run(self._run(place, scenario, body))

    async def _run(self, place: RunDirectory, scenario: Scenario, body: Body) -> None:
        launch = self._launcher.open(place)
        session = self.make_session(launch, scenario)
        machines = [session]
        if scenario.destination is not None:
            session.second = second = self.make_session(launch, destination.scenario_of(scenario))
            second.be_second(scenario.destination.images)
            machines.append(second)
        if self.has_watched_monitor:
            session.watched = SocketMonitor(place.path / "watched.sock")
        try:
            async with deadline(f"scenario {scenario.name!r} to end", self.scenario_ns):
                for each in machines:
                    await each.prepare()
                if scenario.certificates:
                    certificates.make(place.path / "certificates", scenario.certificates)
                    session.certificates_path = str(place.path / "certificates")
                for each in machines:
                    await each.start()
                session.introspection = await self._schema(session)
                await body(session)
        except DeadlinePassed as error:
            error.stacks = await session.stacks()
            raise
        finally:
            if session.watched is not None:
                session.watched.close()
            await _close_all(machines)

    def _run_shared(self, scenario: Scenario, body: Body) -> None:
        self.company = ()
        kind = self._last = self.kind_of(scenario)
        machine = self._shared.get(kind)
        if machine is None:
            machine = SharedMachine(self._launcher.open, self.make_session, self._schema, kind)
            self._shared[kind] = machine
        self.company = tuple(machine.served)
        try:
            machine.run(scenario, body, self.scenario_ns)
        finally:
            if not machine.usable:
                del self._shared[kind]
                machine.destroy()

    def retire_shared(self) -> None:
        machine = self._shared.pop(self._last, None) if self._last is not None else None
        if machine is not None:
            machine.end()

    def end_shared(self) -> list[str]:
        machines, self._shared = list(self._shared.values()), {}
        return [words for machine in machines for words in machine.end()]

    async def _schema(self, session: AsyncioSession) -> list[Any]:
        if self._introspection is None:
            self._introspection = await self._introspect(session)
        return self._introspection

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


async def _close_all(machines: Sequence[AsyncioSession]) -> None:
    """The first one last, and that whatever becomes of the others: what they share goes with it."""
    *others, first = reversed(machines)
    try:
        for each in others:
            await each.close()
    finally:
        await first.close()
