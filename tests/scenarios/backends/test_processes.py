"""Child processes and tools: how they end, what they said, and that they cannot outlive us."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from scenarios.backends.interface import DeadlinePassed, SetupError
from scenarios.backends.launcher import HostLauncher
from scenarios.backends.processes import Child, Tail, describe_end, find_program
from scenarios.backends.run_directory import RunDirectory, process_start_time
from scenarios.backends.tools import find_tool

SHELL = "/bin/sh"


def with_place(body: Callable[[RunDirectory], Coroutine[Any, Any, None]]) -> None:
    with RunDirectory() as place, asyncio.Runner() as runner:
        runner.run(body(place))


@pytest.mark.parametrize(
    ("status", "stderr", "sentence"),
    [
        (
            -6,
            "block.c:1: f: Assertion `x' failed.\n",
            "qsd killed by SIGABRT; standard error: block.c:1: f: Assert",
        ),
        (1, "", "qsd exited with status 1; nothing on standard error"),
        (None, "busy", "qsd still runs; standard error: busy"),
        (-99, "", "qsd killed by signal 99; nothing"),
    ],
)
def test_an_end_in_words(status: int | None, stderr: str, sentence: str) -> None:
    assert describe_end("qsd", status, stderr).startswith(sentence)


def test_tail_keeps_the_end_and_says_what_it_dropped() -> None:
    tail = Tail()
    for _ in range(3):
        tail.feed(b"a" * 40_000)
    tail.feed(b"the end")
    assert tail.text().endswith("a" * 100 + "the end")
    assert tail.text().startswith(f"[{120_007 - 65_536} bytes before this]\n")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -ABRT $$", -6), ("kill -SEGV $$", -11)]
)
def test_status_and_standard_error(script: str, status: int) -> None:
    async def body(place: RunDirectory) -> None:
        child = Child.start([SHELL, "-c", f"echo last words >&2; {script}"], place)
        assert await child.wait() == status == child.status
        assert child.stderr == "last words\n"

    with_place(body)


def test_runs_in_the_machines_directory_in_a_session_of_its_own() -> None:
    async def body(place: RunDirectory) -> None:
        output: list[bytes] = []
        child = Child.start([SHELL, "-c", "pwd; ps -o sid= -p $$"], place, on_stdout=output.append)
        await child.wait()
        directory, session = b"".join(output).decode().split()
        assert (directory, int(session)) == (str(place.machine), child.pid)

    with_place(body)


def test_all_output_is_there_when_the_end_is() -> None:
    async def body(place: RunDirectory) -> None:
        output: list[bytes] = []
        child = Child.start(["/usr/bin/head", "-c", "3000000", "/dev/zero"], place, on_stdout=output.append)
        assert await child.wait() == 0
        assert sum(map(len, output)) == 3_000_000

    with_place(body)


def test_a_terminal_makes_the_c_library_write_every_line_at_once() -> None:
    async def body(place: RunDirectory) -> None:
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        code = "import time; print('one'); time.sleep(60)"
        child = Child.start([sys.executable, "-c", code], place, on_stdout=lines.put_nowait, terminal=True)
        seen = b""
        while not seen.endswith(b"\n"):
            seen += await asyncio.wait_for(lines.get(), 10)
        assert seen == b"one\n"
        assert await child.kill_and_wait() == -signal.SIGKILL

    with_place(body)


def test_survivors_of_the_group_are_named_and_killed() -> None:
    async def body(place: RunDirectory) -> None:
        child = Child.start([SHELL, "-c", "sleep 60 & sleep 0.1; exit 3"], place, watch_group=True)
        assert await child.wait() == 3
        ((pid, name),) = child.survivors
        assert name == "sleep"
        until = time.monotonic() + 10
        while process_start_time(pid) is not None and time.monotonic() < until:
            await asyncio.sleep(0.002)
        assert process_start_time(pid) is None

    with_place(body)


def test_leaving_the_directory_kills_what_still_runs() -> None:
    pids: list[int] = []

    async def body(place: RunDirectory) -> None:
        pids.append(Child.start(["/bin/sleep", "60"], place).pid)

    with_place(body)
    assert process_start_time(pids[0]) is None


def test_dies_with_us() -> None:
    """A program that starts a child and is then killed itself: the kernel ends the child."""
    code = (
        "import asyncio\n"
        "from scenarios.backends.processes import Child\n"
        "from scenarios.backends.run_directory import RunDirectory\n"
        "async def body(place):\n"
        "    print(Child.start(['/bin/sleep', '60'], place).pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "with RunDirectory() as place:\n"
        "    asyncio.run(body(place))\n"
    )
    root = str(Path(__file__).parents[3])
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert process_start_time(pid) is not None
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until = time.monotonic() + 10
    while process_start_time(pid) is not None and time.monotonic() < until:
        time.sleep(0.002)
    assert process_start_time(pid) is None


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(
        SetupError, match="/nonexistent/qemu: expected an executable file, there is no such file"
    ):
        find_program("/nonexistent/qemu")
    with pytest.raises(SetupError, match="no-such-program-anywhere: not found in PATH"):
        find_program("no-such-program-anywhere")


def test_a_program_that_is_not_executable(tmp_path: Path) -> None:
    path = tmp_path / "qemu"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(SetupError, match="it is not executable"):
        find_program(str(path))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    assert find_program(str(path)) == str(path)


def test_a_tools_status_output_and_error() -> None:
    async def body(place: RunDirectory) -> None:
        launch = HostLauncher().open(place)
        status, out, err = await launch.run_tool(["sh", "-c", "echo out; echo err >&2; exit 5"], 10**10)
        assert (status, out, err) == (5, b"out\n", "err\n")

    with_place(body)


def test_a_tool_is_killed_at_its_deadline() -> None:
    async def body(place: RunDirectory) -> None:
        began = time.monotonic()
        with pytest.raises(DeadlinePassed, match=r"sh -c .*standard error: stuck.*nothing after 0\.2 s"):
            await HostLauncher().open(place).run_tool(["sh", "-c", "echo stuck >&2; sleep 60"], 200_000_000)
        assert time.monotonic() - began < 10

    with_place(body)


def test_a_missing_tool_names_debians_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"nbdcopy: not found in PATH; .*apt-get install libnbd-bin"):
        find_tool("nbdcopy")
