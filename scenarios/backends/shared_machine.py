"""One running machine for many scenarios, one after the other, each of which brings its own disks and takes
them away.

The machine is started without disks. What it answers then to every query that it has is what it must answer
again when a scenario has left; a machine that does not is ended, and so is one in which anything went wrong.
Its run directory is the same for all scenarios and is emptied after each.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

from scenarios.backends.asyncio_session import AsyncioSession
from scenarios.backends.interface import Body, DeadlinePassed, MachineGone, QmpRefused
from scenarios.backends.launcher import Launch
from scenarios.backends.machine_at_rest import COUNTERS
from scenarios.backends.processes import deadline
from scenarios.backends.run_directory import RunDirectory
from scenarios.language.steps import Scenario, Step
from scenarios.language.walk import walk

# Makes a session for a scenario, which uses the machine of another session if one is given.
MakeSession = Callable[[Launch, Scenario, AsyncioSession | None], AsyncioSession]
Introspect = Callable[[AsyncioSession], Coroutine[Any, Any, list[Any]]]

_ORDERLY_END_NS = 10_000_000_000
# After these steps the machine is not the one that it was.
_ENDING = ("crash", "ends", "quit")


class Kind(NamedTuple):
    """What scenarios must have in common that share a machine: who makes the guest's requests, and the names
    of its disks where the machine has devices for them from its start."""

    guest: Literal["requests", "linux"]
    disks: tuple[str, ...] = ()


def can_share(scenario: Scenario) -> bool:
    """Whether a scenario can be run in a machine that is there already, and leave it as it was: its disks
    come and go by commands (not: drives, which only a command line makes), none of its steps ends the
    machine or needs what only another has, and it may leave nothing in it. What else it does to the machine
    is seen when it has left."""
    return (
        scenario.attach != "drive"
        and not scenario.certificates
        and not scenario.incoming
        and scenario.destination is None
        and all(entry.startswith("file:") for entry in scenario.leaves)
        and not any(step.verb in _ENDING or _needs_more(step) for step in walk(scenario.steps))
    )


def _needs_more(step: Step) -> bool:
    """Another monitor, counters that begin at nought, processors that have never run, a machine that has not
    been told of a migration, or a file system that was mounted before it started."""
    if step.qmp is not None:
        return step.qmp.execute in (COUNTERS, "cont") or step.qmp.execute.startswith("migrate")
    if step.hmp is not None:
        return step.hmp.line.split()[:2] == ["info", "blockstats"]
    if step.fleece is not None:
        return step.fleece.room is not None
    return step.fault is not None and step.fault.monitor is not None


class SharedMachine:
    """Belongs to the process and the thread that made it. Raises SetupError if the machine does not start.

    `kind`: as every scenario in it will be. `served`: files (or names) of the scenarios that have
    been run in it, oldest first. `usable`: whether it is as it was at its start.
    """

    def __init__(
        self,
        open_launch: Callable[[RunDirectory], Launch],
        make_session: MakeSession,
        introspect: Introspect,
        kind: Kind,
    ) -> None:
        self.served: list[str] = []
        self.usable = True
        self._make_session = make_session
        self._place = RunDirectory()
        self._runner = asyncio.Runner()
        self._remover = ThreadPoolExecutor(1)
        try:
            self._launch = open_launch(self._place)
            empty = Scenario(name="no disks", attach="none", guest=kind.guest)
            self._host = make_session(self._launch, empty, None)
            self._host.parked = kind.disks
            self._runner.run(self._start(introspect))
        except BaseException:
            self.destroy()
            raise

    async def _start(self, introspect: Introspect) -> None:
        await self._host.start()
        await self._host.ready()
        self._host.introspection = await introspect(self._host)
        await self._host.note_rest()

    def run(self, scenario: Scenario, body: Body, scenario_ns: int) -> None:
        """As Backend.run."""
        self.usable = False
        try:
            self._runner.run(self._run(scenario, body, scenario_ns))
        finally:
            self.served.append(scenario.path or scenario.name)

    async def _run(self, scenario: Scenario, body: Body, scenario_ns: int) -> None:
        session = self._make_session(self._launch, scenario, self._host)
        try:
            async with deadline(f"scenario {scenario.name!r} to end", scenario_ns):
                await session.prepare()
                session.introspection = self._host.introspection
                await session.move_in()
                await body(session)
        except DeadlinePassed as error:
            error.stacks = await session.stacks()
            raise
        finally:
            await session.close()
        self._empty_directory()
        self.usable = session.has_left

    def _empty_directory(self) -> None:
        """Images and what else scenarios leave there; what they should not leave has been told by now.
        Removing them can take as long as a scenario, so that goes on beside the next one."""
        left = self._place.path / f"left-{len(self.served)}"
        left.mkdir()
        for path in self._place.machine.iterdir():
            path.rename(left / path.name)
        self._remover.submit(shutil.rmtree, left)

    def end(self) -> list[str]:
        """Let it quit, if it is as it was at its start. What was wrong with that, in words; nothing of it is
        left afterwards."""
        try:
            return self._runner.run(self._quit()) if self.usable else []
        finally:
            self.destroy()

    async def _quit(self) -> list[str]:
        try:
            with contextlib.suppress(MachineGone):  # it may go before its reply is out
                await self._host.qmp("quit")
            status, stderr = await self._host.wait_end(_ORDERLY_END_NS)
        except (QmpRefused, DeadlinePassed) as error:
            return [f"wanted it to quit, got {error}; {await self._host.stacks()}".rstrip("; ")]
        stacks = await self._host.stacks() if status != 0 else ""
        left = await self._host.left_behind()
        wrong = [f"left behind: {kind} {name} ({detail})" for kind, name, detail in left]
        if status != 0:
            said = stderr.strip() or "(nothing)"
            words = f"wanted exit status 0, got {status}; standard error: {said}"
            wrong.append(f"{words}\n{stacks}".rstrip())
        return wrong

    def destroy(self) -> None:
        """Whatever state it is in: nothing of it is left afterwards."""
        self.usable = False
        try:
            with contextlib.suppress(RuntimeError):  # the loop was closed, or never made
                if hasattr(self, "_host"):
                    self._runner.run(self._host.close())
            self._runner.close()
        finally:
            self._remover.shutdown()
            self._place.__exit__(None, None, None)
