"""`container:IMAGE[+storage-daemon]`: QEMU in a container. IMAGE is a Debian suite, whose image is then made
from its root file system, or any local image with QEMU in it.

One container a run holds the machine, however often it is started, and its tools: its first process is a
small shell script that starts what it is told to through a named pipe in the run directory, which is mounted
at its own path. Sockets, images and the programs' output go through that directory too, so the engine is only
asked to start and to remove. When the run dies without a word, the pipe's end is what ends the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scenarios.backends import stacks
from scenarios.backends.chroot import split_program
from scenarios.backends.interface import Backend, SetupError
from scenarios.backends.launcher import Launch, Launcher, Started
from scenarios.backends.processes import Process, Sink, Stream
from scenarios.backends.qemu import QemuBackend
from scenarios.backends.run_directory import RunDirectory, owner
from scenarios.backends.storage_daemon import StorageDaemonBackend
from scenarios.matrix import roots
from scenarios.matrix.engine import OWNER_LABEL, Engine, engine, image

PREFIX = "container"
FORM = "container:IMAGE[+storage-daemon]"

# $1: the folder of its pipes and scripts.
_SERVE = """
exec 3<"$1/commands"
while read -r verb number name <&3; do
    case $verb in
    run) sh "$1/$number.sh" 3<&- & ;;
    kill) read -r pid <"$1/$number.pid" && kill "-$name" "-$pid" ;;
    esac
