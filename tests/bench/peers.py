"""The two sides of each measurement: a simulated machine in this process, and real programs over their
sockets."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator import versions
from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine
from simulator.wire.nbd import constants as nbd
from simulator.wire.nbd.client import open_export
from simulator.wire.nbd.messages import Ready, Reply

DISK_BYTES = 16 << 20
READ_BYTES = 64 << 10
START_S = 10.0

# (command, its request as sent to either side); None is the NBD session with its one read.
Step = tuple[str, bytes] | None


def request(name: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n"


def _steps(cycle: list[tuple[str, dict[str, Any]] | None]) -> list[Step]:
    """Encoded once, before anything is timed: what a client does for a request is no part of the cycle."""
    return [None if step is None else (step[0], request(*step)) for step in cycle]


def overlay_cycle(directory: str) -> list[Step]:
    """One fleecing cycle as libvirt does it on a raw disk `vda`: 11 commands and one NBD session. `directory`
    is that of the sockets and files."""
    unix = {"type": "unix", "data": {"path": f"{directory}/nbd.sock"}}
    scratch = {"driver": "qcow2", "file": "scratch-file"}
    return _steps(
        [
            (
                "blockdev-add",
                {"driver": "file", "node-name": "scratch-file", "filename": f"{directory}/scratch.raw"},
            ),
            ("blockdev-create", {"job-id": "create", "options": {**scratch, "size": DISK_BYTES}}),
            ("job-dismiss", {"id": "create"}),
            ("blockdev-add", {**scratch, "node-name": "export", "backing": "vda"}),
            ("nbd-server-start", {"addr": unix}),
            ("blockdev-backup", {"job-id": "backup", "device": "vda", "target": "export", "sync": "none"}),
            ("block-export-add", {"type": "nbd", "id": "export", "node-name": "export"}),
            None,
            ("block-job-cancel", {"device": "backup"}),
            ("nbd-server-stop", {}),
            ("blockdev-del", {"node-name": "export"}),
            ("blockdev-del", {"node-name": "scratch-file"}),
        ]
    )


def filter_cycle(directory: str) -> list[Step]:
    """The same by copy-before-write and snapshot-access, under the raw node `top`: 11 commands, a session."""
    unix = {"type": "unix", "data": {"path": f"{directory}/nbd.sock"}}
    back = {"driver": "raw", "node-name": "top", "file": "vda"}
    return _steps(
        [
            (
                "blockdev-add",
                {"driver": "file", "node-name": "scratch", "filename": f"{directory}/scratch.raw"},
            ),
            (
                "blockdev-add",
                {"driver": "copy-before-write", "node-name": "cbw", "file": "vda", "target": "scratch"},
            ),
            ("blockdev-reopen", {"options": [{**back, "file": "cbw"}]}),
            ("blockdev-add", {"driver": "snapshot-access", "node-name": "access", "file": "cbw"}),
            ("nbd-server-start", {"addr": unix}),
            ("block-export-add", {"type": "nbd", "id": "export", "node-name": "access", "name": "export"}),
            None,
            ("nbd-server-stop", {}),
            ("blockdev-del", {"node-name": "access"}),
            ("blockdev-reopen", {"options": [back]}),
            ("blockdev-del", {"node-name": "cbw"}),
            ("blockdev-del", {"node-name": "scratch"}),
        ]
    )


def disk_nodes(directory: str) -> list[dict[str, Any]]:
    return [
        {"driver": "file", "node-name": "vda", "filename": f"{directory}/vda.raw"},
        {"driver": "raw", "node-name": "top", "file": "vda"},
    ]


class Simulated:
    """A machine in this process, driven through its monitor's bytes and its NBD server's bytes."""

    def __init__(self) -> None:
        host = MemoryHost()
        for name in ("vda", "scratch"):
            file = host.open(f"/{name}.raw", create=True)
            file.truncate(DISK_BYTES)
            file.close()
        self.machine = Machine(versions.load("7.2"), host, storage_daemon=True)
        self._monitor = self.machine.connect_monitor()
        self.command("qmp_capabilities", {})
        for options in disk_nodes(""):
            self.command("blockdev-add", options)

    def command(self, name: str, arguments: dict[str, Any]) -> None:
        self.send(name, request(name, arguments))

    def send(self, name: str, request: bytes) -> None:
        self._monitor.receive(request)
        self.machine.scheduler.run_ready()
        answered = self._monitor.output()
        if answered.find(b'"error"') >= 0:  # `in` takes longer: it first tries whether this is an integer
            raise AssertionError(f"{name}: {answered.decode()}")

    def run(self, cycle: list[Step]) -> None:
        for step in cycle:
            if step is None:
                self.read_session("export")
            else:
                self.send(*step)

    def read_session(self, export: str) -> None:
        server = self.machine.connect_nbd()
        client = open_export(export)
        asked = False
        while True:
            for event in client.receive_data(server.output()):
                if isinstance(event, Ready) and not asked:
                    client.request(nbd.CMD_READ, 0, READ_BYTES)
                    asked = True
                elif isinstance(event, Reply):
                    if len(event.payload) != READ_BYTES:
                        raise AssertionError("short read")
                    client.disconnect()
                    server.receive(b"".join(client.take_output()))
                    server.receive_eof()
                    self.machine.scheduler.run_ready()
                    return
            server.receive(b"".join(client.take_output()))
            self.machine.scheduler.run_ready()


class Real:
    """A program with a QMP socket: real QEMU's, or the simulator as an executable."""

    def __init__(self, argv: list[str], directory: Path) -> None:
        self._directory = directory
        # Connected before the program exists: a client that comes while the storage daemon of 7.2 starts
        # to listen is sometimes never answered.
        self._socket, theirs = socket.socketpair()
        with theirs:
            chardev = f"socket,id=c,fd={theirs.fileno()}"
            self._process = subprocess.Popen(
                [argv[0], *argv[1:], "--chardev", chardev, *_monitor_of(argv[0])],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._socket.settimeout(START_S)
        self._file = self._socket.makefile("rb")
        self.greeting = self._file.readline()
        self.command("qmp_capabilities", {})

    def command(self, name: str, arguments: dict[str, Any]) -> None:
        self.send(name, request(name, arguments))

    def send(self, name: str, request: bytes) -> None:
        """Send it and wait for its reply, and for the job of blockdev-create to have concluded."""
        self._socket.sendall(request)
        awaited = [b'{"return"'] + ([b'"status": "concluded"'] if name == "blockdev-create" else [])
        while awaited:
            line = self._file.readline()
            if not line or line.startswith(b'{"error"'):
                raise AssertionError(f"{name}: {line.decode() or 'the program has ended'}")
            awaited = [mark for mark in awaited if mark not in line]

    def run(self, cycle: list[Step]) -> None:
        for step in cycle:
            if step is None:
                self.read_session("export")
            else:
                self.send(*step)

    def read_session(self, export: str) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(START_S)
            sock.connect(f"{self._directory}/nbd.sock")
            client = open_export(export)
            asked = False
            while True:
                payload = sock.recv(1 << 18)
                if not payload:
                    raise AssertionError("the NBD server closed the connection")
                for event in client.receive_data(payload):
                    if isinstance(event, Ready) and not asked:
                        client.request(nbd.CMD_READ, 0, READ_BYTES)
                        asked = True
                    elif isinstance(event, Reply):
                        client.disconnect()
                        sock.sendall(b"".join(client.take_output()))
                        return
                sock.sendall(b"".join(client.take_output()))

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _monitor_of(program: str) -> list[str]:
    if program.endswith("qemu-storage-daemon"):
        return ["--monitor", "chardev=c"]
    return ["-mon", "chardev=c,mode=control"]


def make_disks(directory: Path) -> None:
    for name in ("vda", "scratch"):
        with (directory / f"{name}.raw").open("wb") as file:
            file.truncate(DISK_BYTES)


def timed(run: Callable[[], None]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
