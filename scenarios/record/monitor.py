"""A real QEMU or storage daemon started only to be asked questions over QMP, and gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from scenarios.backends.interface import SetupError
from scenarios.backends.run_directory import RunDirectory

# What comes before a binary, such as a command that enters another root: made from the run directory.
Prefix = Callable[[Path], list[str]]

_SOCKET = "qmp.sock"
_STDERR = "stderr.txt"
# No machine, no default devices: what is recorded is the binary, not a configuration.
NO_BOARD = ("-M", "none")
_ARGUMENTS = {
    "system": ["-nodefaults", "-display", "none", "-qmp", f"unix:{_SOCKET},server=on,wait=off"],
    "storage-daemon": [
        "--chardev",
        f"socket,path={_SOCKET},server=on,wait=off,id=qmp",
        "--monitor",
        "chardev=qmp",
    ],
}
_ENDING_TIMEOUT_S = 10.0
_NEGOTIATION_S = 4.0
_STARTS = 3


def no_prefix(place: Path) -> list[str]:
    """A binary of this host needs nothing before it."""
    del place
    return []


class BinaryEnded(SetupError):
    """The binary ended, or closed its socket, because of a question. `stderr` is what it printed."""

    def __init__(self, message: str, stderr: str) -> None:
        super().__init__(message)
        self.stderr = stderr


class Monitor:
    """A QMP session after negotiation. `greeting` is the QMP member of the greeting.

    Any wait beyond the deadline (`timeout_s` from the start) raises SetupError, which shows the
    standard error.
    """

    def __init__(
        self, command: list[str], kind: str, directory: Path, timeout_s: float, machine: Sequence[str] = ()
    ) -> None:
        """`command`: the binary, perhaps behind what starts it; it runs in `directory`. `machine`: options
        of the machine that it makes."""
        self.path = command[-1]
        self._command = command
        self._arguments = [*machine, *_ARGUMENTS[kind]]
        self._directory = directory
        self._timeout_s = timeout_s
        self._asked = 0
        self._start()

    def _start(self) -> None:
        """A client that connects while the monitor's thread is starting may find a monitor that never
        answers: one start in a few hundred, and not the next one."""
        for _ in range(_STARTS - 1):
            if self._start_once():
                return
            Path(self._directory, _SOCKET).unlink(missing_ok=True)
        self._start_once(patient=True)

    def _start_once(self, patient: bool = False) -> bool:
        """Whether the monitor negotiates; if `patient`, it has all of the time, and SetupError says why
        not."""
        self._deadline = time.monotonic() + self._timeout_s
        self._buffer = b""
        self._process = _spawn([*self._command, *self._arguments], self._directory)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._connect()
            self._refuse_simulator()
            greeting = self._receive("the greeting").get("QMP")
            if greeting is None:
                self._fail("did not begin with a QMP greeting")
            self.greeting: dict[str, Any] = greeting
            return self._negotiates(patient)
        except BaseException:
            self.close()
            raise

    def _negotiates(self, patient: bool) -> bool:
        deadline = self._deadline
        if not patient:
            self._deadline = min(deadline, time.monotonic() + _NEGOTIATION_S)
        try:
            self._negotiate()
        except BinaryEnded:
            if patient:
                raise
            self.close()
            return False
        self._deadline = deadline
        return True

    @property
    def pid(self) -> int:
        return self._process.pid

    def _connect(self) -> None:
        address = str(self._directory / _SOCKET)
        while True:
            try:
                self._socket.connect(address)
                return
            except (FileNotFoundError, ConnectionRefusedError):
                pass
            if self._process.poll() is not None:
                self._fail(f"ended with status {self._process.returncode} at start")
            if time.monotonic() > self._deadline:
                self._fail(f"did not open its QMP socket within {self._timeout_s:g} s")
            time.sleep(0.005)

    def _negotiate(self) -> None:
        """A client that connects while the monitor's thread is starting may see the session opened twice: a
        second greeting, and negotiation once more.
        """
        for _ in range(3):
            self.command("qmp_capabilities")
            if "return" in self.command("query-version"):
                return
        self._fail("does not leave capabilities negotiation")

    def _refuse_simulator(self) -> None:
        """Only real binaries are recorded. A simulator is a Python program, whatever it says it is."""
        try:
            executable = os.readlink(f"/proc/{self._process.pid}/exe")
        except OSError:
            return
        if os.path.basename(executable).startswith(("python", "pypy")):
            self._fail(f"is a Python program ({executable}), not a QEMU: only real binaries are recorded")

    def _fail(self, what: str) -> NoReturn:
        # Ended first: only then is all of its standard error there.
        _end(self._process)
        stderr = Path(self._directory, _STDERR).read_text(errors="replace").strip()
        raise BinaryEnded(f"{self.path} {what}; its standard error: {stderr or 'nothing'}", stderr)

    def _receive(self, what: str) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            remaining_s = self._deadline - time.monotonic()
            chunk = b""
            try:
                self._socket.settimeout(max(remaining_s, 0.001))
                chunk = self._socket.recv(1 << 18)
            except TimeoutError:
                self._fail(f"did not send {what} within {self._timeout_s:g} s")
            except ConnectionError:
                pass
            if not chunk:
                self._fail(f"closed its QMP socket instead of sending {what}")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self._fail(f"sent {line[:80]!r} instead of {what}")
        return message

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """The reply, with its member 'return' or 'error'. What comes in between is dropped."""
        self._asked += 1
        request: dict[str, Any] = {"execute": name, "id": self._asked}
        if arguments is not None:
            request["arguments"] = arguments
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            self._fail(f"closed its QMP socket before {name}")
        while True:
            message = self._receive(f"the reply to {name}")
            if message.get("id") == self._asked:
                return message

    def returns(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """What the command returned. Raises SetupError if it was refused."""
        reply = self.command(name, arguments)
        if "return" not in reply:
            raise SetupError(f"{self.path} refused {name}: {reply['error']['desc']}")
        return reply["return"]

    def restart(self) -> None:
        """A fresh process and session, after BinaryEnded."""
        self.close()
        Path(self._directory, _SOCKET).unlink(missing_ok=True)
        self._start()

    def close(self) -> None:
        self._socket.close()
        _end(self._process)


def _spawn(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    with open(directory / _STDERR, "wb") as stderr:
        try:
            return subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise SetupError(f"{command[-1]}: cannot be started: {error.strerror}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group, so that nothing that a wrapper started stays."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(_ENDING_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait(_ENDING_TIMEOUT_S)


def _command(path: Path, prefix: Prefix, place: Path) -> list[str]:
    """Raises SetupError for a path on this host that is no executable."""
    if prefix is not no_prefix:
        return [*prefix(place), str(path)]
    if not path.is_file():
        raise SetupError(f"{path}: no such file; expected a QEMU executable")
    if not os.access(path, os.X_OK):
        raise SetupError(f"{path}: not executable; expected a QEMU executable")
    return [str(path.absolute())]


@contextmanager
def monitor(
    path: Path, kind: str, timeout_s: float, prefix: Prefix = no_prefix, machine: Sequence[str] = NO_BOARD
) -> Iterator[Monitor]:
    """A running binary ("system" or "storage-daemon") in a directory of its own, ended on leaving.
    `machine`: options of what a system binary makes."""
    with RunDirectory() as place:
        command = _command(path, prefix, place.path)
        opened = Monitor(command, kind, place.machine, timeout_s, machine if kind == "system" else ())
        try:
            yield opened
        finally:
            opened.close()


def complaint(path: Path, arguments: list[str], timeout_s: float, prefix: Prefix = no_prefix) -> str:
    """Run the binary with options that it must refuse: what it prints on standard error."""
    with RunDirectory() as place:
        try:
            ended = subprocess.run(
                [*_command(path, prefix, place.path), *arguments],
                cwd=place.machine,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"{path} {' '.join(arguments)}: still running after {timeout_s:g} s") from error
    return ended.stderr.decode(errors="replace")
