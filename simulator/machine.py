"""One simulated QEMU: its block graph, jobs, exports and monitors on one scheduler. No sockets, no host
clock."""

from __future__ import annotations

from collections import deque

from simulator.block.drive import Drives
from simulator.block.export import Exports
from simulator.block.fdsets import FdSets
from simulator.block.graph import Graph
from simulator.block.guest import GuestDevices
from simulator.block.iothreads import IoThread
from simulator.block.rules import rules_of
from simulator.engine.chance import Chance
from simulator.engine.outbox import Outbox
from simulator.engine.scheduler import Scheduler
from simulator.jobs.registry import Jobs
from simulator.jobs.rules import JobRules
from simulator.monitor.migrating import Migration
from simulator.monitor.plugging import Slots
from simulator.monitor.session import Session
from simulator.qapi.glib_table import ChildTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.block.host import Host
    from simulator.block.nbd.server import NbdConnection, NbdServer
    from simulator.block.nbd.tls_credentials import MakeContext
    from simulator.engine.task import Task
    from simulator.qapi.schema import Schema
    from simulator.versions.version import Version


class Machine:
    """A `qemu-system` or, with `storage_daemon`, a `qemu-storage-daemon` of one version.

    `host` is the file system it sees. `scheduler` may be shared with clients that run in the same virtual
    time. `epoch_ns` is the host's time at power-on, for time stamps. Bytes for a monitor go in by the
    Session that `connect_monitor` returns; NBD bytes by what `connect_nbd` returns; nothing happens until the
    scheduler runs.
    """

    def __init__(
        self,
        version: Version,
        host: Host,
        *,
        storage_daemon: bool = False,
        seed: int = 0,
        scheduler: Scheduler | None = None,
        epoch_ns: int = 0,
    ) -> None:
        self.version = version
        self.storage_daemon = storage_daemon
        self.host = host
        self.chance = Chance(seed)
        self.scheduler = scheduler or Scheduler()
        self.epoch_ns = epoch_ns
        self.outbox = Outbox(self.scheduler)
        self.fdsets = host.fdsets = FdSets(host, lambda: self.run_state == "running", not storage_daemon)
        self.current_monitor: Session | None = None  # whose command runs
        self.graph = Graph(self.scheduler, host, self.chance.split())
        self.graph.rules = rules_of(version)
        self.graph.emit = self.outbox.emit
        self.graph.on_process_end = self.die
        self.exit_status = 0
        self.graph.times = lambda: (self.epoch_ns + self.scheduler.now_ns, self.guest_ran_ns())
        self.jobs = Jobs(self.graph, self.outbox, _job_rules(version))
        self.exports = Exports(self.graph, self.outbox, version)
        self.nbd_server: NbdServer | None = None
        self.devices = GuestDevices(self.graph)
        self.drives = Drives(self.graph)
        self.devices.on_drive_gone = self.drives.forget
        self.slots = Slots(self)
        self.migration = Migration(self)
        self.objects = self.graph.objects
        self.chardevs = ChildTable()
        self.unnamed_monitors = 0  # made by options so far
        self.threads_made = 0
        self._run_state, self._runs_since_ns, self._ran_ns = "running", self.scheduler.now_ns, 0
        self.runs_on_arrival = True  # a guest that comes from another machine goes on at once
        self.name = ""
        self.actions = {"reboot": "reset", "shutdown": "poweroff"}  # set-action
        self.ending = self.gone = False
        self.on_end: Callable[[], None] = _nobody_waits  # told once it has ended in order
        self.printed: list[str] = self.graph.printed  # standard output
        self.warnings: list[str] = self.graph.warnings  # standard error
        program = "qemu-storage-daemon" if storage_daemon else "qemu-system-x86_64"
        prefix = f"{program}: " if version.texts.reports_name_program else ""
        self.graph.report = lambda text: self.warn(prefix + version.reword(text))
        self.sessions: list[Session] = []
        self.turns_before_reply = version.qmp.turns_before_reply
        # How to listen on an address; the in-process machine has no sockets and is reached by connect_nbd
        # alone.
        self.listen: Callable[[dict[str, Any]], Any] | None = None
        self.on_listen: Callable[[Any], None] = _nobody_listens
        self.make_tls: MakeContext | None = None  # likewise
        self._schema: Schema | None = None
        self._waiting: deque[Session] = deque()
        self._dispatching = False

    # -- what it is
    @property
    def schema(self) -> Schema:
        """The version's introspection; read when the first command needs it."""
        if self._schema is None:
            self._schema = self.version.schema(self.binary)
        return self._schema

    @property
    def run_state(self) -> str:
        return self._run_state

    @run_state.setter
    def run_state(self, state: str) -> None:
        self._ran_ns, self._runs_since_ns = self.guest_ran_ns(), self.scheduler.now_ns
        self._run_state = state
        self.graph.opens_inactive = state == "inmigrate"
        if state == "running":
            self.graph.guest_runs()

    def guest_ran_ns(self) -> int:
        """How long the guest has run: its clock stands still while it does."""
        running_ns = self.scheduler.now_ns - self._runs_since_ns
        return self._ran_ns + (running_ns if self._run_state == "running" else 0)

    def version_info(self) -> dict[str, Any]:
        """What query-version returns and the greeting tells."""
        return self.version.greeting_version()

    @property
    def binary(self) -> str:
        """Which of the version's recordings is ours."""
        return "storage-daemon" if self.storage_daemon else "system"

    def nbd_server_options(self) -> Schema:
        """The schema with the type that --nbd-server takes, which introspection does not show
        (qapi/block-export.json, NbdServerOptions)."""
        address = self.schema.type_at("blockdev-add", "=nbd", "server")
        assert address is not None
        members = [("addr", address, False), ("tls-creds", "str", True), ("tls-authz", "str", True)]
        members.append(("max-connections", "uint32", True))
        if self.schema.type_at("nbd-server-start", "handshake-max-seconds") is not None:
            members.append(("handshake-max-seconds", "uint32", True))
        return self.schema.with_struct("NbdServerOptions", members)

    # -- what the version's binary has beyond what is simulated
    def knows_device(self, type_name: str) -> bool:
        """Whether there is a device model of that name that a user may add."""
        return type_name in self.version.recorded(self.binary, "objects")["device"]

    def device_kinds(self, type_name: str) -> tuple[list[str], bool]:
        """(the type and those that it is a kind of, whether it is abstract); ([], False) for no type."""
        types = {entry["name"]: entry for entry in self.version.recorded(self.binary, "objects")["types"]}
        kinds: list[str] = []
        each = types.get(type_name)
        while each is not None:
            kinds.append(each["name"])
            each = types.get(each.get("parent"))
        return kinds, bool(kinds) and bool(types[type_name].get("abstract"))

    def device_properties(self, type_name: str) -> list[str] | None:
        """Names of a device model's properties; None if they were not recorded."""
        return _property_names(self.version.recorded(self.binary, "objects")["device"].get(type_name))

    def device_property_types(self, type_name: str) -> dict[str, str]:
        """name -> QOM's type of a device model's properties, as far as they were recorded."""
        told = self.version.recorded(self.binary, "objects")["device"].get(type_name, {})
        return {entry["name"]: entry["type"] for entry in told.get("return", ())}

    def machine_types(self) -> list[str]:
        """Names and other names that -machine takes."""
        machines = self.version.recorded(self.binary, "queries")["query-machines"]["return"]
        return [entry[key] for entry in machines for key in ("name", "alias") if key in entry]

    def machine_properties(self, name: str) -> tuple[str, list[str] | None]:
        """(the type of a machine, the names of its properties; None if they were not recorded)."""
        machines = self.version.recorded(self.binary, "queries")["query-machines"]["return"]
        full = next((entry["name"] for entry in machines if entry.get("alias") == name), name)
        type_name = f"{full}-machine"
        return type_name, _property_names(
            self.version.recorded(self.binary, "objects")["object"].get(type_name)
        )

    @property
    def iothreads(self) -> dict[str, IoThread]:
        """In the order in which QEMU walks them."""
        objects = reversed(self.objects.in_qom_order())
        return {name: item for name, item in objects if isinstance(item, IoThread)}

    def print(self, text: str) -> None:
        if text:
            self.printed.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    # -- monitors
    def connect_monitor(self, pretty: bool = False) -> Session:
        """A client has connected to a QMP monitor."""
        session = Session(self, pretty)
        self.sessions.append(session)
        self.fdsets.has_clients = True
        return session

    def disconnect_monitor(self, session: Session) -> None:
        self.disconnect(session)

    def disconnect(self, endpoint: Any) -> None:
        """A client has gone: of a QMP monitor, a human one, or of the NBD server."""
        endpoint.receive_eof()
        if endpoint in self.sessions:
            self.sessions.remove(endpoint)
            for descriptor in endpoint.take_all_descriptors():
                self.host.close_descriptor(descriptor)
            self.fdsets.client_gone(is_last=not self.sessions)

    def requests_waiting(self, session: Session) -> None:
        """A monitor has a request; commands of all monitors run one at a time, in the order they came."""
        self._waiting.append(session)
        if not self._dispatching:
            self._dispatching = True
            self.scheduler.spawn(self._dispatch(), "monitor dispatcher")

    async def _dispatch(self) -> None:
        while self._waiting and not self.gone:
            session = self._waiting.popleft()
            if session.stalled:
                session.postponed += 1
            elif session.queue:
                self.current_monitor = session
                await session.answer(session.queue.popleft())
        self._dispatching = False

    def flush_events(self) -> None:
        """Hand what has happened to every monitor that wants to know."""
        if not self.outbox.events:
            return
        for name, members, at_ns in self.outbox.drain():
            for session in self.sessions:
                if session.ready:
                    session.send_event(name, members, self.epoch_ns + at_ns)

    # -- NBD
    def connect_nbd(self) -> NbdConnection:
        """A client has connected to the NBD server's socket. Raises ConnectionRefusedError if there is
        none."""
        if self.nbd_server is None:
            raise ConnectionRefusedError("no NBD server is listening")
        return self.nbd_server.connect()

    # -- what a command line adds, for those who build a machine without one
    async def add_node(self, options: dict[str, Any]) -> None:
        """-blockdev, with options as blockdev-add takes them. Raises QmpError."""
        node = await self.graph.open(options)
        node.monitor_owned = True

    async def add_drive(self, text: str) -> tuple[str, str]:
        """-drive: (interface, the drive's id). Raises QmpError."""
        return await self.drives.add(self.schema, self.drives.parse(text))

    # -- running
    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        return self.scheduler.spawn(coroutine, name)

    def in_main_loop(self, act: Callable[[], None]) -> None:
        """What a command leaves to the main loop, which comes to it before the reply where the dispatcher
        goes through it first."""
        if self.turns_before_reply:
            act()
        else:
            self.spawn(_call(act), "a request to the main loop")

    def run_for(self, duration_ns: int) -> None:
        """Let virtual time pass, with all that happens in it."""
        self.scheduler.advance_to(self.scheduler.now_ns + duration_ns)

    def end_soon(self, reason: str) -> None:
        """End in order at the next turn, unless the machine is at it already."""
        if not self.ending:
            self.spawn(self.shut_down(reason), f"end by {reason}")

    async def shut_down_as_told(self, reason: str) -> None:
        """What set-action has set for a guest that is to be shut down (main_loop_should_exit,
        softmmu/runstate.c, 7.2)."""
        if self.actions["shutdown"] == "poweroff":
            self.end_soon(reason)
            return
        self.outbox.emit("SHUTDOWN", {"guest": False, "reason": reason})
        if self.run_state == "running":
            self.run_state = "shutdown"
            self.outbox.emit("STOP", {})

    async def shut_down(self, reason: str) -> None:
        """An orderly end (qemu_cleanup, softmmu/runstate.c, 7.2; storage-daemon/qemu-storage-daemon.c)."""
        self.ending = True
        if self.storage_daemon and not self.version.block.daemon_closes_nodes:
            self._end()
            return
        if not self.storage_daemon:
            self.outbox.emit("SHUTDOWN", {"guest": False, "reason": reason})
        self.run_state = "shutdown"
        self.migration.shut_down()
        if self.version.block.ending_jobs_outlive_exports:
            await self._close_exports()
        if self.version.block.ending_stops_first and not self.storage_daemon:
            async with self.graph.drained_all():
                pass
        async with self.graph.drained_all():
            await self.jobs.cancel_all()
        await self._close_exports()
        await self._close_all_nodes()
        self._end()

    def _end(self) -> None:
        self.gone = True
        self.on_end()

    async def _close_exports(self) -> None:
        await self.exports.close_all()
        if self.nbd_server is not None:
            await self.nbd_server.close()
            self.nbd_server = None

    async def _close_all_nodes(self) -> None:
        for device in list(self.devices.by_path.values()):
            await self.devices.remove(device)
        for backend in [*self.graph.backends.values(), *self.graph.orphans]:
            await backend.remove()
        for node in list(self.graph.nodes.values()):
            node.monitor_owned = False
        for node in reversed(list(self.graph.nodes.values())):
            await self.graph.release(node)

    def die(self, status: int, words: str) -> None:
        """QEMU has come upon something that it does not survive."""
        self.warn(words)
        self.exit_status = status
        self.flush_events()
        for session in self.sessions:
            session.receive_eof()  # nothing of what the command was about to say is heard any more
        self.sessions.clear()
        self.kill()
        self.on_end()

    def kill(self) -> None:
        """SIGKILL, as clients see it: their connections close. Nothing is written back; what the machine
        held on the host is for whoever kills it to let go."""
        self.gone = True
        if self.nbd_server is not None:
            self.nbd_server.drop_all()
            self.nbd_server = None


