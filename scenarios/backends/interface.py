"""What a backend is: something that can start a machine and be talked to. One interface for all of them.

Everything here is coroutines without a loop: the runner only awaits what a session gives it and never imports
asyncio, so the same runner runs on asyncio (real QEMU) and on the simulator's own scheduler (virtual time).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from scenarios.backends.storage import StorageServer
from scenarios.language.steps import Fault, Scenario

Extent = tuple[int, int, int]  # offset, length, flags as NBD_REPLY_TYPE_BLOCK_STATUS carries them


class SetupError(Exception):
    """The backend itself cannot work (no such binary, dies at start, never opens its socket): exit status 2.

    The message names the place, what was expected, and ends with the program's standard error.
    """


class MachineGone(Exception):
    """The machine ended (crash, assertion, kill) while something was waiting for it."""


class DeadlinePassed(Exception):
    """A wait took longer than it may; str() says what was waited for and how long."""

    def __init__(self, waited_for: str, timeout_ns: int) -> None:
        super().__init__(f"{waited_for}: nothing after {timeout_ns / 1e9:g} s")
        self.waited_for, self.timeout_ns = waited_for, timeout_ns
        self.stacks = ""  # what the machine was doing, where the machine is gone before anybody can ask it


class QmpRefused(Exception):
    """A command answered with an error: QEMU's class and words."""

    def __init__(self, error_class: str, desc: str) -> None:
        super().__init__(desc)
        self.error_class, self.desc = error_class, desc


class NbdFailed(Exception):
    """A block request or a negotiation failed. errno_name such as "EIO"; "EOF" when the server went away;
    for a refused option the NBD_REP_ERR_* name."""

    def __init__(self, errno_name: str, message: str = "") -> None:
        super().__init__(message or errno_name)
        self.errno_name = errno_name


class NbdClient(Protocol):
    """An open NBD session in transmission phase. Requests may be concurrent, replies may come in any order.

    All raise NbdFailed. `size` in bytes, `flags` the transmission flags, `contexts` the negotiated metadata
    contexts.
    """

    size: int
    flags: int
    contexts: dict[str, int]
    # minimum, preferred, maximum; (1, 4096, 32 MiB) if the server does not say
    block_sizes: tuple[int, int, int]

    async def read(self, offset: int, length: int) -> bytes: ...
    async def write(self, offset: int, payload: bytes, fua: bool = False) -> None: ...
    async def zero(self, offset: int, length: int, no_hole: bool = True) -> None: ...
    async def trim(self, offset: int, length: int) -> None: ...
    async def flush(self) -> None: ...
    async def block_status(self, context: str, offset: int, length: int) -> list[Extent]: ...
    async def disconnect(self) -> None:
        """Say NBD_CMD_DISC and close."""

    async def drop(self, after_request: tuple[int, int] | None = None) -> None:
        """Close without a word; with (offset, length), send a read request first and do not wait."""


class Transport(Protocol):
    """A connected stream. send and receive raise OSError or NbdFailed("EOF") when the connection is gone.

    One coroutine sends and one receives at a time. After `close` both end: b"" or one of these errors.
    """

    async def send(self, payload: bytes | bytearray | memoryview, /) -> None: ...

    async def receive(self) -> bytes:
        """Some bytes; b"" at the end."""

    async def peek(self) -> bytes:
        """As `receive`, but they stay where they are, and take up the room that they do."""

    def close(self) -> None: ...

    def new_future(self) -> Waiter: ...


class MonitorWire(Protocol):
    """A QMP monitor, as bytes. `closed`: the machine has closed it, and nothing comes any more."""

    @property
    def closed(self) -> bool: ...

    def send(self, payload: bytes) -> None: ...

    def take(self) -> bytes:
        """All that has come since it was last taken."""

    async def more(self, timeout_ns: int) -> bool:
        """Whether there is something to take, or the end, within that time."""


class Waiter(Awaitable[Any], Protocol):
    """A future: awaited by one, finished by another."""

    def set_result(self, value: Any, /) -> None: ...
    def done(self) -> bool: ...


class Guest(Protocol):
    """One disk as the guest sees it. All raise NbdFailed with the errno the guest got.

    A read or write of more than `largest_request_bytes` may be cut into several on its way; None: never.
    """

    @property
    def largest_request_bytes(self) -> int | None: ...

    async def read(self, offset: int, length: int) -> bytes | None:
        """The bytes; None where the way to the guest only verifies (HMP), see `verify`."""

    async def verify(self, offset: int, length: int, pattern: int) -> bool:
        """Whether every byte of the range has that value, as the guest reads it."""

    async def write(self, offset: int, length: int, pattern: int) -> None: ...
    async def zero(self, offset: int, length: int, unmap: bool) -> None: ...
    async def discard(self, offset: int, length: int) -> None: ...
    async def flush(self) -> None: ...


