"""What every real machine shares: a child process with a QMP socket, on asyncio."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from scenarios.backends import stacks
from scenarios.backends.asyncio_disks import EXCHANGE_NS, DiskSession
from scenarios.backends.asyncio_transport import connect_unix, connected_socket
from scenarios.backends.interface import (
    DeadlinePassed,
    Guest,
    MachineGone,
    NbdClient,
    QmpRefused,
    SetupError,
    Transport,
)
from scenarios.backends.launcher import Launch
from scenarios.backends.nbd_client import RAW_REPLY_NS, connect, hesitate, list_exports, raw
from scenarios.backends.processes import Sink, deadline
from scenarios.backends.qmp_link import LinkLost, QmpLink
from scenarios.backends.timed_nbd import TimedNbdClient
from scenarios.language.steps import Scenario
from scenarios.language.walk import walk

Result = TypeVar("Result")

START_NS = 10_000_000_000
_END_AFTER_EOF_NS = 5_000_000_000


class AsyncioSession(DiskSession):
    """One machine as a child process. Subclasses say how its command line looks and how its guest is
    reached.

    With a `host` there is no machine of its own: see shared_session.py.
    """

    def __init__(
        self,
        program: str,
        launch: Launch,
        scenario: Scenario,
        features: frozenset[str],
        start_ns: int = START_NS,
        host: AsyncioSession | None = None,
    ) -> None:
        self.directory = launch.place.machine
        self.introspection: list[Any] = []
        self.events: list[dict[str, Any]] = []
        self.nbd_path = str(self.directory / "nbd.sock")
        self._program, self._launch, self._scenario, self._features = program, launch, scenario, features
        self._start_ns = start_ns
        self._event_waiters: list[asyncio.Future[None]] = []
        self._starts = 0
        self._stacks_told = False
        self._began_ns = time.monotonic_ns()
        super().__init__(host)
        # The monitor that other clients than the first may connect to, for scenarios where some do.
        changes = any(step.fault is not None and step.fault.monitor for step in walk(scenario.steps))
        self._second_monitor = launch.place.path / "monitor.sock" if changes else None
        self._in_flight = 0
        self._idle, self._may_ask = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._may_ask.set()

    # -- what differs between machines

    @abstractmethod
    def command_line(self, control: str) -> list[str]:
        """Arguments after the program's name; its QMP monitor talks over a `socket` chardev with the option
        `control`."""

    @abstractmethod
    def make_guest(self, disk: str) -> Guest: ...

    def stdout_sink(self) -> Sink | None:
        """What takes the machine's standard output (as a terminal, so every line comes at once)."""
        return None

    # -- life and death

    def monitors(self, option: str, control: str) -> list[str]:
        """The chardevs of all control connections, each with what makes it a monitor; `option` goes before a
        chardev."""
        chardevs = {"qmp": f"socket,id=qmp,{control}", **self.watched_chardevs()}
        if self._second_monitor is not None:
            chardevs["qmp2"] = f"socket,id=qmp2,path={self._second_monitor},server=on,wait=off"
        return [word for name, each in chardevs.items() for word in (option, each, *self.monitor_of(name))]

    @abstractmethod
    def monitor_of(self, chardev: str) -> list[str]:
        """The option that makes a chardev a QMP monitor."""

    async def start(self) -> None:
        """Start the machine and negotiate QMP, within the start deadline. Raises SetupError."""
        self._starts += 1
        self._child, control = await self._launch.start_machine(
            self._program, self.command_line, self.stdout_sink()
        )
        self._child.ended.add_done_callback(lambda _: self.wake())
        self._link = QmpLink(self._child.name, self.take_event)
        try:
            async with deadline("its QMP greeting", self._start_ns):
                await self._link.connect(await control())
        except DeadlinePassed as error:
            await self._child.kill_and_wait()
            raise SetupError(
                f"{self._program}: never spoke on its QMP socket ({error});"
                f" standard error: {self._child.stderr.strip() or '(nothing)'}"
            ) from error
        except LinkLost as error:
            await self._await_end_or_kill()
            raise SetupError(
                f"{self._program}: ended before it answered: {self._child.describe()}"
            ) from error

    async def close(self) -> None:
        """Whatever state the machine is in: nothing of it is left afterwards, unless it is another's."""
        try:
            await self.forget_guests()
            if hasattr(self, "_link") and self._host is None:
                await self._link.close()
        finally:
            if hasattr(self, "_child") and self._host is None:
                await self._child.kill_and_wait()
            await self._end_storage()
            if self._host is None and not self.is_second:
                await self._launch.close()
            self.close_files()

    async def restart(self) -> None:
        if not self.ended():
            raise AssertionError("restart of a machine that still runs")
        await self.forget_guests()
        await self._link.close()
        await self._end_storage()
        Path(self.nbd_path).unlink(missing_ok=True)
        if self._second_monitor is not None:
            self._second_monitor.unlink(missing_ok=True)
        self.nbd_server_running = False
        self._stacks_told = False
        await self.start()

    async def kill(self) -> None:
        await self._child.kill_and_wait()
        await self._link.drain()

    async def pause(self, ns: int) -> None:
        self._child.signal(signal.SIGSTOP)
        try:
            await self.sleep(ns)
        finally:
            self._child.signal(signal.SIGCONT)

    async def change_monitor(self) -> None:
        if self._second_monitor is None:
            raise AssertionError("the scenario has no step that changes the monitor")
        self._may_ask.clear()
        try:
            async with deadline("commands in flight to return", EXCHANGE_NS):
                await self._idle.wait()
            await self._link.close()
            self._link = QmpLink(self._child.name, self.take_event)
            async with deadline("a QMP greeting of the second monitor", EXCHANGE_NS):
                await self._link.connect(await connected_socket(str(self._second_monitor)))
        except (LinkLost, OSError) as error:
            raise await self._gone(str(error)) from error
        finally:
            self._may_ask.set()

    async def wait_end(self, timeout_ns: int) -> tuple[int | None, str]:
        async with deadline(f"{self._child.name} to end", timeout_ns):
            status = await self._child.wait()
        await self._link.drain()
        return status, self._child.stderr

    def ended(self) -> bool:
        return self._child.status is not None

    async def stacks(self) -> str:
        """Told once; lanes whose deadlines pass together get it from the first of them."""
        if self._stacks_told:
            return ""
        self._stacks_told = True
        program = self._launch.on_host(self._program)
        if not self.ended():
            return await stacks.of_running(os.path.basename(self._program), self.directory, program)
        core = stacks.take_core(self.directory, self._launch.place.path)
        return await stacks.of_core(core, *program) if core and program else ""

    async def _await_end_or_kill(self) -> None:
        try:
            async with deadline("the machine to end", _END_AFTER_EOF_NS):
                await self._child.wait()
        except DeadlinePassed:
            await self._child.kill_and_wait()

    async def _gone(self, why: str) -> MachineGone:
        """What to raise after the control connection broke: almost always the process is ending."""
        try:
            async with deadline("the machine to end", _END_AFTER_EOF_NS):
                await self._child.wait()
        except DeadlinePassed:
            return MachineGone(f"{self._child.describe()}; but its control connection is lost: {why}")
        return MachineGone(self._child.describe())

    async def unless_gone(self, future: asyncio.Future[Result], waited_for: str, timeout_ns: int) -> Result:
        """Wait for `future`. Raises MachineGone if the machine ends first, DeadlinePassed."""
        async with deadline(waited_for, self._at_most(timeout_ns)):
            either: list[asyncio.Future[Any]] = [future, self._child.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise MachineGone(f"waited for {waited_for}: {self._child.describe()}")

    def _at_most(self, timeout_ns: int) -> int:
        return timeout_ns if self.longest_wait_ns is None else min(timeout_ns, self.longest_wait_ns)

    # -- commands

    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        await self._may_ask.wait()
        self._in_flight += 1
        self._idle.clear()
        try:
            async with deadline(f"reply to {command}", self._at_most(EXCHANGE_NS)):
                returned = await self._link.execute(command, arguments)
        except LinkLost as error:
            raise await self._gone(str(error)) from error
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        if command in ("nbd-server-start", "nbd-server-stop"):
            self.nbd_server_running = command == "nbd-server-start"
        return returned

    async def hmp(self, line: str) -> str:
        if "hmp" not in self._features:
            raise QmpRefused("CommandNotFound", "The command human-monitor-command has not been found")
        answer = str(await self.qmp("human-monitor-command", {"command-line": line})).replace("\r\n", "\n")
        command = line.split(maxsplit=1)[0] if line.strip() else ""
        if command in ("nbd_server_start", "nbd_server_stop") and not answer.strip():
            self.nbd_server_running = command == "nbd_server_start"
        return answer

    def printed(self) -> list[str]:
        return []

    def take_event(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.wake()

    def wake(self) -> None:
        for waiter in self._event_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._event_waiters.clear()

    async def wait_event(
        self, matches: Callable[[dict[str, Any]], bool], what: str, timeout_ns: int
    ) -> dict[str, Any]:
        seen = 0
        async with deadline(what, timeout_ns):
            while True:
                if self.ended():
                    await self._link.drain()
                for event in self.events[seen:]:
                    if matches(event):
                        return event
                seen = len(self.events)
                if self.ended():
                    raise MachineGone(f"waited for {what}: {self._child.describe()}")
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._event_waiters.append(waiter)
                await waiter

    # -- data

    async def nbd(self, export: str, contexts: Sequence[str] = (), hesitate_ns: int = 0) -> NbdClient:
        exchange_ns = self._at_most(EXCHANGE_NS)
        async with deadline(f"NBD negotiation of export {export!r}", exchange_ns + hesitate_ns):
            transport = await connect_unix(self.nbd_path)
            await hesitate(transport, self.sleep, hesitate_ns)
            client = await connect(transport, export, contexts)
        return TimedNbdClient(client, export, exchange_ns)

    async def nbd_transport(self) -> Transport:
        async with deadline("a connection to the NBD server", EXCHANGE_NS):
            return await connect_unix(self.nbd_path)

    async def nbd_exports(self) -> list[str]:
        async with deadline("NBD list of exports", self._at_most(EXCHANGE_NS)):
            return await list_exports(await connect_unix(self.nbd_path))

    async def nbd_raw(self, payload: bytes) -> bytes:
        """All that the server sent, its greeting of 18 bytes included."""
        transport = await connect_unix(self.nbd_path)
        async with deadline(
            "the NBD server to close the connection after garbage", self._at_most(RAW_REPLY_NS)
        ):
            return await raw(transport, payload)

    def guest(self, disk: str) -> Guest:
        if disk not in self._scenario.disks:
            raise AssertionError(f"no disk {disk}")
        return self.make_guest(disk)

    # -- time and concurrency

    async def sleep(self, ns: int) -> None:
        await asyncio.sleep(ns / 1e9)

    async def together(self, lanes: Sequence[Coroutine[Any, Any, None]]) -> None:
        failures: list[Exception] = []

        async def to_its_end(lane: Coroutine[Any, Any, None]) -> None:
            try:
                await lane
            except Exception as error:
                failures.append(error)

        await asyncio.gather(*map(to_its_end, lanes))
        if failures:
            raise failures[0]

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._began_ns

    # -- after the end

    @property
    def features(self) -> frozenset[str]:
        return self._features
