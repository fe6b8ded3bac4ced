"""Monitors on sockets, of real QEMU and of the simulator, and clients that behave well and badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pexpect
import pyte
import pytest
from both_programs import (
    CAPABLE,
    DAEMON,
    DEADLINE_S,
    JOBS,
    NONE,
    QUIT,
    SYSTEM,
    ask,
    both,
    command_line,
    connect,
    program_path,
    programs,
    read_all,
    started,
    wait_until,
)
from qemu.qmp import QMPClient


@both
@programs
def test_a_monitor_has_one_client_at_a_time(program: str, is_real: bool, tmp_path: Path) -> None:
    with started(command_line(program, is_real), tmp_path):
        first = connect(tmp_path / "q.sock")
        assert "QMP" in ask(first, CAPABLE)[0]
        with connect(tmp_path / "q.sock") as second:
            second.settimeout(0.2)
            with pytest.raises(TimeoutError):
                second.recv(1)
            second.settimeout(DEADLINE_S)
            assert ask_more(first, JOBS) == {"return": []}
            first.close()
            # The next one begins from the beginning.
            greeting, refused = ask(second, JOBS)
            assert "QMP" in greeting
            assert refused["error"]["class"] == "CommandNotFound"


def ask_more(client: socket.socket, request: str) -> object:
    client.sendall(request.encode())
    with client.makefile("rb") as lines:
        return json.loads(lines.readline())


@both
@programs
def test_two_monitors_both_get_events(program: str, is_real: bool, tmp_path: Path) -> None:
    more = ["-chardev", "socket,id=r,path=r.sock,server=on,wait=off", "-mon", "r,mode=control"]
    if program == DAEMON:
        more = ["--chardev", "socket,id=r,path=r.sock,server=on,wait=off", "--monitor", "chardev=r"]
    with (
        started([*command_line(program, is_real), *more], tmp_path),
        connect(tmp_path / "q.sock") as one,
        connect(tmp_path / "r.sock") as two,
    ):
        ask(one, CAPABLE)
        ask(two, CAPABLE)
        create = {"driver": "file", "filename": "x", "size": 512}
        command = {"execute": "blockdev-create", "arguments": {"job-id": "c", "options": create}}
        one.sendall(json.dumps(command).encode())
        seen = []
        for client in (one, two):
            with client.makefile("rb") as lines:
                while True:
                    message = json.loads(lines.readline())
                    if "event" in message:
                        seen.append((client is one, message["data"]["status"]))
                        if message["data"]["status"] == "concluded":
                            break
        states = ["created", "running", "waiting", "pending", "concluded"]
        assert seen == [(who, state) for who in (True, False) for state in states]


@both
@programs
def test_half_a_request_and_gone(program: str, is_real: bool, tmp_path: Path) -> None:
    with started(command_line(program, is_real), tmp_path) as process:
        for torn in (b"", b'{"execute":', b'{"execute":"qmp_capabilities"}' * 3 + b'{"exec', b"\xff" * 1000):
            with connect(tmp_path / "q.sock") as client:
                client.sendall(torn)
        with connect(tmp_path / "q.sock") as client:
            # Nobody writes any more, and the machine must not busy itself with that.
            client.shutdown(socket.SHUT_WR)
            read_all(client, "the monitor to close its side")
        before = cpu_seconds(process.pid)
        time.sleep(0.2)
        assert cpu_seconds(process.pid) - before < 0.1
        with connect(tmp_path / "q.sock") as client:
            assert "QMP" in ask(client, CAPABLE)[0]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@programs
def test_a_client_that_only_asks(program: str, tmp_path: Path) -> None:
    """It never reads: sooner or later nothing more is taken from it, and little is held for it."""
    with started(command_line(program, False), tmp_path) as process, connect(tmp_path / "q.sock") as client:
        ask(client, CAPABLE)
        request = b'{"execute":"query-qmp-schema"}' * 1000
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            client.sendall(request * 1000)
        assert resident_bytes(process.pid) < 200 << 20
        # It begins to read after all, and gets what it asked for.
        client.settimeout(DEADLINE_S)
        with client.makefile("rb") as lines:
            for _ in range(20):
                assert len(json.loads(lines.readline())["return"]) > 100


@both
def test_a_flood_of_clients(is_real: bool, tmp_path: Path) -> None:
    with started(command_line(DAEMON, is_real), tmp_path):

        def one() -> None:
            for _ in range(10):
                with connect(tmp_path / "q.sock") as client:
                    assert "QMP" in ask(client, CAPABLE)[0]
                    answers.append(ask_more(client, JOBS))

        answers: list[object] = []
        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert answers == [{"return": []}] * 80


@both
@programs
def test_waiting_for_the_first_client(program: str, is_real: bool, tmp_path: Path) -> None:
    chardev = "socket,id=q,path=q.sock,server=on"
    pid_file = ["-pidfile", "pid"] if program == SYSTEM else ["--pidfile", "pid"]
    with started([*command_line(program, is_real, chardev), *pid_file], tmp_path) as process:
        with connect(tmp_path / "q.sock") as client:
            assert "QMP" in ask(client, CAPABLE)[0]
        with connect(tmp_path / "q.sock") as again:
            assert "QMP" in ask(again, CAPABLE)[0]
            again.sendall(QUIT.encode())
            read_all(again, "the end")
        _, stderr = process.communicate(timeout=DEADLINE_S)
    option = "-chardev" if program == SYSTEM else "--chardev"
    waiting = "info: QEMU waiting for connection on: disconnected:unix:q.sock,server=on"
    assert stderr.decode() == f"{program}: {option} {chardev}: {waiting}\n"


@both
def test_monitors_on_tcp_and_as_a_client(is_real: bool, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(DEADLINE_S)
        port = listening.getsockname()[1]
        with started([program_path(SYSTEM, is_real), *NONE, "-qmp", f"tcp:127.0.0.1:{port}"], tmp_path):
            client, _ = listening.accept()
            with client:
                client.settimeout(DEADLINE_S)
                assert "QMP" in ask(client, CAPABLE)[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started(
        [program_path(SYSTEM, is_real), *NONE, "-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off"], tmp_path
    ) as process:

        def connected() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), DEADLINE_S).close()
            except ConnectionRefusedError:
                assert process.poll() is None
                return False
            return True

        wait_until(connected, f"port {port} to answer")


# ---------------------------------------------------------------- the package's own clients


@programs
def test_the_qmp_package_s_client(program: str, tmp_path: Path) -> None:
    async def talk() -> None:
        client = QMPClient("test")
        await client.connect(str(tmp_path / "q.sock"))
        assert await client.execute("query-jobs") == []
        create = {"driver": "file", "filename": "x", "size": 512}
        with client.listener("JOB_STATUS_CHANGE") as listener:
            await client.execute("blockdev-create", {"job-id": "c", "options": create})
            states = []
            async for event in listener:
                states.append(event["data"]["status"])
                if states[-1] == "concluded":
                    break
        assert states == ["created", "running", "waiting", "pending", "concluded"]
        await client.execute("quit")
        # The other side has hung up, and says so.
        with contextlib.suppress(EOFError):
            await client.disconnect()

    with started(command_line(program, False), tmp_path):
        connect(tmp_path / "q.sock").close()
        asyncio.run(asyncio.wait_for(talk(), DEADLINE_S))


def test_qmp_shell(tmp_path: Path) -> None:
    shell = Path(sys.executable).with_name("qmp-shell")
    assert shell.exists(), f"{shell} is not installed"
    with started(command_line(SYSTEM, False), tmp_path):
        connect(tmp_path / "q.sock").close()
        child = pexpect.spawn(str(shell), [str(tmp_path / "q.sock")], timeout=DEADLINE_S, encoding="utf-8")
        try:
            child.expect_exact("Connected to QEMU 7.2.22")
            child.expect_exact("(QEMU) ")
            child.sendline("blockdev-add driver=null-co node-name=n size=1048576")
            child.expect_exact('{"return": {}}')
            child.expect_exact("(QEMU) ")
            child.sendline("blockdev-del node-name=nope")
            child.expect_exact("Failed to find node with node-name='nope'")
            child.expect_exact("(QEMU) ")
            child.sendline("quit")
            child.expect_exact('{"return": {}}')
            child.sendeof()
            child.expect(pexpect.EOF)
        finally:
            child.close(force=True)


DOWN = "\x1b[B"


class Terminal:
    """A program in a terminal of 100 x 40: what a person sees of it."""

    def __init__(self, argv: list[str]) -> None:
        self._screen = pyte.Screen(100, 40)
        self._stream = pyte.ByteStream(self._screen)
        self._child = pexpect.spawn(argv[0], argv[1:], dimensions=(40, 100), timeout=DEADLINE_S)

    def type(self, keys: str) -> None:
        self._child.send(keys)

    def shows(self, words: str) -> bool:
        """Takes what has come since; spaces and line ends of the screen do not count."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            self._stream.feed(self._child.read_nonblocking(1 << 16, 0.05))
        return "".join(words.split()) in "".join("".join(self._screen.display).split())

    def after(self, key: str, words: str) -> bool:
        """Some programs draw only when a key is pressed."""
        self.type(key)
        return self.shows(words)

    def close(self) -> None:
        self._child.close(force=True)


def test_qmp_tui(tmp_path: Path) -> None:
    window = Path(sys.executable).with_name("qmp-tui")
    assert window.exists(), f"{window} is not installed"
    with started(command_line(SYSTEM, False), tmp_path):
        connect(tmp_path / "q.sock").close()
        terminal = Terminal([str(window), str(tmp_path / "q.sock")])
        try:
            wait_until(lambda: terminal.after(DOWN, "[Connected"), "qmp-tui to connect")
            # Down through the history, where the focus is, to the editor.
            terminal.type(DOWN * 40)
            terminal.type('{"execute": "blockdev-del", "arguments": {"node-name": "nope"}}')
            wait_until(lambda: terminal.shows('> {"execute": "blockdev-del"'), "the editor to be there")
            terminal.type("\x1b\r")  # meta enter sends
            wait_until(
                lambda: terminal.after(DOWN, '"desc": "Failed to find node with node-name=\'nope\'"'),
                "the error to be shown",
            )
            terminal.type('{"execute": "query-status"}\x1b\r')
            wait_until(lambda: terminal.after(DOWN, '"status": "running"'), "the status to be shown")
        finally:
            terminal.close()