def _job_rules(version: Version) -> JobRules:
    """What the version says of jobs, as the jobs take it: they know no versions."""
    return JobRules(
        verbs=version.jobs.verbs,
        aborted_commit_restores_base=version.jobs.aborted_commit_restores_base,
        amend_holds_node=version.jobs.amend_holds_node,
        backup_chooses_late=version.jobs.backup_chooses_late,
        commit_newest_first=not version.block.transaction_commits_in_order,
        complete_ends_fleecing=version.dialect.block_job_complete_ends_fleece,
        complete_opens_backing=version.jobs.complete_opens_backing,
        target_by_device=version.dialect.drive_backup_to_drive,
        reword=version.reword,
        checks_groups_first=version.block.transaction_checks_groups_first,
        mirror_bitmap_on_filter=version.jobs.mirror_bitmap_on_filter,
        mirror_knows_zeroes=version.jobs.mirror_knows_zeroes,
        mirror_tells_sizes=version.jobs.mirror_tells_sizes,
        pause_wakes=version.jobs.pause_wakes,
        commit_writes_zeroes=version.jobs.commit_writes_zeroes,
        waits_out_speed=version.jobs.waits_out_speed,
        paused_completes=version.jobs.paused_completes,
        cancel_ends_waits=version.jobs.cancel_ends_waits,
        shows_actively_synced=version.jobs.shows_actively_synced,
        refused_image_keeps_drained=version.jobs.refused_image_keeps_drained,
    )


def _property_names(recorded: dict[str, Any] | None) -> list[str] | None:
    if recorded is None or "return" not in recorded:
        return None
    return [entry["name"] for entry in recorded["return"]]


async def _call(act: Callable[[], None]) -> None:
    act()


def _nobody_waits() -> None:
    """What `on_end` is while nobody waits for that."""


def _nobody_listens(listener: Any) -> None:
    """What `on_listen` is while no event loop serves the machine."""
