"""All kinds of real machines, through the interface that scenarios use. They must be there: nothing here is
skipped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from machine_process import machine_pid

from scenarios.backends.asyncio_backend import AsyncioBackend
from scenarios.backends.interface import (
    DeadlinePassed,
    MachineGone,
    NbdFailed,
    QmpRefused,
    Session,
)
from scenarios.backends.registry import open_backend
from scenarios.backends.run_directory import process_start_time
from scenarios.language.steps import Disk, Fault, Scenario, Step

MIB = 1 << 20
SECOND = 1_000_000_000
Body = Callable[[Session], Coroutine[Any, Any, None]]

BACKENDS = (
    "qemu",
    "storage-daemon",
    "sim-process:7.2",
    "sim-process:7.2+storage-daemon",
    "chroot:trixie",
    "container:trixie",
    "container:trixie+storage-daemon",
)


@cache
def opened(name: str) -> AsyncioBackend:
    backend = open_backend(name)
    assert isinstance(backend, AsyncioBackend)
    return backend


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> AsyncioBackend:
    return opened(request.param)


def run(backend: AsyncioBackend, body: Body, **scenario: Any) -> None:
    scenario.setdefault("disks", {"vda": Disk(size=8 * MIB)})
    backend.run(Scenario(name="test", **scenario), 0, body)


async def quit_machine(session: Session) -> None:
    await session.qmp("quit")
    assert await session.wait_end(10 * SECOND) == (0, "")


# ---------------------------------------------------------------- probing


def test_probe(backend: AsyncioBackend) -> None:
    features, introspection = backend.probe()
    commands = {entry["name"] for entry in introspection if entry["meta-type"] == "command"}
    assert {"blockdev-backup", "nbd-server-start", "block-export-add"} <= commands
    is_system = "storage-daemon" not in backend.name
    assert ("hmp" in features) == ("human-monitor-command" in commands) == is_system
    assert "processes" in features
    assert ("real" in features) == (not backend.name.startswith("sim-process:"))


def test_probe_starts_a_machine_only_once(backend: AsyncioBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    first = backend.probe()
    monkeypatch.setattr(backend, "run", None)
    assert backend.probe() == first


# ---------------------------------------------------------------- life and death


def test_start_quit_and_nothing_left(backend: AsyncioBackend) -> None:
    seen: list[int | Path] = []
    _, introspection = backend.probe()

    async def body(session: Session) -> None:
        seen.extend([machine_pid(session), session.directory])
        assert session.introspection == introspection
        assert not session.ended()
        await quit_machine(session)
        assert session.ended()
        assert await session.left_behind() == []

    run(backend, body)
    pid, directory = seen
    assert isinstance(pid, int)
    assert isinstance(directory, Path)
    assert process_start_time(pid) is None
    assert not directory.parent.exists()


def test_nothing_left_after_an_exception_inside(backend: AsyncioBackend) -> None:
    seen: list[Any] = []

    async def body(session: Session) -> None:
        seen.extend([machine_pid(session), session.directory])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(backend, body)
    assert process_start_time(seen[0]) is None
    assert not seen[1].parent.exists()


def test_a_run_that_takes_too_long_is_ended_and_named(
    backend: AsyncioBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "scenario_ns", 2 * SECOND)
    seen: list[int] = []

    async def body(session: Session) -> None:
        seen.append(machine_pid(session))
        await session.sleep(60 * SECOND)

    with pytest.raises(DeadlinePassed, match=r"scenario 'test' to end: nothing after 2 s"):
        run(backend, body)
    assert process_start_time(seen[0]) is None


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_nothing_left_after_a_signal_to_ourselves(backend: AsyncioBackend, sent: signal.Signals) -> None:
    """SIGKILL leaves no chance to clean up: the kernel ends the machine, the next run removes the
    directory."""
    # A run in the background of a shell is started with SIGINT ignored, and so would its children be.
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from scenarios.backends.registry import open_backend\n"
        "from scenarios.language.steps import Disk, Scenario\n"
        "from machine_process import machine_pid\n"
        "async def body(session):\n"
        "    print(machine_pid(session), session.directory.parent, flush=True)\n"
        "    await session.sleep(60 * 10**9)\n"
        f"open_backend({backend.name!r}).run(Scenario(name='x', disks={{'vda': Disk(size=512)}}), 0, body)\n"
    )
    paths = (Path(__file__).parents[3], Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert owner.stdout is not None
    with owner.stdout:
        pid, path = owner.stdout.readline().split()
    assert process_start_time(int(pid)) is not None
    owner.send_signal(sent)
    assert owner.wait(20) != 0
    until = time.monotonic() + 10
    while process_start_time(int(pid)) is not None and time.monotonic() < until:
        time.sleep(0.002)
    assert process_start_time(int(pid)) is None
    if sent == signal.SIGKILL:
        code = "from scenarios.backends.run_directory import RunDirectory\nwith RunDirectory(): pass\n"
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not Path(path).exists()


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
def test_a_crash_names_its_signal_to_whoever_waits(backend: AsyncioBackend, number: signal.Signals) -> None:
    async def body(session: Session) -> None:
        async def crash() -> None:
            await session.sleep(20_000_000)
            os.kill(machine_pid(session), number)

        async def wait() -> None:
            with pytest.raises(MachineGone, match=f"waited for pigs to fly: .*killed by {number.name}"):
                await session.wait_event(lambda event: False, "pigs to fly", 10 * SECOND)

        await session.together([wait(), crash()])
        with pytest.raises(MachineGone, match=f"killed by {number.name}"):
            await session.qmp("query-status" if "machine" in session.features else "query-jobs")
        assert session.ended()
        assert (await session.wait_end(SECOND))[0] == -number

    run(backend, body)


def test_a_crash_during_a_command(backend: AsyncioBackend) -> None:
    """The machine is stopped first, so that the command is certainly on its way when the signal comes."""

    async def body(session: Session) -> None:
        os.kill(machine_pid(session), signal.SIGSTOP)

        async def ask() -> None:
            with pytest.raises(MachineGone, match="killed by SIGSEGV"):
                await session.qmp("query-jobs")

        async def crash() -> None:
            await session.sleep(20_000_000)
            os.kill(machine_pid(session), signal.SIGSEGV)
            os.kill(machine_pid(session), signal.SIGCONT)

        await session.together([ask(), crash()])

    run(backend, body)


def test_a_missed_reply_names_the_command(backend: AsyncioBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenarios.backends.asyncio_session.EXCHANGE_NS", SECOND // 5)

    async def body(session: Session) -> None:
        os.kill(machine_pid(session), signal.SIGSTOP)
        with pytest.raises(DeadlinePassed, match=r"reply to query-jobs: nothing after 0\.2 s"):
            await session.qmp("query-jobs")

    run(backend, body)


def test_an_assertion_of_qemus_own_is_in_the_report() -> None:
    """qemu-io's abort command calls abort() inside the emulator."""

    async def body(session: Session) -> None:
        with pytest.raises(MachineGone, match="qemu-system-x86_64 killed by SIGABRT"):
            await session.hmp('qemu-io vda "abort"')

    run(opened("qemu"), body)


