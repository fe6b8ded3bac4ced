"""Directories that runs live in, and what removes them when the program that made them could not.

A run directory is ``TMPDIR/goldenfleece-UID-RANDOM``. Its file ``owner`` says which process made it (process
id, start time in clock ticks since boot, process-id namespace), its file ``children`` which processes it
started. A directory whose owner is no longer there is removed, and its children killed, before the next run
begins.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

from scenarios.backends.interface import SetupError
from scenarios.backends.rooms import unmount_below

DIRECTORY_PREFIX = f"goldenfleece-{os.getuid()}-"
# sun_path holds 108 bytes with the terminating zero, unix(7).
_LONGEST_SOCKET_PATH = 107
# A directory is made first and its owner written after: younger ones may still be on their way.
_NO_OWNER_STALE_S = 60.0


class Destructible(Protocol):
    """What a run started, as its directory sees it."""

    def destroy(self) -> None: ...


class DestructibleChild(Destructible, Protocol):
    """A child process, which leads a process group."""

    pid: int


def process_start_time(pid: int) -> int | None:
    """Clock ticks since boot (field 22 of proc(5)'s stat); None if there is no such process, or only a
    zombie."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] == "Z":
        return None
    return int(fields[19])


def owner() -> str:
    """This process, in words that tell it from any other of this machine: see `owner_is_gone`."""
    return f"{os.getpid()} {process_start_time(os.getpid())} {_namespace()}"


def owner_is_gone(words: str) -> bool | None:
    """False also for a process that cannot be seen from here; None for words that are none of `owner`."""
    fields = words.split()
    if len(fields) != 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    pid, start, namespace = fields
    return namespace == _namespace() and process_start_time(int(pid)) != int(start)


def group_members(process_group: int) -> list[tuple[int, str]]:
    """(process id, command name) of the processes of that group that still run."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat_fields(int(entry))
            if fields is not None and fields[0] != "Z" and int(fields[2]) == process_group:
                members.append((int(entry), _command_name(int(entry))))
    return sorted(members)


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state (field 3) on: the name before it may hold spaces and
    brackets."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return stat[stat.rindex(")") + 2 :].split()


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "?"


class RunDirectory:
    """A context manager: the directory exists inside, and nothing of it, nor any adopted child, after.

    `path` holds what the run itself needs (control socket); `machine` is the directory of images, where the
    machine and every tool run, and where a file that nobody knows is a finding.
    """

    def __init__(self) -> None:
        _reap_once()
        base = tempfile.gettempdir()
        longest = f"{base}/{DIRECTORY_PREFIX}xxxxxxxx/machine/nbd.sock"
        if len(os.fsencode(longest)) > _LONGEST_SOCKET_PATH:
            raise SetupError(
                f"temporary directory {base}: its path is too long for unix sockets"
                f" ({len(longest)} bytes for {longest}, at most {_LONGEST_SOCKET_PATH});"
                " set TMPDIR to a shorter one"
            )
        try:
            self.path = Path(tempfile.mkdtemp(prefix=DIRECTORY_PREFIX))
        except OSError as error:
            raise SetupError(
                f"temporary directory {base}: expected to make a directory in it: {error}"
            ) from error
        self.machine = self.path / "machine"
        self.machine.mkdir()
        (self.path / "owner").write_text(f"{owner()}\n")
        self._children: list[Destructible] = []

    def adopt(self, child: DestructibleChild) -> None:
        """From here on the child is killed when this directory goes, by us or by whoever finds it stale."""
        self.destroy_at_end(child)
        with (self.path / "children").open("a") as file:
            file.write(f"{child.pid} {process_start_time(child.pid)}\n")

    def destroy_at_end(self, started: Destructible) -> None:
        """For what is no process of ours: whoever finds the directory stale does not know of it."""
        self._children.append(started)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for child in self._children:
                child.destroy()
        finally:
            remove_tree(self.path)


def remove_tree(path: Path) -> None:
    """With all that is mounted in it."""
    unmount_below(path)
    shutil.rmtree(path, ignore_errors=True)


_reaped = False


def _reap_once() -> None:
    global _reaped
    if not _reaped:
        _reaped = True
        reap_stale(Path(tempfile.gettempdir()))


def reap_stale(base: Path) -> list[Path]:
    """Remove run directories of this user below `base` whose owner is gone, and kill the children they name.

    Owners in another process-id namespace cannot be seen from here, so their directories are left alone.
    """
    removed = []
    with os.scandir(base) as entries:
        candidates = [Path(entry.path) for entry in entries if entry.name.startswith(DIRECTORY_PREFIX)]
    for path in candidates:
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid == os.getuid() and path.is_dir() and not path.is_symlink() and _is_stale(path):
                _kill_children(path)
                remove_tree(path)
                removed.append(path)
    return removed


def _is_stale(path: Path) -> bool:
    try:
        words = (path / "owner").read_text()
    except OSError:
        words = ""
    gone = owner_is_gone(words)
    return time.time() - path.lstat().st_mtime > _NO_OWNER_STALE_S if gone is None else gone


def _kill_children(path: Path) -> None:
    """Each child leads a process group of its own; the start time tells it from a newer process of that
    id."""
    try:
        lines = (path / "children").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        pid, _, start = line.partition(" ")
        if pid.isdigit() and str(process_start_time(int(pid))) == start:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGKILL)
