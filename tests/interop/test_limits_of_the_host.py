"""Many clients at once, and no file descriptor left, for the real executables and the simulator's."""

from __future__ import annotations

import resource
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import mode
from typing import Any

import pytest
from both_programs import DEADLINE_S, both, programs, start

CLIENTS = 100
FEW_DESCRIPTORS = 40
SERVER = {"addr": {"type": "unix", "data": {"path": "n.sock"}}}


def greeted(client: socket.socket) -> bool:
    return client.recv(18)[:8] == b"NBDMAGIC"


@both
@programs
def test_clients_that_all_come_at_once(program: str, is_real: bool, tmp_path: Path) -> None:
    """Each is greeted, and those that then send rubbish or leave harm nobody."""
    with start(program, is_real, tmp_path) as running:
        running.negotiate()
        assert running.qmp("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 4096}) == {}
        assert running.qmp("nbd-server-start", {**SERVER, "max-connections": 0}) == {}
        assert running.qmp("block-export-add", {"type": "nbd", "id": "e", "node-name": "n"}) == {}
        clients = [socket.socket(socket.AF_UNIX) for _ in range(CLIENTS)]
        for client in clients:
            client.settimeout(DEADLINE_S)
            client.connect(str(tmp_path / "n.sock"))
        assert all(greeted(client) for client in clients)
        for number, client in enumerate(clients[1:]):
            if number % 2:
                client.sendall(b"rubbish " * number)
            client.close()
        with clients[0] as first:
            first.sendall(b"\0\0\0\3" + b"IHAVEOPT" + b"\0\0\0\3" + b"\0\0\0\0")
            assert first.recv(8) == b"\x00\x03\xe8\x89\x04\x55\x65\xa9"
        assert [export["id"] for export in running.qmp("query-block-exports")] == ["e"]


def _opened(client: socket.socket) -> bool:
    """Greeted, and now in the export: with a client in its handshake nbd-server-stop of 7.2.22 hangs."""
    is_greeted = greeted(client)
    client.sendall(b"\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\1e")
    return is_greeted and client.recv(10)[:8] == (4096).to_bytes(8, "big")


def _queued(client: socket.socket) -> bool:
    """Connected, and not greeted for a while."""
    client.settimeout(0.2)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(DEADLINE_S)
    return False


def _settled(descriptors: Path) -> int:
    """How many there are most of the time: the simulator opens files of its own for moments while it has
    nothing else to do."""
    counts = []
    for _ in range(100):
        counts.append(len(list(descriptors.iterdir())))
        time.sleep(0.002)
    return mode(counts)


@both
@programs
def test_more_clients_than_are_let_in(program: str, is_real: bool, tmp_path: Path) -> None:
    """They stay in the socket's queue; the program takes the next when one leaves."""
    with start(program, is_real, tmp_path) as running, ExitStack() as stack:
        running.negotiate()
        descriptors = Path(f"/proc/{running.process.pid}/fd")
        assert running.qmp("nbd-server-start", {**SERVER, "max-connections": 2}) == {}
        assert running.qmp("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 4096}) == {}
        export = {"type": "nbd", "id": "e", "name": "e", "node-name": "n"}
        assert running.qmp("block-export-add", export) == {}
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)]
        before = _settled(descriptors)
        for client in clients:
            client.settimeout(DEADLINE_S)
            client.connect(str(tmp_path / "n.sock"))
        assert [_opened(client) for client in clients[:2]] == [True, True]
        assert [_queued(client) for client in clients[2:]] == [True, True]
        assert _settled(descriptors) == before + 2
        clients[0].close()
        assert _opened(clients[2])
        assert _queued(clients[3])
        assert running.qmp("nbd-server-stop") == {}
        assert clients[1].recv(1) == clients[2].recv(1) == b""
        with pytest.raises(ConnectionResetError):
            clients[3].recv(1)


@pytest.mark.parametrize("most", [None, 0, 1, 2])
@programs
def test_who_may_connect_twice(program: str, most: int | None, tmp_path: Path) -> None:
    """CAN_MULTI_CONN of a writable export and of one that is not."""
    told = []
    for is_real in (True, False):
        place = tmp_path / str(is_real)
        place.mkdir()
        with start(program, is_real, place) as running:
            running.negotiate()
            assert running.qmp("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 4096}) == {}
            limit = {} if most is None else {"max-connections": most}
            assert running.qmp("nbd-server-start", {**SERVER, **limit}) == {}
            for name, writable in (("r", False), ("w", True)):
                export = {"type": "nbd", "id": name, "name": name, "node-name": "n", "writable": writable}
                assert running.qmp("block-export-add", export) == {}
                words = ["nbdinfo", "--can", "multi-conn", f"nbd+unix:///{name}?socket={place}/n.sock"]
                told.append(subprocess.run(words, timeout=DEADLINE_S, check=False).returncode)
    assert told[2:] == told[:2]


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    answers = [_without_descriptors(is_real, tmp_path) for is_real in (True, False)]
    assert answers[0] == answers[1]


def _without_descriptors(is_real: bool, cwd: Path) -> list[Any]:
    """What is told when no more files can be opened, and that all goes on when some are closed again."""
    with (cwd / "image").open("wb") as image:
        image.truncate(4096)
    with start("qemu-storage-daemon", is_real, cwd) as running:
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (FEW_DESCRIPTORS, FEW_DESCRIPTORS))
        running.negotiate()
        names = [f"n{number}" for number in range(FEW_DESCRIPTORS)]
        for name in names:
            node = {"driver": "file", "filename": "image", "node-name": name, "read-only": True}
            refused = running.qmp("blockdev-add", node)
            if refused != {}:
                break
        answers = [refused, running.qmp("nbd-server-start", SERVER)]
        # None of these drivers has been used, and none of them needs a file.
        for driver in ("null-co", "null-aio"):
            answers.append(running.qmp("blockdev-add", {"driver": driver, "node-name": driver}))
        for driver in ("raw", "copy-on-read", "preallocate", "compress", "copy-before-write"):
            node = {"driver": driver, "node-name": driver, "file": "n0"}
            if driver == "copy-before-write":
                node["target"] = "null-co"
            answers.append(running.qmp("blockdev-add", node))
        answers.append(running.qmp("object-add", {"qom-type": "throttle-group", "id": "g"}))
        answers.append(running.qmp("transaction", {"actions": []}))
        for name in names[1:5]:
            assert running.qmp("blockdev-del", {"node-name": name}) == {}
        answers += [running.qmp("nbd-server-start", SERVER), running.qmp("query-block-exports")]
    return answers
