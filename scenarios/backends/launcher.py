"""How the programs of a backend are started: on this host as it is, in another root file system, or in a
container. A launcher belongs to a backend and lives as long; a launch belongs to one run."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from scenarios.backends import stacks
from scenarios.backends.interface import DeadlinePassed, SetupError
from scenarios.backends.processes import Child, Process, Sink, deadline, find_program
from scenarios.backends.run_directory import RunDirectory
from scenarios.backends.tools import PACKAGES, find_tool

# Tools of QEMU itself: of the same build as the machine. All others, such as NBD clients, are the host's.
QEMU_TOOLS = frozenset({"qemu-img", "qemu-io", "qemu-nbd"})

# Places below a build directory: QEMU's own, and those of trees from before Meson (5.2).
_BUILD_PLACES = ("", "storage-daemon", "x86_64-softmmu")


class Started(NamedTuple):
    """A machine, and what gives the socket of its control connection: to be awaited once, under a deadline.
    The socket is at its end if the machine ended before it connected."""

    process: Process
    control: Callable[[], Awaitable[socket.socket]]


class Launch(ABC):
    """Starts the programs of one run, all of them in `place.machine`. `tools_of`: whose QEMU_TOOLS these are,
    the same string for the same programs."""

    def __init__(self, place: RunDirectory, tools_of: str) -> None:
        self.place, self.tools_of = place, tools_of

    @abstractmethod
    async def start_machine(
        self, program: str, arguments: Callable[[str], list[str]], on_stdout: Sink | None
    ) -> Started:
        """`arguments` makes the command line from the option of a `socket` chardev that says where the
        control connection is, such as "fd=7". Standard output comes line by line. Raises SetupError."""

    @abstractmethod
    async def start_own_tool(self, argv: Sequence[str], on_stdout: Sink) -> Process:
        """argv[0] is one of QEMU_TOOLS. Raises SetupError."""

    def on_host(self, program: str) -> tuple[Path, Path] | None:
        """The file of a program that `start_machine` takes, and the root directory that it sees, as this host
        has them; None where it has not."""
        return None

    async def run_tool(self, argv: Sequence[str], timeout_ns: int) -> tuple[int, bytes, str]:
        """Run any program, by its name: status (negative: signal), standard output, the end of standard
        error.

        Raises SetupError if there is no such program, DeadlinePassed after it was killed for taking too long.
        """
        output: list[bytes] = []
        if argv[0] in QEMU_TOOLS:
            process = await self.start_own_tool(argv, output.append)
        else:
            process = Child.start([find_tool(argv[0]), *argv[1:]], self.place, on_stdout=output.append)
        try:
            async with deadline(" ".join(argv), timeout_ns):
                status = await process.wait()
        except DeadlinePassed as error:
            await process.kill_and_wait()
            said = process.stderr.strip()
            raise DeadlinePassed(
                f"{error.waited_for}{f' (standard error: {said})' if said else ''}", timeout_ns
            ) from error
        finally:
            process.kill()
        return status, b"".join(output), process.stderr

    async def close(self) -> None:
        """At the end of the run, when its programs have ended."""
        return None


class Launcher(ABC):
    @abstractmethod
    def find(self, name: str) -> str:
        """How QEMU's program of that name is called where it will run. Raises SetupError."""

    @abstractmethod
    def open(self, place: RunDirectory) -> Launch: ...


class HostLaunch(Launch):
    """Child processes. `prefix` is the command that each is an argument of, `root` the root directory they
    see; `find` as in Launcher."""

    def __init__(
        self,
        place: RunDirectory,
        tools_of: str,
        find: Callable[[str], str],
        prefix: Sequence[str] = (),
        root: Path = Path("/"),
    ) -> None:
        super().__init__(place, tools_of)
        self._find, self._prefix, self._root = find, prefix, root

    def on_host(self, program: str) -> tuple[Path, Path] | None:
        return self._root / program.removeprefix("/"), self._root

    async def start_machine(
        self, program: str, arguments: Callable[[str], list[str]], on_stdout: Sink | None
    ) -> Started:
        # The monitor's connection is made before the program exists, so nobody has to look for a socket to
        # appear. (With a listening socket instead, 7.2's storage daemon greets twice, or never, about once in
        # 200 starts.) We keep no copy of the other end: when the machine dies, this one is closed.
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                child = Child.start(
                    [*self._prefix, program, *arguments(f"fd={theirs.fileno()}")],
                    self.place,
                    pass_fds=[theirs.fileno()],
                    on_stdout=on_stdout,
                    terminal=True,
                    watch_group=True,
                    name=os.path.basename(program),
                )
        except SetupError:
            ours.close()
            raise
        stacks.allow_core(child.pid)

        async def control() -> socket.socket:
            return ours

        return Started(child, control)

    async def start_own_tool(self, argv: Sequence[str], on_stdout: Sink) -> Process:
        command = [*self._prefix, self._find(argv[0]), *argv[1:]]
        return Child.start(command, self.place, on_stdout=on_stdout, name=argv[0])


class HostLauncher(Launcher):
    """Programs of this host: those in PATH, or those of a directory that QEMU was built in. Raises SetupError
    for a directory without qemu-img."""

    def __init__(self, build: Path | None = None) -> None:
        self._build = build
        if build is not None:
            self.find("qemu-img")

    def find(self, name: str) -> str:
        if self._build is None:
            return find_tool(name) if name in PACKAGES else find_program(name)
        places = [self._build / place / name for place in _BUILD_PLACES]
        for path in places:
            if path.is_file() and os.access(path, os.X_OK):
                return os.path.abspath(path)
        looked_for = ", ".join(map(str, places))
        raise SetupError(
            f"{self._build}: expected a directory that QEMU was built in; there is no {name} in it"
            f" (looked for {looked_for}). Build it there: ninja {name}"
        )

    def open(self, place: RunDirectory) -> Launch:
        return HostLaunch(place, str(self._build or "host"), self.find)