def test_standard_error_is_kept() -> None:
    async def body(session: Session) -> None:
        await session.hmp('qemu-io vda "no-such-command"')
        await session.qmp("quit")
        status, stderr = await session.wait_end(10 * SECOND)
        assert (status, stderr) == (0, 'command "no-such-command" not found\n')

    run(opened("qemu"), body)


def test_kill_and_restart_on_the_same_images(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        before = machine_pid(session)
        guest = session.guest("vda")
        await guest.write(MIB, 4096, 0x5A)
        await guest.flush()
        await session.kill()
        assert session.ended()
        assert (await session.wait_end(SECOND))[0] == -signal.SIGKILL
        assert await session.left_behind() == []
        await session.restart()
        assert machine_pid(session) != before
        assert await session.guest("vda").verify(MIB, 4096, 0x5A)
        await quit_machine(session)
        assert await session.left_behind() == []

    run(backend, body)


def test_waiting_for_an_end_that_does_not_come(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        with pytest.raises(DeadlinePassed, match=r"qemu-.* to end: nothing after 0\.05 s"):
            await session.wait_end(SECOND // 20)

    run(backend, body)


# ---------------------------------------------------------------- commands and events


def test_an_errors_class_and_words(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        with pytest.raises(QmpRefused) as caught:
            await session.qmp("blockdev-del", {"node-name": "nope"})
        assert (caught.value.error_class, caught.value.desc) == (
            "GenericError",
            "Failed to find node with node-name='nope'",
        )
        with pytest.raises(QmpRefused) as caught:
            await session.qmp("no-such-command")
        assert caught.value.error_class == "CommandNotFound"
        assert caught.value.desc == "The command no-such-command has not been found"

    run(backend, body)


def test_hmp_answers() -> None:
    async def body(session: Session) -> None:
        assert "x-colo" not in await session.hmp("info status")
        assert await session.hmp("info status") == "VM status: paused (prelaunch)\n"
        assert (await session.hmp("bogus")).startswith("unknown command: 'bogus'")

    run(opened("qemu"), body)


def test_a_daemon_has_no_hmp() -> None:
    async def body(session: Session) -> None:
        with pytest.raises(QmpRefused) as caught:
            await session.hmp("info status")
        assert caught.value.error_class == "CommandNotFound"

    run(opened("storage-daemon"), body)


async def one_job(session: Session) -> None:
    for name in ("from", "to"):
        await session.qmp("blockdev-add", {"driver": "null-co", "node-name": name, "size": MIB})
    arguments = {"job-id": "j", "device": "from", "target": "to", "sync": "full"}
    await session.qmp("blockdev-backup", arguments)
    # Events that a command raises leave before its reply.
    assert [e["data"]["status"] for e in session.events if e["event"] == "JOB_STATUS_CHANGE"][:2] == [
        "created",
        "running",
    ]


def is_status(status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["event"] == "JOB_STATUS_CHANGE" and event["data"]["status"] == status


def test_events_come_in_order_and_before_the_reply(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        await one_job(session)
        last = await session.wait_event(is_status("null"), "the job to be gone", 10 * SECOND)
        assert last is session.events[-1]
        names = [e["data"]["status"] for e in session.events if e["event"] == "JOB_STATUS_CHANGE"]
        assert names == ["created", "running", "paused", "running", "waiting", "pending", "concluded", "null"]
        assert "BLOCK_JOB_COMPLETED" in [e["event"] for e in session.events]
        # From the past, too.
        first = await session.wait_event(is_status("created"), "the job's beginning", SECOND)
        assert first["data"]["id"] == "j"

    run(backend, body, disks={})


def test_an_event_that_does_not_come_is_named(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        with pytest.raises(DeadlinePassed, match=r"event POWERDOWN: nothing after 0\.05 s"):
            await session.wait_event(
                lambda event: event["event"] == "POWERDOWN", "event POWERDOWN", SECOND // 20
            )

    run(backend, body, disks={})


def test_the_last_events_of_a_machine_are_there_after_its_end() -> None:
    async def body(session: Session) -> None:
        await session.qmp("quit")
        event = await session.wait_event(lambda event: event["event"] == "SHUTDOWN", "event SHUTDOWN", SECOND)
        assert event["data"]["reason"] == "host-qmp-quit"

    run(opened("qemu"), body)


# ---------------------------------------------------------------- the guest


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_what_a_guest_does_is_in_the_image(backend: AsyncioBackend, image_format: Any) -> None:
    size = 3 * MIB + 512

    async def body(session: Session) -> None:
        guest = session.guest("vda")
        await guest.write(0, 2 * MIB, 0x11)
        await guest.write(1000, 24, 0x22)
        await guest.zero(65536, 65536, unmap=False)
        await guest.zero(131072, 65536, unmap=True)
        await guest.discard(196608, 65536)
        await guest.write(size - 512, 512, 0x33)
        await guest.flush()
        assert await guest.verify(0, 1000, 0x11)
        assert await guest.verify(1000, 24, 0x22)
        assert not await guest.verify(999, 25, 0x22)
        assert await guest.verify(65536, 131072, 0)
        assert await guest.verify(size - 512, 512, 0x33)
        assert await guest.read(999, 2) == b"\x11\x22"
        await quit_machine(session)
        assert await session.left_behind() == []
        size_after, reader, status, _ = await session.final_image("vda")
        assert (size_after, status) == (size, 0)
        assert callable(reader)
        content = reader(0, size)
        assert content[:1000] == b"\x11" * 1000
        assert content[1000:1024] == b"\x22" * 24
        assert content[65536:196608] == bytes(131072)
        # A discard may be without effect: every byte is the old one or zero.
        assert set(content[196608:262144]) <= {0, 0x11}
        assert content[262144 : 2 * MIB] == b"\x11" * (2 * MIB - 262144)
        assert content[2 * MIB : size - 512] == bytes(size - 512 - 2 * MIB)
        assert content[size - 512 :] == b"\x33" * 512

    run(backend, body, disks={"vda": Disk(size=size, format=image_format)})


@pytest.mark.parametrize("backend", ["qemu", "storage-daemon"], indirect=True)  # blkdebug is not simulated
def test_a_failed_request_has_the_guests_errno(backend: AsyncioBackend) -> None:
    """A node that fails every request of its own, put below the guest."""

    async def body(session: Session) -> None:
        rule = {"event": "none", "errno": 28, "iotype": "write"}
        await session.qmp(
            "blockdev-add",
            {"driver": "blkdebug", "node-name": "sick", "image": "vda", "inject-error": [rule]},
        )
        await session.put_on_top("vda", "sick")
        guest = session.guest("vda")
        with pytest.raises(NbdFailed) as caught:
            await guest.write(0, 512, 1)
        assert caught.value.errno_name == "ENOSPC"
        assert await guest.verify(0, 512, 0)

    run(backend, body, disks={"vda": Disk(size=MIB, format="raw")})


def test_many_requests_at_once(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        guest = session.guest("vda")
        await session.together([guest.write(index * 65536, 65536, index + 1) for index in range(32)])
        answers: list[bool] = []

        async def check(index: int) -> None:
            answers.append(await guest.verify(index * 65536, 65536, index + 1))
            answers.append(not await guest.verify(index * 65536, 65536, index + 2))

        await session.together([check(index) for index in range(32)])
        assert answers == [True] * 64

    run(backend, body)


def test_the_machine_answers_while_a_guests_write_waits(backend: AsyncioBackend) -> None:
    """A throttled write of seconds must not hold up the monitor."""

    async def body(session: Session) -> None:
        limits = {"bps-write": 65536}
        await session.qmp("object-add", {"qom-type": "throttle-group", "id": "tg", "limits": limits})
        await session.qmp(
            "blockdev-add", {"driver": "throttle", "node-name": "slow", "file": "vda", "throttle-group": "tg"}
        )
        await session.put_on_top("vda", "slow")
        guest = session.guest("vda")
        order: list[str] = []

        async def write() -> None:
            # The first write empties the bucket; the second waits for about a second.
            await guest.write(0, 65536, 1)
            await guest.write(65536, 65536, 2)
            order.append("written")

        async def ask() -> None:
            await session.sleep(200_000_000)
            await session.qmp("query-jobs")
            order.append("answered")

        await session.together([write(), ask()])
        assert order == ["answered", "written"]

    run(backend, body)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_put_on_top_and_back(backend: AsyncioBackend, image_format: Any) -> None:
    """A copy-before-write filter between guest and disk saves what the guest overwrites, until it is taken
    out."""

    async def body(session: Session) -> None:
        guest = session.guest("vda")
        await guest.write(0, 65536, 0x11)
        await session.qmp("blockdev-add", {"driver": "null-co", "node-name": "unused", "size": 8 * MIB})
        await session.qmp(
            "blockdev-add", {"driver": "file", "node-name": "scratch", "filename": "scratch.raw"}
        )
        await session.qmp(
            "blockdev-add",
            {"driver": "copy-before-write", "node-name": "cbw", "file": "vda", "target": "scratch"},
        )
        await session.put_on_top("vda", "cbw")
        await guest.write(0, 4096, 0x22)
        assert (session.directory / "scratch.raw").read_bytes()[:65536] == b"\x11" * 65536
        await session.put_on_top("vda", "vda")
        await session.qmp("blockdev-del", {"node-name": "cbw"})
        await session.qmp("blockdev-del", {"node-name": "scratch"})
        await guest.write(131072, 4096, 0x33)
        assert await guest.verify(0, 4096, 0x22)
        assert await guest.verify(131072, 4096, 0x33)
        await quit_machine(session)
        assert await session.left_behind() == [("file", "scratch.raw", f"{8 * MIB} bytes")]

    async def with_scratch(session: Session) -> None:
        with (session.directory / "scratch.raw").open("wb") as file:
            file.truncate(8 * MIB)
        await body(session)

    run(backend, with_scratch, disks={"vda": Disk(size=8 * MIB, format=image_format)})


def test_a_drive_of_2013() -> None:
    async def body(session: Session) -> None:
        guest = session.guest("vda")
        await guest.write(0, 512, 0x44)
        assert await guest.verify(0, 512, 0x44)
        assert (await session.hmp("info block")).startswith("vda (vda-format): vda.qcow2 (qcow2)\n")
        assert await session.hmp('qemu-io vda "read 0 512"') == ""
        await quit_machine(session)

    run(opened("qemu"), body, attach="drive")


def test_nodes_without_a_guest(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        names = {node["node-name"] for node in await session.qmp("query-named-block-nodes")}
        assert names == {"vda", "vda-file"}
        assert await session.qmp("query-block-exports") == []
        with pytest.raises(QmpRefused):
            await session.put_on_top("vda", "vda-file")

    run(backend, body, attach="none")


# ---------------------------------------------------------------- NBD


async def export_disk(session: Session) -> None:
    await session.ensure_nbd_server()
    await session.ensure_nbd_server()
    await session.qmp("block-export-add", {"type": "nbd", "id": "e", "node-name": "vda", "name": "e"})


def test_a_client_reads_what_the_guest_wrote(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        await session.guest("vda").write(65536, 512, 0x77)
        await export_disk(session)
        assert "e" in await session.nbd_exports()
        client = await session.nbd("e", ["base:allocation"])
        assert client.size == 8 * MIB
        assert await client.read(65536 - 1, 3) == b"\0\x77\x77"
        await client.disconnect()
        with pytest.raises(NbdFailed):
            await session.nbd("no-such-export")

    run(backend, body)


def test_real_tools_read_it_too(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        await session.guest("vda").write(0, 512, 0x78)
        await export_disk(session)
        url = f"nbd+unix:///e?socket={session.nbd_path}"
        status, _, stderr = await session.tool(["nbdcopy", url, "copy.raw"])
        assert (status, stderr) == (0, "")
        assert (session.directory / "copy.raw").read_bytes()[:513] == b"\x78" * 512 + b"\0"
        status, size, _ = await session.tool(["nbdinfo", "--size", url])
        assert (status, int(size)) == (0, 8 * MIB)

    run(backend, body)


def test_garbage_closes_its_own_connection_alone(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        await export_disk(session)
        client = await session.nbd("e")
        assert await session.nbd_raw(b"\xff" * 64) == b"NBDMAGICIHAVEOPT\0\3"
        assert await client.read(0, 4) == bytes(4)
        await client.disconnect()

    run(backend, body)


def test_a_connection_that_stays_open_is_told(
    backend: AsyncioBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenarios.backends.asyncio_session.RAW_REPLY_NS", SECOND // 10)

    async def body(session: Session) -> None:
        await export_disk(session)
        with pytest.raises(DeadlinePassed, match="the NBD server to close the connection"):
            await session.nbd_raw(b"")

    run(backend, body)


def test_no_server(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        with pytest.raises(NbdFailed) as caught:
            await session.nbd("e")
        assert caught.value.errno_name == "ENOENT"

    run(backend, body, attach="none")


def test_a_guest_survives_the_end_of_the_server(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        guest = session.guest("vda")
        await guest.write(0, 512, 0x55)
        await export_disk(session)
        await session.qmp("nbd-server-stop")
        assert not session.nbd_server_running
        assert await session.qmp("query-block-exports") == []
        await session.repair_guest()
        assert await guest.verify(0, 512, 0x55)
        assert session.nbd_server_running == (session.features & {"hmp"} == set())

    run(backend, body)


def test_a_server_that_still_runs_at_the_end_leaves_no_finding(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        await export_disk(session)
        await quit_machine(session)
        assert await session.left_behind() == []

    run(backend, body)


# ---------------------------------------------------------------- lanes


def test_every_lane_ends_before_the_first_failure_is_told(backend: AsyncioBackend) -> None:
    ended: list[str] = []

    async def lane(name: str, steps: Awaitable[None], error: Exception | None = None) -> None:
        await steps
        ended.append(name)
        if error:
            raise error

    async def body(session: Session) -> None:
        lanes = [
            lane("late", session.sleep(60_000_000), ValueError("second")),
            lane("early", session.sleep(10_000_000), KeyError("first")),
            lane("last", session.sleep(90_000_000)),
        ]
        with pytest.raises(KeyError, match="first"):
            await session.together(lanes)
        assert ended == ["early", "late", "last"]

    run(backend, body, disks={})


def test_time_goes_on(backend: AsyncioBackend) -> None:
    async def body(session: Session) -> None:
        before = session.now_ns()
        await asyncio.sleep(0)
        await session.sleep(30_000_000)
        assert 30_000_000 <= session.now_ns() - before < 5 * SECOND

    run(backend, body, disks={})


@pytest.mark.parametrize("name", [*BACKENDS, "sim:7.2"])
def test_a_stopped_machine_answers_when_it_goes_on(name: str) -> None:
    took_ns: list[int] = []

    async def timed(act: Coroutine[Any, Any, Any], session: Session) -> None:
        await session.sleep(SECOND // 10)
        began = session.now_ns()
        await act
        took_ns.append(session.now_ns() - began)

    async def body(session: Session) -> None:
        acts = [session.qmp("query-named-block-nodes"), session.guest("vda").write(0, 512, 1)]
        await session.together([session.pause(SECOND // 2), *(timed(act, session) for act in acts)])

    steps = [Step(fault=Fault(stop=SECOND // 2))]
    open_backend(name).run(Scenario(name="t", disks={"vda": Disk(size=8 * MIB)}, steps=steps), 0, body)
    assert all(SECOND // 4 < each < 5 * SECOND for each in took_ns)
    assert len(took_ns) == 2


@pytest.mark.parametrize("name", [*BACKENDS, "sim:7.2"])
def test_another_monitor_sees_what_the_first_did_and_new_events(name: str) -> None:
    async def body(session: Session) -> None:
        null = {"driver": "null-co", "size": MIB}
        await session.qmp("blockdev-add", {**null, "node-name": "null"})
        await session.change_monitor()
        nodes = await session.qmp("query-named-block-nodes")
        assert "null" in [node["node-name"] for node in nodes]
        await session.qmp("blockdev-add", {**null, "node-name": "null2"})
        await session.qmp(
            "blockdev-backup", {"job-id": "j", "device": "null", "target": "null2", "sync": "full"}
        )
        await session.wait_event(
            lambda event: event["event"] == "BLOCK_JOB_COMPLETED", "the job's end", 10 * SECOND
        )

    steps = [Step(fault=Fault(monitor="vanish"))]
    open_backend(name).run(Scenario(name="t", disks={"vda": Disk(size=8 * MIB)}, steps=steps), 0, body)
