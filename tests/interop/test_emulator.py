"""The process around the simulator beside the one around real QEMU: files, background, pid file, signals."""

from __future__ import annotations

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
from collections.abc import Iterator
from pathlib import Path

import pytest
from both_programs import (
    CAPABLE,
    DAEMON,
    DEADLINE_S,
    JOBS,
    NONE,
    SYSTEM,
    ask,
    both,
    command_line,
    connect,
    programs,
    read_all,
    simulated,
    start,
    started,
    wait_until,
)

from simulator.serve import emulator

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
