"""The real executables of 7.2 and the simulator's, run alike: what tests in this folder compare.

Nothing here is skipped: a program that is not installed fails the test that wants it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from simulator.serve.emulator import write_emulator

SYSTEM = "qemu-system-x86_64"
DAEMON = "qemu-storage-daemon"
DEADLINE_S = 15.0
_GREETING_S = 5.0
# A machine without devices or default ones, as small as a system emulator gets.
NONE = ("-M", "none", "-nodefaults", "-display", "none")
# A PC that never runs its CPUs.
PC = ("-M", "pc", "-accel", "tcg,tb-size=4", "-nodefaults", "-display", "none", "-S")


def real(program: str) -> str:
    """The path of an installed program."""
    found = shutil.which(program)
    assert found is not None, f"{program} is not installed"
    return found


@functools.cache
def _emulator_place() -> tempfile.TemporaryDirectory[str]:
    place: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="emulator-")
    os.chmod(place.name, 0o755)
    write_emulator(place.name, "7.2")
    return place


def simulated(program: str) -> str:
    """The path of the simulator's executable, answering as 7.2; written once a run."""
    return os.path.join(_emulator_place().name, program)


def program_path(program: str, is_real: bool) -> str:
    return real(program) if is_real else simulated(program)


class Running:
    """A started program with a QMP monitor on a socket pair, its standard streams kept."""

    def __init__(
        self, argv: Sequence[str], cwd: Path, monitor: Sequence[str] = (), is_real: bool = False
    ) -> None:
        """`monitor` are options in which {fd} is the descriptor of our socket; none: no monitor."""
        self._given = (argv, cwd, monitor)
        self._is_real = is_real
        self._start()

    def _start(self) -> None:
        argv, cwd, monitor = self._given
        self.ours, theirs = socket.socketpair()
        options = [option.replace("{fd}", str(theirs.fileno())) for option in monitor]
        self.stdout = (cwd / "stdout").open("w+b")
        self.stderr = (cwd / "stderr").open("w+b")
        self.process = subprocess.Popen(
            [*argv, *options], cwd=cwd, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=self.stdout, stderr=self.stderr, env={"LC_ALL": "C"},
        )  # fmt: skip
        theirs.close()
        self._bytes = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self.ours.close()
        self.stdout.close()
        self.stderr.close()

    def send(self, payload: bytes) -> None:
        """To the monitor; a program that has ended by now gets nothing."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.ours.sendall(payload)

    def line(self, what: str, timeout_s: float = DEADLINE_S) -> bytes:
        """The next line from the monitor, b"" at its end."""
        until = time.monotonic() + timeout_s
        while b"\n" not in self._bytes:
            self.ours.settimeout(max(0.001, until - time.monotonic()))
            try:
                received = self.ours.recv(1 << 16)
            except TimeoutError:
                raise AssertionError(f"waited {timeout_s} s for {what}; have {self._bytes!r}") from None
            except ConnectionResetError:
                return b""
            if not received:
                return b""
            self._bytes += received
        line, self._bytes = self._bytes.split(b"\n", 1)
        return line

    def message(self, what: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        line = self.line(what, timeout_s)
        assert line, f"closed while waiting for {what}; {self.printed()}"
        message: dict[str, Any] = json.loads(line)
        return message

    def negotiate(self) -> Running:
        """QEMU's monitor, of a few hundred that start on a loaded machine, is one that never greets: a race
        at the start of its thread. It is then started once more; the simulator is not."""
        try:
            greeting = self.message("the greeting", _GREETING_S if self._is_real else DEADLINE_S)
        except AssertionError:
            if not self._is_real or self.process.poll() is not None:
                raise
            self.__exit__()
            self._start()
            greeting = self.message("the greeting")
        assert "QMP" in greeting
        assert self.qmp("qmp_capabilities") == {}
        return self

    def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What the command returned, or the whole error object."""
        request = {"execute": command} if arguments is None else {"execute": command, "arguments": arguments}
        self.send(json.dumps(request).encode() + b"\n")
        while True:
            message = self.message(f"the reply to {command}")
            if "event" in message:
                self.events.append(message)
            else:
                return message["return"] if "return" in message else message["error"]

    def hmp(self, line: str) -> Any:
        return self.qmp("human-monitor-command", {"command-line": line})

    def wait_event(self, name: str) -> dict[str, Any]:
        """An event of that name, from the past or to come."""
        for event in self.events:
            if event["event"] == name:
                return event
        while True:
            message = self.message(f"event {name}")
            if "event" in message:
                self.events.append(message)
            if message.get("event") == name:
                return message

    def gather(self, quiet_s: float) -> None:
        """Take in events until none has come for so long."""
        while True:
            try:
                message = json.loads(self.line("an event", quiet_s))
            except AssertionError:
                return
            self.events.append(message)

    def wait(self) -> int:
        """The exit status."""
        return self.process.wait(DEADLINE_S)

    def printed(self) -> tuple[str, str]:
        """All of standard output and standard error so far."""
        texts = []
        for stream in (self.stdout, self.stderr):
            with open(stream.name, "rb") as again:
                texts.append(again.read().decode())
        return texts[0], texts[1]


