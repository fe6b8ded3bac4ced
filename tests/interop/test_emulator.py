"""The process around the simulator beside the one around real QEMU: background, pid file, signals,
sockets, clients that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from both_programs import (
    DAEMON,
    DEADLINE_S,
    NONE,
    SYSTEM,
    Running,
    program_path,
    read_all,
    simulated,
    start,
    wait_until,
)
from qemu.qmp import QMPClient

from simulator.serve import emulator

both = pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
programs = pytest.mark.parametrize("program", [SYSTEM, DAEMON])
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
    """As soon as somebody listens."""
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


# ---------------------------------------------------------------- what is written


def test_executables_are_written_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "new" / "place"
    assert emulator.main([str(place), "--qemu", "7.2"]) == 0
    assert capsys.readouterr().out.split() == [str(place / name) for name in (SYSTEM, DAEMON)]
    for folder, _, files in os.walk(place):
        assert stat.S_IMODE(os.stat(folder).st_mode) & 0o555 == 0o555
        for name in files:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o444 == 0o444
    # Once more into the same directory.
    assert emulator.main([str(place), "--qemu", "7.2"]) == 0


def test_an_unknown_version_and_a_bad_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emulator.main([str(tmp_path / "x"), "--qemu", "0.1"]) == 2
    assert "0.1" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert emulator.main([str(tmp_path / "file"), "--qemu", "7.2"]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@programs
def test_another_user_runs_it_with_an_empty_environment(program: str, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chmod(tmp_path, 0o700)
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    argv = command_line(program, False)
    # The directories above belong to the one who runs the tests.
    with tempfile_for(nobody.pw_uid) as cwd:
        setpriv = shutil.which("setpriv")
        assert setpriv is not None, "setpriv is not installed"
        become = [setpriv, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        with started([*become, *argv], cwd), connect(cwd / "q.sock") as client:
            greeting, *replies = ask(client, CAPABLE, JOBS)
            assert "QMP" in greeting
            assert replies == [{"return": {}}, {"return": []}]


@contextlib.contextmanager
def tempfile_for(uid: int) -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, uid, -1)
        yield Path(directory)


def test_what_a_start_does_not_import(tmp_path: Path) -> None:
    """Each of these takes a noticeable part of the 30 ms that real QEMU takes to its greeting."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from simulator.serve.main import main;"
        f"main({SYSTEM!r}, '7.2', ['-M', 'none', '-chardev', 'null,id=n', '-mon', 'n,mode=nope']);"
        "print(*sys.modules)"
    )
    library = Path(simulated(SYSTEM)).parent / "lib"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code, library], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    slow = {"argparse", "asyncio", "ctypes", "dataclasses", "inspect", "json", "random", "subprocess", "uuid"}
    assert not slow & set(done.stdout.split())


# ---------------------------------------------------------------- background and pid file


def wait_gone(pid: int) -> None:
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "\tZ" in _state(pid), f"process {pid} to end")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return "\tZ"


@both
@programs
def test_the_parent_leaves_when_the_child_is_ready(program: str, is_real: bool, tmp_path: Path) -> None:
    """Without waiting: the socket listens and the pid file is complete."""
    argv = command_line(program, is_real, f"socket,id=q,path={tmp_path}/q.sock,server=on,wait=off")
    dashes = "-" if program == SYSTEM else "--"
    argv += [f"{dashes}daemonize", f"{dashes}pidfile", "pid"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert stat.S_IMODE((tmp_path / "pid").stat().st_mode) == 0o600
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        assert os.getsid(pid) not in (os.getsid(0), pid)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)
            client.connect(str(tmp_path / "q.sock"))
            assert "QMP" in ask(client, CAPABLE)[0]
            os.kill(pid, signal.SIGTERM)
            read_all(client, "the daemon to end")
        wait_gone(pid)
        assert sorted(os.listdir(tmp_path)) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@both
@programs
def test_a_pid_file_is_one_process_s(program: str, is_real: bool, tmp_path: Path) -> None:
    option = "-pidfile" if program == SYSTEM else "--pidfile"
    (tmp_path / "pid").write_text("a very long text that was there before\n")
    argv = [*command_line(program, is_real), option, "pid"]
    with started(argv, tmp_path) as first, connect(tmp_path / "q.sock") as client:
        ask(client, CAPABLE)
        wait_until(lambda: (tmp_path / "pid").read_text() == f"{first.pid}\n", "the pid file")
        second = subprocess.run(
            [argv[0], *(NONE if program == SYSTEM else ()), option, "pid"],
            cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        reason = "cannot create PID file: Cannot lock pid file: Resource temporarily unavailable"
        assert (second.returncode, second.stderr) == (1, f"{program}: {reason}\n")
        assert (tmp_path / "pid").read_text() == f"{first.pid}\n"


# ---------------------------------------------------------------- the end


@both
@programs
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_signal_ends_it_in_order(
    number: signal.Signals, program: str, is_real: bool, tmp_path: Path
) -> None:
    with started(command_line(program, is_real), tmp_path) as process, connect(tmp_path / "q.sock") as client:
        ask(client, CAPABLE)
        # Sent by a shell that is gone by then or not: its name in the message is not compared.
        process.send_signal(number)
        rest = [json.loads(line) for line in read_all(client, "the machine to end").splitlines()]
        _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    if program == SYSTEM:
        assert [(event["event"], event["data"]) for event in rest] == [
            ("SHUTDOWN", {"guest": False, "reason": "host-signal"})
        ]
        shown = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
        told = f"{SYSTEM}: terminating on signal {number.value} from pid {os.getpid()} ({shown})\n"
        assert stderr.decode() == told
    else:
        assert (rest, stderr) == ([], b"")
    assert os.listdir(tmp_path) == []


@both
@programs
def test_an_nbd_socket_is_left_behind(program: str, is_real: bool, tmp_path: Path) -> None:
    with start(program, is_real, tmp_path) as running:
        running.negotiate()
        address = {"type": "unix", "data": {"path": "n.sock"}}
        assert running.qmp("nbd-server-start", {"addr": address}) == {}
        assert running.qmp("quit") == {}
        assert running.wait() == 0
    assert (tmp_path / "n.sock").is_socket()


# ---------------------------------------------------------------- monitors and their clients


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
    line = next(line for line in _state(pid).splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@programs
def test_a_client_that_only_asks(program: str, tmp_path: Path) -> None:
    """It never reads: sooner or later nothing more is taken from it, and little is held for it."""
    with started(command_line(program, False), tmp_path) as process, connect(tmp_path / "q.sock") as client:
        ask(client, CAPABLE)
        request = b'{"execute":"query-qmp-schema"}' * 1000
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                client.sendall(request)
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
