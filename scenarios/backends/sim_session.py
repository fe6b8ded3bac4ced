"""A machine of the in-process simulator, with its files and its clients."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, cast

from scenarios.backends import nbd_client, sim_disks
from scenarios.backends.interface import (
    DeadlinePassed,
    Guest,
    MachineGone,
    NbdClient,
    NbdFailed,
    QmpRefused,
    Session,
    Transport,
)
from scenarios.backends.rooms import rooms_of
from scenarios.backends.sim_clients import EXCHANGE_NS, InProcessTransport, SimGuest, outcome_of
from scenarios.backends.sim_meeting import Meeting
from scenarios.backends.sim_monitor import SimMonitor, furnish
from scenarios.backends.sim_storage import SimStorage
from scenarios.backends.sim_tools import create_image, run_tool
from scenarios.backends.storage import StorageServer
from scenarios.language.steps import Fault, Scenario
from simulator import image_tool, versions
from simulator.block.host import HostProcess
from simulator.block.memory_host import MemoryHost
from simulator.engine.chance import Chance
from simulator.engine.domain import Domain
from simulator.engine.scheduler import Scheduler
from simulator.engine.task import Future
from simulator.machine import Machine
from simulator.serve.tls_sessions import make_context

_DIRECTORY = "/run"


class SimSession(Session):
    """One simulated machine, its files and its clients."""

    def __init__(
        self,
        version: versions.Version,
        scenario: Scenario,
        features: frozenset[str],
        seed: int,
        first: SimSession | None = None,
    ) -> None:
        self.directory = Path(_DIRECTORY)
        self._suffix = "" if first is None else "-destination"
        self.nbd_path = f"{_DIRECTORY}/nbd{self._suffix}.sock"
        self.introspection = version.schema("system").entries
        self._first = first
        self.scheduler: Scheduler = (
            Scheduler(Chance(seed) if seed else None) if first is None else first.scheduler
        )
        self.host: MemoryHost = MemoryHost(cwd=_DIRECTORY) if first is None else first.host
        self.host.later = self._later
        self.shares_images = False
        self._starts = 0
        self._version, self._scenario, self._features, self._seed = version, scenario, features, seed
        self._qmp = SimMonitor(self)
        self._wait_for_events: list[Future] = []
        self._stopped: Future | None = None  # done when the machine goes on
        self._known_files: set[str] = set()
        self._status: int | None = None
        self._storage: list[SimStorage] = []

    def _later(self, act: Callable[[], None]) -> None:
        self.scheduler.call_at(self.scheduler.now_ns, act)

    # -- life
    async def prepare(self) -> None:
        """Make the images and start the machine. Raises SetupError."""
        for room, size in rooms_of(self._scenario).items():
            self.host.mount(f"{_DIRECTORY}/{room}", size)
        for name, disk in self._scenario.disks.items():
            if not self.shares_images:
                create_image(self.host, self.image_name(name), disk)
        for each in (self, self._first or self):
            each._known_files = set(self.host.files())
        await self._start()

    @property
    def _image_suffix(self) -> str:
        return "" if self.shares_images else self._suffix

    def image_name(self, disk: str) -> str:
        return f"{_DIRECTORY}/{disk}{self._image_suffix}.{self._scenario.disks[disk].format}"

    async def _start(self) -> None:
        self._process = HostProcess(self.host)
        self._domain = Domain(self.scheduler)
        self._status = None
        self.nbd_server_running = False
        self.machine = machine = Machine(
            self._version, self._process, seed=self._seed, scheduler=cast(Scheduler, self._domain)
        )
        if self._scenario.certificates:
            machine.make_tls = make_context
        self._starts += 1
        waits = self._scenario.incoming and self._starts == 1
        machine.run_state = "inmigrate" if waits else "prelaunch"
        machine.runs_on_arrival = False
        furnish(machine)
        if self.second is not None or self._first is not None:
            Meeting(machine)
        machine.outbox.on_event, machine.on_end = self._on_event, self._on_end
        for name, disk in self._scenario.disks.items():
            await sim_disks.add(machine, name, disk, self._scenario.attach, self._image_suffix)
        self._qmp.connect(machine)
        await self.qmp("qmp_capabilities")

    @property
    def features(self) -> frozenset[str]:
        return self._features

    # -- commands
    @property
    def events(self) -> list[dict[str, Any]]:  # type: ignore[override]
        self.machine.flush_events()
        return self._qmp.events

    def _on_event(self) -> None:
        waiting, self._wait_for_events = self._wait_for_events, []
        for each in waiting:
            if not each.done():
                each.set_result()

    def _on_end(self) -> None:
        """What a process held on the host is let go however it ends."""
        if self.machine.exit_status:
            self._die(self.machine.exit_status)
        self._on_event()

    async def _next_event(self, what: str, until_ns: int) -> None:
        """Until something happens in the machine; lanes of a `together` may wait at the same time."""
        came = self.new_future(what)
        self._wait_for_events.append(came)
        await self.within(came, what, until_ns - self.scheduler.now_ns)

    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        message = await self._qmp.execute(command, arguments)
        if "error" in message:
            raise QmpRefused(message["error"]["class"], message["error"]["desc"])
        if command == "nbd-server-start":
            self.nbd_server_running = True
        elif command == "nbd-server-stop":
            self.nbd_server_running = False
        return message["return"]

    async def hmp(self, line: str) -> str:
        text: str = await self.qmp("human-monitor-command", {"command-line": line})
        return text

    def printed(self) -> list[str]:
        lines = "".join(self.machine.printed).splitlines()
        return [line for line in lines if line.startswith("blkdebug: ")]

    async def wait_event(
        self, matches: Callable[[dict[str, Any]], bool], what: str, timeout_ns: int
    ) -> dict[str, Any]:
        until_ns = self.scheduler.now_ns + timeout_ns
        seen = 0
        while True:
            events = self.events
            for event in events[seen:]:
                if matches(event):
                    return event
            seen = len(events)
            self.check_alive()
            await self._next_event(what, until_ns)

    # -- data
    async def _connect(self, limit_ns: int = EXCHANGE_NS) -> InProcessTransport:
        await self.while_it_runs()
        try:
            return InProcessTransport(self, self.machine.connect_nbd(), limit_ns)
        except ConnectionRefusedError:
            raise NbdFailed("ENOENT", "no NBD server listens, and none leaves its socket behind") from None

    async def nbd(self, export: str, contexts: Sequence[str] = (), hesitate_ns: int = 0) -> NbdClient:
        transport = await self._connect()
        await nbd_client.hesitate(transport, self.sleep, hesitate_ns)
        return await nbd_client.connect(transport, export, contexts)

    async def nbd_raw(self, payload: bytes) -> bytes:
        # The server begins to count when it lets a client in, who has counted since it came.
        return await nbd_client.raw(await self._connect(nbd_client.RAW_REPLY_NS - 1), payload)

    async def nbd_transport(self) -> Transport:
        return await self._connect()

    async def nbd_exports(self) -> list[str]:
        return await nbd_client.list_exports(await self._connect())

    def guest(self, disk: str) -> Guest:
        return SimGuest(self, disk)

    async def put_on_top(self, disk: str, node_name: str) -> None:
        path = f"/machine/peripheral/{disk}-device"
        await self.qmp("qom-set", {"path": path, "property": "drive", "value": node_name})

    async def tool(self, argv: Sequence[str], timeout_ns: int = 60_000_000_000) -> tuple[int, bytes, str]:
        return await run_tool(self, list(argv), timeout_ns)

    def read_file(self, name: str) -> bytes:
        return bytes(self.host.read_all(f"{_DIRECTORY}/{name}"))

    def remove_file(self, name: str) -> None:
        path = f"{_DIRECTORY}/{name}"
        if self.host.exists(path):
            self.host.unlink(path)

    async def serve_storage(self, disk: str, fault: Fault) -> StorageServer:
        path = f"{_DIRECTORY}/storage-{len(self._storage) + 1}"
        described = self._scenario.disks[disk]
        server = SimStorage(self.scheduler, self.host, path, self.image_name(disk), described, fault)
        self._storage.append(server)
        return server

    def new_future(self, what: str) -> Future:
        return Future(what)

    async def within(self, future: Future, what: str, timeout_ns: int) -> Any:
        """Wait for a future, in virtual time. Raises DeadlinePassed; a wait that nothing can end passes at
        once."""
        if future.done():
            return future.result()

        def give_up() -> None:
            if not future.done():
                future.set_exception(DeadlinePassed(what, timeout_ns))

        timer = self.scheduler.call_at(self.scheduler.now_ns + timeout_ns, give_up)
        try:
            return await future
        finally:
            timer.cancel()

    async def sleep(self, ns: int) -> None:
        await self.scheduler.sleep(ns)

    async def together(self, lanes: Sequence[Coroutine[Any, Any, None]]) -> None:
        failures: list[BaseException] = []

        async def run(lane: Coroutine[Any, Any, None]) -> None:
            try:
                await lane
            except Exception as error:
                failures.append(error)

        tasks = [self.scheduler.spawn(run(lane), "a step of together") for lane in lanes]
        for task in tasks:
            await task
        if failures:
            raise failures[0]

    def now_ns(self) -> int:
        return self.scheduler.now_ns

    # -- the end
    async def restart(self) -> None:
        for server in self._storage:
            await server.close()
        await self._start()

    async def kill(self) -> None:
        self._die(-9)

    def _die(self, status: int) -> None:
        self.machine.flush_events()
        self._domain.kill()
        self.machine.kill()
        self._process.kill()
        self._status = status
        self._qmp.lose(MachineGone(self._ending()))
        self._on_event()

    @property
    def is_stopped(self) -> bool:
        return self._stopped is not None

    async def while_it_runs(self) -> None:
        """Until it is not stopped. Raises MachineGone."""
        while self._stopped is not None:
            await self._stopped
        self.check_alive()

    def check_alive(self) -> None:
        """Raises MachineGone."""
        if self.machine.gone:
            raise MachineGone(self._ending())

    def into_machine(self, act: Callable[[], None]) -> None:
        """What comes from outside: now, or when the machine goes on."""
        if self._stopped is None:
            act()
        else:
            self._domain.when_it_runs(act)

    async def as_machine(self, request: Coroutine[Any, Any, Any]) -> Any:
        """A guest's request, which stops and ends with the machine, and stays where it is when nobody waits
        for it any more. Raises MachineGone, DeadlinePassed and what it raises."""
        await self.while_it_runs()
        answer = self.new_future("a reply to a guest's request")

        async def run() -> None:
            outcome: Future | None = None
            try:
                outcome = await outcome_of(request)
            finally:
                if not answer.done():
                    answer.set_result(outcome)

        self._domain.enter(run(), "guest request")
        outcome = await self.within(answer, "a reply to a guest's request", EXCHANGE_NS)
        if outcome is None:
            raise MachineGone(self._ending())
        return outcome.result()

    async def pause(self, ns: int) -> None:
        if self._stopped is not None or self.machine.gone:
            await self.sleep(ns)
            return
        self._domain.stop()
        self._stopped = goes_on = self.new_future("the stopped machine to go on")
        await self.sleep(ns)
        self._go_on(goes_on)

    def _go_on(self, goes_on: Future) -> None:
        if self._stopped is goes_on:
            self._stopped = None
            self._domain.go_on()
            goes_on.set_result()

    async def change_monitor(self) -> None:
        await self._qmp.change()

    async def wait_end(self, timeout_ns: int) -> tuple[int | None, str]:
        until_ns = self.scheduler.now_ns + timeout_ns
        while not self.machine.gone:
            await self._next_event("the machine's end", until_ns)
        if self._status is None:
            self._die(self.machine.exit_status)
        return self._status, "\n".join(self.machine.warnings)

    def ended(self) -> bool:
        return self.machine.gone

    def _ending(self) -> str:
        how = "it quit" if self._status in (None, 0) else f"it was killed by signal {-(self._status or 0)}"
        return f"the simulated machine is gone: {how}"

    async def left_behind(self) -> list[tuple[str, str, str]]:
        if self._first is not None:
            return []  # the first machine tells of the files of both
        left = [path for path in self.host.files() if path not in self._known_files]
        machines = [self, self.second] if isinstance(self.second, SimSession) else [self]
        if all(each._status == 0 for each in machines):
            sockets = [each.nbd_path for each in machines]
            left += [path for path in self.host.left_sockets if path not in sockets]
        return [("file", Path(path).name, "") for path in left]

    async def final_image(self, disk: str) -> tuple[int, Any, int, str]:
        path, image_format = self.image_name(disk), self._scenario.disks[disk].format
        status, said = 0, ""
        if image_format != "raw":
            status, out, err = image_tool.run(self.host, ["check", "-f", image_format, path])
            said = (out + err).strip()
        size, reader = image_tool.open_image(self.host, path, image_format)
        return size, reader, status, said