SYSTEM_MONITOR = ("-chardev", "socket,id=own,fd={fd}", "-mon", "own,mode=control")
DAEMON_MONITOR = ("--chardev", "socket,id=own,fd={fd}", "--monitor", "chardev=own")


def start(
    program: str, is_real: bool, cwd: Path, options: Sequence[str] = (), base: Sequence[str] | None = None
) -> Running:
    """The program with `options`, behind the `base` (of a system emulator NONE, unless given), and our
    monitor."""
    monitor = SYSTEM_MONITOR if program == SYSTEM else DAEMON_MONITOR
    if base is None:
        base = NONE if program == SYSTEM else ()
    return Running([program_path(program, is_real), *base, *options], cwd, monitor, is_real)


def wait_until(true: Any, what: str, timeout_s: float = DEADLINE_S) -> None:
    """Until `true()` is."""
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, f"waited {timeout_s} s for {what}"
        time.sleep(0.002)


def read_all(sock: socket.socket, what: str, timeout_s: float = DEADLINE_S) -> bytes:
    """All that comes until the other side closes."""
    until = time.monotonic() + timeout_s
    pieces = []
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, until - time.monotonic())):
                raise AssertionError(f"waited {timeout_s} s for {what}; have {b''.join(pieces)!r}")
            try:
                piece = sock.recv(1 << 16)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


# -- programs that are talked to on a socket of the file system
both = pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
programs = pytest.mark.parametrize("program", [SYSTEM, DAEMON])
SETTLED_S = 0.03
QMP_SOCKET = "socket,id=q,path=q.sock,server=on,wait=off"


def command_line(program: str, is_real: bool, chardev: str = QMP_SOCKET) -> list[str]:
    """A program with a QMP monitor on q.sock."""
    if program == SYSTEM:
        return [program_path(program, is_real), *NONE, "-chardev", chardev, "-mon", "q,mode=control"]
    return [program_path(program, is_real), "--chardev", chardev, "--monitor", "chardev=q"]


@contextlib.contextmanager
def started(argv: list[str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def connect(path: Path) -> socket.socket:
    """When somebody listens, and has for a moment: a client that comes while the storage daemon of 7.2
    starts to listen is sometimes greeted twice, or never answered."""
    wait_until(path.exists, f"the socket {path}")
    time.sleep(SETTLED_S)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE_S)

    def connected() -> bool:
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            # Not there yet, or its queue is full.
            return False
        return True

    wait_until(connected, f"somebody to listen on {path}")
    return client


def ask(client: socket.socket, *requests: str) -> list[dict[str, object]]:
    """As many messages as there are requests, and the greeting."""
    client.sendall("".join(requests).encode())
    with client.makefile("rb") as lines:
        return [json.loads(lines.readline()) for _ in range(len(requests) + 1)]


CAPABLE, QUIT, JOBS = (json.dumps({"execute": name}) for name in ("qmp_capabilities", "quit", "query-jobs"))


# -- servers that are not ours


@contextlib.contextmanager
def serving(
    argv: Sequence[str], directory: Path, is_there: Callable[[], bool] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of image `i` in `directory`, once it listens: there on socket `s`, unless `is_there` knows."""
    assert shutil.which(argv[0]), f"{argv[0]} is not installed: apt install qemu-utils nbdkit"
    path = directory / "s"
    path.unlink(missing_ok=True)
    words = [word.format(socket=path, image=directory / "i") for word in argv]
    process = subprocess.Popen(words, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(path)) == 0

    try:
        wait_until(is_there or listens, f"{argv[0]} to listen")
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_S)