done
"""

# One program: where its output goes, what it left running in its process group, and how it ended.
_JOB = """
cd {machine} || exit
{cores}
exec 9>{job}.status
setsid {command} </dev/null >{job}.out 2>{job}.err 9>&- &
pid=$!
echo $pid >{job}.pid
[ -e {job}.kill ] && kill -KILL $pid
wait $pid
status=$?
for process in /proc/[0-9]*; do
    read -r stat <$process/stat || continue
    read -r name <$process/comm || continue
    set -- ${{stat##*) }}
    [ $3 = $pid ] && [ $1 != Z ] && echo "survivor ${{process#/proc/}} $name" >&9
done 2>/dev/null
kill -KILL "-$pid" 2>/dev/null
echo "ended $status" >&9
"""


class ContainerProgram(Process):
    """A program in a run's container, whose pipes are `job`.out, .err and .status."""

    def __init__(self, name: str, job: Path, launch: ContainerLaunch, on_stdout: Sink | None) -> None:
        super().__init__(name)
        self._job, self._launch, self._line = job, launch, b""
        for ending, sink, at_end in (
            ("out", on_stdout or (lambda piece: None), None),
            ("err", self.said.feed, None),
            ("status", self._note, self._closed),
        ):
            path = f"{job}.{ending}"
            os.mkfifo(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.streams.append(Stream(descriptor, sink, at_end))

    def signal(self, number: signal.Signals) -> None:
        if self.status is None:
            if number == signal.SIGKILL:
                Path(f"{self._job}.kill").touch()
            self._launch.tell(f"kill {self._job.name} {number.name.removeprefix('SIG')}")

    def abandon(self) -> None:
        """Its container is gone."""
        if self.status is None:
            self.finish(-9)

    def _note(self, piece: bytes) -> None:
        *lines, self._line = (self._line + piece).split(b"\n")
        for line in lines:
            word, number, *name = line.decode(errors="replace").split(" ", 2)
            if word == "survivor":
                self.survivors.append((int(number), " ".join(name)))
            elif self.status is None:
                # As a shell has it: 128 and more is a signal.
                self.finish(int(number) if int(number) <= 128 else 128 - int(number))

    def _closed(self) -> None:
        """The status will never come: what the engine has of the container goes to the standard error."""
        if self.status is None:
            self._launch.note_death(self)


class ContainerLaunch(Launch):
    """The container is started with the first program. `root`: the root file system that the image was made
    from, where this host has it."""

    def __init__(self, place: RunDirectory, where: Engine, image_name: str, root: Path | None) -> None:
        super().__init__(place, f"{PREFIX}:{image_name}")
        self._engine, self._image, self._root = where, image_name, root
        self._folder = place.path / "container"
        self._folder.mkdir()
        os.mkfifo(self._folder / "commands")
        # Open for reading too, so that opening does not wait for the container.
        self._commands = os.open(self._folder / "commands", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._count = 0
        self._executor = ThreadPoolExecutor(1)
        self._container: Any = None
        self._starting: Future[None] | None = None
        self._dying: list[asyncio.Task[None]] = []
        place.destroy_at_end(self)

    async def start_machine(
        self, program: str, arguments: Callable[[str], list[str]], on_stdout: Sink | None
    ) -> Started:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        path = self.place.path / f"control{self._count}.sock"
        listener.bind(str(path))
        listener.listen()
        # For a pipe the C library would keep lines back.
        argv = ["stdbuf", "-oL", program, *arguments(f"path={path}")]
        try:
            process = await self._start(program, argv, on_stdout)
        except BaseException:
            listener.close()
            raise

        async def control() -> socket.socket:
            with listener:
                return await _accept(listener, process)

        return Started(process, control)

    async def start_own_tool(self, argv: Sequence[str], on_stdout: Sink) -> Process:
        return await self._start(argv[0], argv, on_stdout)

    async def _start(self, name: str, argv: Sequence[str], on_stdout: Sink | None) -> ContainerProgram:
        if self._starting is None:
            self._starting = self._executor.submit(self._start_container)
        await asyncio.shield(asyncio.wrap_future(self._starting))
        self._count += 1
        job = self._folder / str(self._count)
        words = {"machine": shlex.quote(str(self.place.machine)), "job": shlex.quote(str(job))}
        words["cores"] = "ulimit -c unlimited" if stacks.core_prefix() else ""
        Path(f"{job}.sh").write_text(_JOB.format(command=shlex.join(argv), **words))
        process = ContainerProgram(name, job, self, on_stdout)
        self.tell(f"run {job.name}")
        return process

    def on_host(self, program: str) -> tuple[Path, Path] | None:
        return None if self._root is None else (self._root / "usr/bin" / program, self._root)

    def tell(self, line: str) -> None:
        os.write(self._commands, line.encode() + b"\n")

    # -- the container, in the one thread that asks the engine

    def _start_container(self) -> None:
        """Raises SetupError."""
        import docker
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        # Its reaper is an image of a registry; labels do the same for us.
        testcontainers_config.ryuk_disabled = True
        script = self._folder / "serve.sh"
        script.write_text(_SERVE)
        user = "" if self._engine.is_podman or os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
        container = (
            DockerContainer(self._image, docker_client_kw=self._engine.arguments())
            .with_volume_mapping(self.place.path, str(self.place.path), "rw")
            .with_env("LC_ALL", "C")
            .with_kwargs(
                entrypoint=["sh", str(script), str(self._folder)],
                labels={OWNER_LABEL: owner()},
                network=None,
                network_mode="none",
                user=user,
            )
        )
        self._container = container
        try:
            container.start()
        except (docker.errors.DockerException, OSError) as error:
            where = f"image {self._image} at {self._engine.url}"
            raise SetupError(f"{where}: cannot be started: {error}") from None

    def _remove_container(self) -> None:
        """An engine that has gone meanwhile leaves the container to whoever runs next."""
        import docker

        if self._container is not None:
            container, self._container = self._container, None
            with contextlib.suppress(docker.errors.DockerException, OSError):
                container.stop()

    def note_death(self, program: ContainerProgram) -> None:
        self._dying.append(asyncio.get_running_loop().create_task(self._tell_death(program)))

    async def _tell_death(self, program: ContainerProgram) -> None:
        loop = asyncio.get_running_loop()
        program.said.feed(await loop.run_in_executor(self._executor, self._log))
        program.abandon()

    def _log(self) -> bytes:
        """What the engine has of a container that ended although it was not told to."""
        try:
            container = self._container.get_wrapped_container()
            container.reload()
            status, log = container.attrs["State"].get("ExitCode"), container.logs()
        except Exception as error:
            return f"\ncontainer of {self._image}: it is gone, and so is its log: {error}\n".encode()
        head = f"\ncontainer {container.short_id} of {self._image} ended with status {status}; its log: "
        return head.encode() + (log or b"(empty)")

    async def close(self) -> None:
        """Whatever still runs in it goes with the container."""
        for task in self._dying:
            await task
        await asyncio.get_running_loop().run_in_executor(self._executor, self._remove_container)
        self.destroy()

    def destroy(self) -> None:
        """The last resort of the run directory; does nothing after `close`."""
        if self._commands >= 0:
            self._executor.submit(self._remove_container)
            self._executor.shutdown(wait=True)
            os.close(self._commands)
            self._commands = -1


async def _accept(listener: socket.socket, process: Process) -> socket.socket:
    """The machine's connection, or one that is at its end if the machine ended first."""
    loop = asyncio.get_running_loop()
    accepting = loop.create_task(loop.sock_accept(listener))
    try:
        either: list[asyncio.Future[Any]] = [accepting, process.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            return accepting.result()[0]
    finally:
        accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await accepting
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


class ContainerLauncher(Launcher):
    """Raises SetupError where there is no engine, or no such image."""

    def __init__(self, name: str) -> None:
        self._engine = engine()
        self._image = image(self._engine, name)
        self._root = roots.require(name).path if roots.is_suite(name) else None

    def find(self, name: str) -> str:
        """The image's own search path has it, or its shell will say that it has not."""
        return name

    def open(self, place: RunDirectory) -> Launch:
        return ContainerLaunch(place, self._engine, self._image, self._root)


def open_backend(name: str, argument: str) -> Backend:
    """`argument`: "trixie", "trixie+storage-daemon", or a local image. Raises SetupError."""
    image_name, is_daemon = split_program(argument)
    if not image_name:
        raise SetupError(f"{name}: expected {FORM}, such as container:trixie")
    launcher = ContainerLauncher(image_name)
    if is_daemon:
        return StorageDaemonBackend(name, launcher=launcher)
    return QemuBackend(name, launcher=launcher)
