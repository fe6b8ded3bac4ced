"""Child processes on asyncio: each leads its own session, cannot outlive us, and says how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pty
import shutil
import signal
import subprocess
import tty
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache

from scenarios.backends.interface import DeadlinePassed, SetupError
from scenarios.backends.run_directory import RunDirectory, group_members

_TAIL_BYTES = 64 * 1024
_READ_BYTES = 1 << 18

Sink = Callable[[bytes], object]


@asynccontextmanager
async def deadline(waited_for: str, timeout_ns: int) -> AsyncIterator[None]:
    """Raises DeadlinePassed from the body when it takes longer; other TimeoutErrors pass unchanged."""
    timer = asyncio.timeout(timeout_ns / 1e9)
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if timer.expired():
            raise DeadlinePassed(waited_for, timeout_ns) from error
        raise


def signal_name(number: int) -> str:
    """ "SIGABRT" for 6; "signal 99" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe_end(name: str, status: int | None, stderr: str) -> str:
    """One sentence: how a program ended and what it last said. `status` < 0: the signal; None: it runs."""
    if status is None:
        how = "still runs"
    elif status < 0:
        how = f"killed by {signal_name(-status)}"
    else:
        how = f"exited with status {status}"
    said = stderr.strip()
    return f"{name} {how}; standard error: {said}" if said else f"{name} {how}; nothing on standard error"


class Tail:
    """The last 64 KiB of a stream."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._dropped_bytes = 0

    def feed(self, piece: bytes) -> None:
        self._kept += piece
        surplus = len(self._kept) - _TAIL_BYTES
        if surplus > 0:
            del self._kept[:surplus]
            self._dropped_bytes += surplus

    def clear(self) -> None:
        self._kept.clear()
        self._dropped_bytes = 0

    def text(self) -> str:
        head = f"[{self._dropped_bytes} bytes before this]\n" if self._dropped_bytes else ""
        return head + self._kept.decode(errors="replace")


@cache
def death_wrapper() -> tuple[str, ...]:
    """util-linux's setpriv asks the kernel to kill the program when we die (PR_SET_PDEATHSIG), then becomes
    it.

    Doing so between fork and exec in Python would need a full fork of this process. Without setpriv the stale
    run directory's list of children is what ends them, at the next start.
    """
    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "KILL", "--") if found else ()


def find_program(path: str) -> str:
    """The absolute path of an executable: SetupError says what is wrong with `path` if it is none."""
    if os.sep not in path:
        found = shutil.which(path)
        if found is None:
            raise SetupError(f"{path}: not found in PATH ({os.environ.get('PATH', '')})")
        return found
    if not os.path.exists(path):
        raise SetupError(f"{path}: expected an executable file, there is no such file")
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise SetupError(f"{path}: expected an executable file, it is not executable")
    return os.path.abspath(path)


class Stream:
    """A file descriptor that is read whenever the loop finds something in it. `at_end` is called once, when
    all that write to it have closed it."""

    def __init__(self, descriptor: int, sink: Sink, at_end: Callable[[], object] | None = None) -> None:
        self._descriptor, self._sink, self._at_end = descriptor, sink, at_end
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self.drain)
        self._open = True

    def drain(self) -> None:
        """Take what is there now; close at end of file (EIO is a terminal whose other side is closed)."""
        while self._open:
            try:
                piece = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                piece = b""
            if not piece:
                self.close()
                if self._at_end is not None:
                    self._at_end()
                return
            self._sink(piece)

    def close(self) -> None:
        if self._open:
            self._open = False
            if not self._loop.is_closed():
                self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)


class Process(ABC):
    """A running program. `status` is None until it has ended, then as subprocess has it (negative: the
    signal).

    `survivors` are the (process id, name) of the processes of its group that were still there when it ended;
    they are killed then. Only looked for where `watch_group` was asked for.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.status: int | None = None
        self.survivors: list[tuple[int, str]] = []
        self.streams: list[Stream] = []
        self.said = Tail()
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()

    @property
    def stderr(self) -> str:
        return self.said.text()

    @property
    def root_path(self) -> str:
        """Where the root directory that it sees, with all that is mounted there, is on this host; "" where
        that cannot be told."""
        return ""

    def describe(self) -> str:
        return describe_end(self.name, self.status, self.stderr)

    async def wait(self) -> int:
        """Its exit status, as soon as it has ended."""
        await asyncio.shield(self.ended)
        assert self.status is not None
        return self.status

    @abstractmethod
    def signal(self, number: signal.Signals) -> None:
        """To all of it; does nothing once it has ended."""

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    async def kill_and_wait(self) -> int:
        self.kill()
        async with deadline(f"{self.name} to go after SIGKILL", 10_000_000_000):
            return await self.wait()

    def finish(self, status: int) -> None:
        """To be called once, when it has ended: takes what it still said, and wakes who waits."""
        self.status = status
        for stream in self.streams:
            stream.drain()
            stream.close()
        if not self.ended.done() and not self.loop.is_closed():
            self.ended.set_result(None)


class Child(Process):
    """A child process of this one. Its group is only looked at where that was asked for, as it reads all of
    /proc."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], watch_group: bool) -> None:
        super().__init__(name)
        self.pid = popen.pid
        self._popen, self._watch_group = popen, watch_group
        self._pidfd: int | None = os.pidfd_open(popen.pid)
        self.loop.add_reader(self._pidfd, self._reap)

    @property
    def root_path(self) -> str:
        return f"/proc/{self.pid}/root"

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        place: RunDirectory,
        *,
        pass_fds: Sequence[int] = (),
        on_stdout: Sink | None = None,
        terminal: bool = False,
        watch_group: bool = False,
        name: str = "",
    ) -> Child:
        """Start argv[0] (an absolute path) in `place.machine`. Standard output goes to `on_stdout` in pieces
        (left out: discarded); with `terminal` the program sees a terminal there, so that its C library
        writes out every line at once. `name`: what it is called in messages (left out: after its file).
        Must be called from a thread that lives on: the kernel ties the child to it.
        """
        ours, theirs = _output_pair(terminal) if on_stdout else (None, subprocess.DEVNULL)
        err_ours, err_theirs = os.pipe2(os.O_CLOEXEC)
        try:
            popen = subprocess.Popen(
                [*death_wrapper(), *argv],
                cwd=place.machine,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=err_theirs,
                pass_fds=pass_fds,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as error:
            os.close(err_ours)
            if ours is not None:
                os.close(ours)
            raise SetupError(f"{argv[0]}: expected a program that can be started: {error}") from error
        finally:
            os.close(err_theirs)
            if theirs >= 0:
                os.close(theirs)
        child = cls(name or os.path.basename(argv[0]), popen, watch_group)
        child.streams.append(Stream(err_ours, child.said.feed))
        if ours is not None and on_stdout is not None:
            child.streams.append(Stream(ours, on_stdout))
        place.adopt(child)
        return child

    def signal(self, number: signal.Signals) -> None:
        """To its whole process group. Until we have reaped it the group's id is not used again."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def destroy(self) -> None:
        """The same without a loop: the last resort of the run directory."""
        self.kill()
        self._reap()

    def _reap(self) -> None:
        if self.status is not None:
            return
        # Waiting without reaping keeps the process id ours, so that the group cannot be a stranger's.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        if self._watch_group:
            self.survivors = group_members(self.pid)
        self.kill()
        status = self._popen.wait()
        if self._pidfd is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self.finish(status)


def _output_pair(terminal: bool) -> tuple[int, int]:
    """(our end, the program's end) of what carries its standard output."""
    if not terminal:
        return os.pipe2(os.O_CLOEXEC)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return ours, theirs