class Session(ABC):
    """A machine under test, for one run of one scenario: its own, or one that others use before and after it.

    Naming, the same for every backend: disk `vda` is the image file ``DIRECTORY/vda.FORMAT``, opened as node
    `vda-file` below format node `vda` (the node a backup or filter is put on). The guest stands on top: a
    device with qdev id `vda-device` (system emulator) or a writable export `vda-guest` on node `vda-top`, a
    raw node whose `file` child is moved by blockdev-reopen (storage daemon).
    """

    directory: Path
    introspection: list[Any]  # reply to query-qmp-schema
    events: list[dict[str, Any]]  # every event so far, oldest first

    longest_wait_ns: int | None = None
    """Deadline of each command and request, where it is to be shorter than the session's own."""

    second: Session | None = None
    """The machine that the guest may go to, where the scenario has a `destination`."""

    @property
    @abstractmethod
    def features(self) -> frozenset[str]:
        """What this machine has beyond what its schema tells: "hmp", "machine" (vCPUs: stop/cont, devices,
        drives), "mounts" (file systems of little room), "moves" (`put_on_top` works while it runs),
        "processes" (external programs can reach it), "real" (not the simulator), "storage-server"
        (`serve_storage` works)."""

    async def ready(self) -> None:
        """Until the guest takes requests. Raises MachineGone, DeadlinePassed."""
        return None

    # -- commands
    @abstractmethod
    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """The `return` member. Raises QmpRefused, MachineGone, DeadlinePassed."""

    @abstractmethod
    async def hmp(self, line: str) -> str: ...

    async def watched_monitor(self) -> MonitorWire:
        """A monitor on which nothing has been said, where the backend `has_watched_monitor`. Raises
        SetupError, DeadlinePassed."""
        raise SetupError("this backend has no watched monitor: sessions cannot be played on it")

    @abstractmethod
    async def wait_event(
        self, matches: Callable[[dict[str, Any]], bool], what: str, timeout_ns: int
    ) -> dict[str, Any]:
        """The first event, from the past or to come, that `matches`; DeadlinePassed names `what`."""

    @abstractmethod
    def printed(self) -> list[str]:
        """What blkdebug has told so far on the machine's standard output: lines from "blkdebug: " on. Only of
        a machine with "hmp", which nobody else can ask it for."""

    # -- data
    nbd_path: str  # unix socket that nbd-server-start is to listen on

    @property
    def mounts_path(self) -> str:
        """`directory` as other programs reach it with what the machine itself has mounted there."""
        return str(self.directory)

    certificates_path: str = ""  # a directory for each of Scenario.certificates

    other_nodes: frozenset[str] = frozenset()
    """Nodes of the machine that are there from before the scenario, and not for it."""

    nbd_server_running: bool = False
    """Whether the machine's only NBD server listens, as far as commands through this session tell. True from
    the start where the guest itself comes over NBD (storage daemon); nbd-server-start is then refused by the
    machine."""

    async def ensure_nbd_server(self) -> None:
        """nbd-server-start at `nbd_path`, unless it runs. Raises what `qmp` raises."""
        if not self.nbd_server_running:
            await self.qmp("nbd-server-start", {"addr": {"type": "unix", "data": {"path": self.nbd_path}}})

    async def repair_guest(self) -> None:
        """Give the guest its way to its disks back after nbd-server-stop took it away (storage daemon: start
        the server and export DISK-guest again). Does nothing where there is nothing to repair."""
        return None

    @abstractmethod
    async def nbd(self, export: str, contexts: Sequence[str] = (), hesitate_ns: int = 0) -> NbdClient:
        """Connect to `nbd_path` and open `export` (NBD_OPT_GO, structured replies), `hesitate_ns` after the
        server's greeting. Raises NbdFailed."""

    @abstractmethod
    async def nbd_raw(self, payload: bytes) -> bytes:
        """Connect to `nbd_path`, send these bytes after the server's greeting, return all it sends until it
        closes. Raises DeadlinePassed if it keeps the connection open."""

    @abstractmethod
    async def nbd_transport(self) -> Transport:
        """A connection to `nbd_path` with nothing said on it yet. Raises NbdFailed."""

    @abstractmethod
    async def nbd_exports(self) -> list[str]:
        """NBD_OPT_LIST."""

    @abstractmethod
    def guest(self, disk: str) -> Guest: ...

    @abstractmethod
    async def put_on_top(self, disk: str, node_name: str) -> None:
        """Make the guest of `disk` stand on `node_name` (qom-set drive; blockdev-reopen of DISK-top)."""

    @abstractmethod
    async def tool(self, argv: Sequence[str], timeout_ns: int = 60_000_000_000) -> tuple[int, bytes, str]:
        """Run qemu-img, nbdcopy or nbdinfo in `directory`: status, standard output, standard error.

        The name is looked up by the backend; the simulator in-process answers qemu-img itself where it can.
        """

    @abstractmethod
    def image_name(self, disk: str) -> str:
        """The path of a disk's image."""

    def read_file(self, name: str) -> bytes:
        """Content of a file in `directory`, such as one that a tool wrote."""
        return (self.directory / name).read_bytes()

    def remove_file(self, name: str) -> None:
        """Delete a file in `directory`, if it is there."""
        (self.directory / name).unlink(missing_ok=True)

    @abstractmethod
    async def serve_storage(self, disk: str, fault: Fault) -> StorageServer:
        """Put the image file of `disk` behind an NBD server with that fault, which ends with the machine at
        the latest. The file is made long enough for all that the image may ever hold."""

    # -- time, concurrency, life and death
    @abstractmethod
    async def sleep(self, ns: int) -> None: ...

    @abstractmethod
    async def together(self, lanes: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run all lanes concurrently until all have ended; the first exception is raised after that."""

    @abstractmethod
    def now_ns(self) -> int: ...

    @abstractmethod
    async def restart(self) -> None:
        """Start the machine again on the same images (after quit or kill)."""

    @abstractmethod
    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""

    @abstractmethod
    async def pause(self, ns: int) -> None:
        """Stop its process for that long, as SIGSTOP and SIGCONT do; does nothing to one that has ended."""

    @abstractmethod
    async def change_monitor(self) -> None:
        """Break the control connection off without a word, between two commands, and go on through another
        one: what the machine says in between is lost. Raises MachineGone, DeadlinePassed."""

    @abstractmethod
    async def wait_end(self, timeout_ns: int) -> tuple[int | None, str]:
        """Wait for the machine to end by itself: exit status (negative: signal) and its standard error."""

    @abstractmethod
    def ended(self) -> bool: ...

    async def hand_back(self) -> list[tuple[str, str, str]] | None:
        """Take the scenario's disks out of a machine that goes on for others, and look for what is different
        from before it came: (kind, name, detail) as in `left_behind`. None where the machine is the
        scenario's own and ends with it. Raises what `qmp` raises."""
        return None

    async def stacks(self) -> str:
        """What the machine's threads are doing, or were when it died: a debugger's words. "" where nobody can
        tell."""
        return ""

    @abstractmethod
    async def left_behind(self) -> list[tuple[str, str, str]]:
        """After the end: (kind, name, detail) of files in `directory`, processes and sockets that should be
        gone. Disk images are not among them."""

    @abstractmethod
    async def final_image(self, disk: str) -> tuple[int, bytes | Any, int, str]:
        """After the end: size, a reader read(offset, length) -> bytes of the guest-visible content, exit
        status and output of `qemu-img check` (0 and "" for raw)."""


Body = Callable[[Session], Coroutine[Any, Any, None]]


class Backend(ABC):
    """Where scenarios run. `name` is what the user wrote, such as "sim:7.2" or
    "qemu:/usr/bin/qemu-system-x86_64"."""

    name: str
    has_watched_monitor: bool = False  # to be set before `run`, see Session.watched_monitor
    version: str = ""  # of QEMU, "major.minor" as query-version says; known once `probe` was called

    company: Sequence[str] | None = None
    """Files of the scenarios that had run in the machine of the last one before it; None: it had its own."""

    @abstractmethod
    def probe(self) -> tuple[frozenset[str], list[Any]]:
        """Features and introspection of this backend, from a machine started once and kept for the run of the
        program. Raises SetupError."""

    @abstractmethod
    def run(self, scenario: Scenario, seed: int, body: Body, fresh: bool = True) -> None:
        """Make a directory and images, start a machine, run `body(session)` to its end under the scenario's
        deadline, and leave nothing behind whatever happened. Not `fresh`: the machine may be one that others
        have run in, and may be left to others. Raises SetupError or what body raised, and QmpRefused or
        MachineGone where a machine that others have run in does not take the scenario's disks."""

    def retire_shared(self) -> None:
        """Nobody else is to run in the machine that the last scenario was run in."""
        return None

    def end_shared(self) -> list[str]:
        """End the machines that are kept for others, if any: what was wrong with that, in words."""
        return []
