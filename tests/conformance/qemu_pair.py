"""The same commands to the real QEMU 7.2 and to the simulator, and what each made of them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine
from simulator.versions import load

BINARY = "qemu-system-x86_64"
DEADLINE_S = 10.0
# How long a machine must be silent to be taken to have nothing more to say.
QUIET_S = 0.03

Step = tuple[str, dict[str, Any]]


def event_text(name: str, members: dict[str, Any]) -> str:
    """Such as "j running", "COMPLETED j (Input/output error)", "ERROR j read stop"."""
    if name == "JOB_STATUS_CHANGE":
        return f"{members['id']} {members['status']}"
    if name == "BLOCK_JOB_ERROR":
        return f"ERROR {members['device']} {members['operation']} {members['action']}"
    error = f" ({members['error']})" if "error" in members else ""
    rest = {key: value for key, value in members.items() if key not in ("device", "id", "error")}
    shown = json.dumps(rest, sort_keys=True) if rest else ""
    subject = members.get("device", members.get("id"))
    return f"{name.removeprefix('BLOCK_JOB_')} {subject}{error} {shown}".rstrip()


class RealQemu:
    """`qemu-system-x86_64 -machine none` with a QMP monitor on a socket pair."""

    def __init__(self, directory: Path) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        # Opened twice: QEMU's offset must not be moved by reading.
        log = tempfile.NamedTemporaryFile()  # noqa: SIM115
        self._printed = open(log.name, "rb")  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                BINARY, "-machine", "none", "-nodefaults", "-display", "none",
                "-chardev", f"socket,id=q,fd={theirs.fileno()}", "-mon", "q,mode=control",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=directory,
            pass_fds=[theirs.fileno()],
        )  # fmt: skip
        theirs.close()
        log.close()
        self._bytes = b""
        self._events: list[str] = []
        greeting = self._message(DEADLINE_S, "the greeting")
        self.version = greeting["QMP"]["version"]["qemu"]
        self.run("qmp_capabilities", {})

    def _line(self, timeout_s: float) -> bytes | None:
        until = time.monotonic() + timeout_s
        while b"\n" not in self._bytes:
            self._socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                received = self._socket.recv(1 << 16)
            except TimeoutError:
                return None
            assert received, f"QEMU closed its monitor: {self.printed()}"
            self._bytes += received
        line, self._bytes = self._bytes.split(b"\n", 1)
        return line

    def _message(self, timeout_s: float, what: str) -> dict[str, Any]:
        line = self._line(timeout_s)
        assert line is not None, f"QEMU has not sent {what} within {timeout_s} s"
        message: dict[str, Any] = json.loads(line)
        return message

    def run(self, command: str, arguments: dict[str, Any], timeout_s: float = DEADLINE_S) -> Any:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._message(timeout_s, f"the reply to {command}")
            if "event" in message:
                self._events.append(event_text(message["event"], message["data"]))
            else:
                return reply_of(message)

    def events(self, expected: int) -> list[str]:
        """What happened since the last call: waits for as many events, then until no more come."""
        until = time.monotonic() + 2
        while True:
            enough = len(self._events) >= expected or time.monotonic() > until
            line = self._line(QUIET_S)
            if line is not None:
                message = json.loads(line)
                self._events.append(event_text(message["event"], message["data"]))
            elif enough:
                events, self._events = self._events, []
                return events

    def printed(self, expected_lines: int) -> str:
        """Standard output and error since the last call: waits for as many lines, as what is printed about a
        request in the background comes after the reply."""
        until = time.monotonic() + DEADLINE_S
        text = self._printed.read().decode()
        while text.count("\n") < expected_lines and time.monotonic() < until:
            time.sleep(QUIET_S)
            text += self._printed.read().decode()
        return text

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()
        self._printed.close()


class Simulated:
    """The machine in this process, with a file system in memory."""

    def __init__(self, directory: Path, version: str = "7.2") -> None:
        host = MemoryHost()
        host.make_directories(str(directory))
        self.machine = Machine(load(version), host)
        self._monitor = self.machine.connect_monitor()
        self._monitor.output()
        self._events: list[str] = []
        self._seen = (0, 0)
        self.run("qmp_capabilities", {})

    def run(self, command: str, arguments: dict[str, Any]) -> Any:
        """Runs all that can happen at once; virtual time does not pass."""
        self._monitor.receive(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.machine.run_for(0)
        reply = None
        for line in self._monitor.output().splitlines():
            message = json.loads(line)
            if "event" in message:
                self._events.append(event_text(message["event"], message["data"]))
            else:
                reply = reply_of(message)
        return reply

    def events(self) -> list[str]:
        events, self._events = self._events, []
        return events

    def printed(self) -> str:
        """Standard output and error since the last call."""
        printed = [*self.machine.printed[self._seen[0] :], *self.machine.warnings[self._seen[1] :]]
        self._seen = len(self.machine.printed), len(self.machine.warnings)
        return "".join(text if text.endswith("\n") else f"{text}\n" for text in printed)


def reply_of(message: dict[str, Any]) -> Any:
    """The value of `return`, or "CLASS: text"."""
    if "error" in message:
        return f"{message['error']['class']}: {message['error']['desc']}"
    return message["return"]


def comparable(value: Any) -> str:
    """Without what is made up anew on every run, names of nodes that were given none, and without what is
    the file system's: how much an image takes of it."""
    text = re.sub(r"#block\d+", "#block", json.dumps(value, sort_keys=True))
    return re.sub(r'"actual-size": \d+', '"actual-size": "?"', text)


def is_hmp(step: Step) -> bool:
    return step[0] == "human-monitor-command"


def told(printed: str, reply: Any) -> list[str]:
    """What a qemu-io command came to, without the times that it took and what a job before it said about new
    images. Sorted: requests that go on in the background end in any order."""
    lines = [*str(reply or "").splitlines(), *printed.splitlines()]
    return sorted(line.strip() for line in lines if not _LEFT_OUT.search(line))


_LEFT_OUT = re.compile(r"ops; .* sec \(|^Formatting '")


def compare(steps: list[Step], directory: Path) -> None:
    """Run all steps on both; replies and events must be the same, whichever order they come in to each
    other."""
    if shutil.which(BINARY) is None:
        pytest.skip(f"{BINARY} is not installed: apt install qemu-system-x86")
    simulated, real = Simulated(directory), RealQemu(directory)
    try:
        if (real.version["major"], real.version["minor"]) != (7, 2):
            pytest.skip(f"{BINARY} is {real.version['major']}.{real.version['minor']}, not 7.2")
        for number, step in enumerate(steps):
            command, arguments = step
            ours = simulated.run(command, arguments)
            our_events = simulated.events()
            theirs = real.run(command, arguments)
            their_events = real.events(len(our_events))
            where = f"step {number}: {command} {json.dumps(arguments)}"
            if is_hmp(step):
                printed = simulated.printed()
                outcome = told(printed, ours), told(real.printed(printed.count("\n")), theirs)
                assert outcome[0] == outcome[1], f"{where}: (simulator, QEMU) {outcome}"
            else:
                assert comparable(ours) == comparable(theirs), where
            assert our_events == their_events, where
    finally:
        real.close()
