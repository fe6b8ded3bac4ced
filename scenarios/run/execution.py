"""One run of one scenario: what the steps share, and the only place that writes records of commands
and events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from scenarios.backends.interface import (
    DeadlinePassed,
    MachineGone,
    NbdClient,
    NbdFailed,
    QmpRefused,
    Session,
    Transport,
)
from scenarios.backends.storage import StorageServer
from scenarios.language.steps import Disk, Fault, Scenario
from scenarios.run.features import Features
from scenarios.run.history import (
    DiskAdded,
    GuestOp,
    History,
    HmpExchange,
    MachineEnded,
    Missed,
    QmpEvent,
    QmpExchange,
    Stacks,
    ToolRun,
    Unexpected,
)
from scenarios.run.points import Eras, Point
from scenarios.run.substitute import substitute
from scenarios.run.waiting import Gate, Turn

if TYPE_CHECKING:
    from scenarios.run.breakpoints import Breakpoint

EVENT_NS = 10_000_000_000
END_NS = 30_000_000_000


class Where(NamedTuple):
    """A step's place: index path in the spec ("4", "6.1.0"; "" for the runner's own doing), line, verb.

    `racing`: it runs side by side with others, which may take away what it uses.
    """

    path: str = ""
    line: int = 0
    verb: str = ""
    racing: bool = False


class NotAsExpectedError(Exception):
    """A step's own expectation did not hold."""

    def __init__(self, wanted: str, got: str) -> None:
        super().__init__(f"wanted {wanted}, got {got}")
        self.wanted, self.got = wanted, got


class Execution:
    """`stopped`: something went wrong, remaining steps are left out. `hung`: the monitor does not
    answer any more.

    `ends` counts the machine's ends that the scenario asked for; `going` is true from the moment
    one is asked for until the machine is back (if it comes back).
    """

    def __init__(
        self, scenario: Scenario, session: Session, history: History, method: str | None, features: Features
    ) -> None:
        self.scenario, self.session, self.history = scenario, session, history
        self.first: Execution = self  # where this is the destination, the machine that the guest comes from
        self.second: Execution | None = None
        self._witnesses: list[History] = []  # of other machines, on whose disks this one's guest is seen
        self.method, self.features = method, features
        self.points: dict[str, Point] = {}
        self.graph: dict[str, Any] = {}
        self.faults: dict[str, Fault] = {}  # what is wrong with disks' storage
        self.breakpoints: dict[str, Breakpoint] = {}  # by the name that requests are suspended under
        self.drives_on: set[str] = set()  # nodes that have a drive for qemu-io
        self.storage: dict[str, StorageServer] = {}  # of those disks, whose is behind a server
        self.stalled: list[Transport] = []  # clients that stay connected and do nothing
        self.throttled: set[str] = set()  # nodes that have a throttle group
        self.eras = Eras(scenario)
        self.gate = Gate(session)
        self.control = Turn(session)
        self.patterns = 0
        self.event_from: dict[str, int] = {}
        self.server_is_ours = False
        self.started_nodes: frozenset[str] = frozenset()
        self.stopped = self.hung = self.crashed = self.going = False
        self.ends = 0
        self._events_taken = 0
        self._qmp = session.qmp
        for name, disk in scenario.disks.items():
            self.history.records.append(DiskAdded(begin=history.tick(), disk=name, size=disk.size))

    # -- commands and events

    async def qmp(self, where: Where, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """The `return` member; the exchange and all events that came with it are recorded.

        Raises what Session.qmp raises.
        """
        record = QmpExchange(
            begin=self.history.tick(),
            time_ns=self.session.now_ns(),
            step=where.path,
            command=command,
            arguments=arguments or {},
        )
        self.history.records.append(record)
        try:
            record.returns = await self._qmp(command, arguments)
        except QmpRefused as error:
            record.error_class, record.error_desc = error.error_class, error.desc
            self.take_events()
            record.end = self.history.tick()
            raise
        except DeadlinePassed:
            self.hung = True
            raise
        finally:
            self.take_events()
        record.end = self.history.tick()
        return record.returns

    async def hmp(self, where: Where, line: str) -> str:
        record = HmpExchange(
            begin=self.history.tick(), time_ns=self.session.now_ns(), step=where.path, line=line
        )
        self.history.records.append(record)
        try:
            record.prints = await self.session.hmp(line)
        finally:
            self.take_events()
        record.end = self.history.tick()
        return record.prints

    def begin_second(self, scenario: Scenario, session: Session, images: str) -> None:
        """There is another machine. `images` as Destination has it."""
        history = self.history.begin_destination()
        self.second = second = Execution(scenario, session, history, self.method, self.features)
        second.first = self
        if images != "fresh":
            self._witnesses.append(history)
        if images == "shared":
            second._witnesses.append(self.history)

    def note_request(self, record: GuestOp) -> None:
        """A request of the guest begins."""
        record.machine = "" if self.first is self else "destination"
        for history in (self.history, *self._witnesses):
            history.records.append(record)

    def take_events(self) -> None:
        """Record the events that have come since the last call."""
        events = self.session.events
        for event in events[self._events_taken :]:
            now = self.history.tick()
            self.history.records.append(
                QmpEvent(
                    begin=now,
                    end=now,
                    time_ns=self.session.now_ns(),
                    name=event["event"],
                    data=event.get("data", {}),
                )
            )
        self._events_taken = len(events)

    async def wait_event(
        self, matches: Callable[[dict[str, Any]], bool], what: str, timeout_ns: int = EVENT_NS
    ) -> dict[str, Any]:
        """As Session.wait_event, recorded."""
        try:
            return await self.session.wait_event(matches, what, timeout_ns)
        finally:
            self.take_events()

    def has_come(self, name: str, since: int, **data: Any) -> bool:
        """Whether an event of that name and with these members is among the session's events from
        `since` on."""
        return any(
            event["event"] == name and all(event.get("data", {}).get(key) == data[key] for key in data)
            for event in self.session.events[since:]
        )

    async def tool(self, where: Where, argv: list[str]) -> tuple[int, bytes, str]:
        """Run an external program to its end. Raises SetupError, DeadlinePassed."""
        begin = self.history.tick()
        status, out, err = await self.session.tool(argv)
        self.history.records.append(
            ToolRun(
                begin=begin,
                end=self.history.tick(),
                time_ns=self.session.now_ns(),
                step=where.path,
                argv=argv,
                status=status,
                stdout=out[:65536].decode(errors="replace"),
                stderr=err,
            )
        )
        self.take_events()
        return status, out, err

    @asynccontextmanager
    async def nbd(
        self, export: str, contexts: tuple[str, ...] = (), hesitate_ns: int = 0
    ) -> AsyncIterator[NbdClient]:
        """An NBD session that is closed whatever happens. Raises NbdFailed."""
        client = await self.session.nbd(export, contexts, hesitate_ns)
        try:
            yield client
        except BaseException:
            await client.drop()
            raise
        await client.disconnect()

    async def start_server(self, where: Where) -> None:
        """The machine's NBD server runs after this; whether it is ours to stop is remembered."""
        if not self.session.nbd_server_running:
            path = self.session.nbd_path
            await self.qmp(where, "nbd-server-start", {"addr": {"type": "unix", "data": {"path": path}}})
            self.server_is_ours = True

    async def put_on_top(self, where: Where, disk: str, node_name: str) -> None:
        """As Session.put_on_top, with the commands that it sends recorded."""
        with self._recorded(where):
            await self.session.put_on_top(disk, node_name)

    async def repair_guest(self, where: Where) -> None:
        """As Session.repair_guest, with the commands that it sends recorded."""
        with self._recorded(where):
            await self.session.repair_guest()

    @contextmanager
    def _recorded(self, where: Where) -> Iterator[None]:
        """Meanwhile commands that the session sends by itself are recorded too."""

        async def qmp(command: str, arguments: dict[str, Any] | None = None) -> Any:
            return await self.qmp(where, command, arguments)

        self.session.qmp = qmp  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.session.qmp = self._qmp  # type: ignore[method-assign]

    # -- names

    def disk(self, name: str) -> Disk:
        return self.scenario.disks[name]

    def base_node(self, disk: str) -> str:
        """The disk's format node."""
        return f"{disk}-format" if self.scenario.attach == "drive" else disk

    async def note_nodes(self) -> None:
        """Remember what the machine itself starts with: drives have nodes whose names it makes up."""
        if self.scenario.attach == "drive":
            nodes = await self.qmp(Where(), "query-named-block-nodes", {"flat": True})
            self.started_nodes = frozenset(each.get("node-name", "") for each in nodes)
        else:
            parts = ("", "-file", "-top")
            own = frozenset(name + part for name in self.scenario.disks for part in parts)
            self.started_nodes = own | self.session.other_nodes

    @property
    def has_guest(self) -> bool:
        return self.scenario.attach != "none"

    @property
    def guest_needs_server(self) -> bool:
        """Whether the guest itself comes over the machine's NBD server (storage daemon)."""
        return self.scenario.attach == "device" and not self.features.has("machine")

    def names(self) -> dict[str, Any]:
        """What ${...} may name; see substitute.py."""
        directory = self.session.directory
        names: dict[str, Any] = {"dir": str(directory), "nbd": self.session.nbd_path}
        names["mounts"] = self.session.mounts_path
        if self.scenario.certificates:
            names["certificates"] = self.session.certificates_path
        for name, disk in self.scenario.disks.items():
            names[f"{name}.node"] = self.base_node(name)
            names[f"{name}.filename"] = self.session.image_name(name)
            names[f"{name}.device"] = name if self.scenario.attach == "drive" else f"{name}-device"
            names[f"{name}.size"] = disk.size
            if name in self.storage:
                names[f"{name}.server"] = self.storage[name].address["path"]
        if self.second is not None:
            names |= {f"destination.{name}": value for name, value in self.second.names().items()}
        for point in self.points.values():
            for part in point.parts:
                prefix = f"{point.id}.{part.disk}"
                names |= {
                    f"{prefix}.export": part.export,
                    f"{prefix}.node": part.node,
                    f"{prefix}.job": part.job,
                }
        return names

    def named(self, value: Any) -> Any:
        return substitute(value, self.names())

    # -- what goes wrong

    def unexpected(self, where: Where, wanted: str, got: str) -> None:
        self.stopped = True
        now = self.history.tick()
        self.history.records.append(
            Unexpected(
                begin=now, end=now, step=where.path, verb=where.verb, line=where.line, wanted=wanted, got=got
            )
        )

    async def missed(self, where: Where, error: DeadlinePassed) -> None:
        self.stopped = True
        note_missed(self.history, error, where.path)
        await self._note_stacks(where)

    async def _note_stacks(self, where: Where) -> None:
        text = await self.session.stacks()
        if text:
            now = self.history.tick()
            self.history.records.append(Stacks(begin=now, end=now, step=where.path, text=text))

    async def gone(self, where: Where) -> None:
        """The machine ended while something was waiting for it."""
        if self.going:
            return
        self.stopped = self.going = self.crashed = True
        try:
            status, stderr = await self.session.wait_end(END_NS)
        except DeadlinePassed as error:
            await self.missed(where, error)
            await self.session.kill()
            status, stderr = await self.session.wait_end(END_NS)
        self.ended(where, False, status, stderr)
        await self._note_stacks(where)

    def ended(self, where: Where, expected: bool, status: int | None, stderr: str) -> None:
        """Record the machine's end; what was in it is no more."""
        self.take_events()
        now = self.history.tick()
        self.history.records.append(
            MachineEnded(begin=now, end=now, step=where.path, expected=expected, status=status, stderr=stderr)
        )
        for point in self.points.values():
            point.alive = False
            for part in point.parts:
                part.made.clear()
                while part.files:
                    self.session.remove_file(part.files.pop())
        self.graph.clear()
        self.faults.clear()
        self.breakpoints.clear()
        self.drives_on.clear()
        self.throttled.clear()
        self.storage.clear()
        self.server_is_ours = False


def note_missed(history: History, error: DeadlinePassed, step: str = "") -> None:
    """Record a deadline that passed."""
    now = history.tick()
    waited_for, timeout_ns = error.waited_for, error.timeout_ns
    history.records.append(
        Missed(begin=now, end=now, step=step, waited_for=waited_for, timeout_ns=timeout_ns)
    )
    if error.stacks:
        history.records.append(Stacks(begin=now, end=now, step=step, text=error.stacks))


def words_of(error: Exception) -> str:
    """An error as the one who wrote the scenario knows it."""
    if isinstance(error, QmpRefused):
        return f"{error.error_class}: {error.desc}"
    if isinstance(error, NbdFailed):
        return error.errno_name if str(error) == error.errno_name else f"{error.errno_name} ({error})"
    if isinstance(error, MachineGone):
        return "the machine is gone"
    return str(error)
