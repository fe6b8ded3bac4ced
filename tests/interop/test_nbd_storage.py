"""Driver nbd on real servers: what the simulator's executable makes of each is what QEMU 7.2 does."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.interop.both_programs import DEADLINE_S, SYSTEM, Running, serving, start, wait_until

MIB = 1 << 20
NBDKIT = ("nbdkit", "-f", "-U", "{socket}", "file", "{image}")
QEMU_NBD = ("qemu-nbd", "-t", "-e", "8", "-k", "{socket}", "-f", "raw", "{image}")


def node(path: str, **options: Any) -> dict[str, Any]:
    return {"driver": "nbd", "node-name": "n", "server": {"type": "unix", "path": path}, **options}


def told(said: object, directory: Path) -> str:
    """Without the place, which differs between two runs."""
    return json.dumps(said, sort_keys=True).replace(str(directory), "DIR")


def both(tmp_path: Path, talk: Callable[[Running, Path], list[object]]) -> list[str]:
    """What QEMU and the simulator answer, each in a directory with an image of its own. They are the same."""
    answers = []
    for is_real in (True, False):
        directory = tmp_path / ("real" if is_real else "simulated")
        directory.mkdir()
        (directory / "i").write_bytes(bytes(MIB // 2) + b"\x11" * (MIB // 4) + bytes(MIB // 4))
        with start(SYSTEM, is_real, directory) as running:
            said = talk(running.negotiate(), directory)
            image = (directory / "i").read_bytes()
            answers.append([*(told(each, directory) for each in said), str(hash(image))])
    assert answers[1] == answers[0]
    return answers[0]


def qemu_io(running: Running, *commands: str) -> list[object]:
    """What each answered on the monitor, and printed but for how long it took."""
    said: list[object] = []
    for command in commands:
        before = len(running.printed()[0])
        answer = running.hmp(f'qemu-io n "{command}"')
        printed = re.sub(r"^.* ops; .*$", "", running.printed()[0][before:], flags=re.MULTILINE)
        said.append([answer.strip(), printed.strip()])
    return said


@pytest.mark.parametrize(
    ("server", "options"),
    [
        (None, {}),
        (None, {"open-timeout": 1}),
        (None, {"server": {"type": "inet", "host": "127.0.0.1", "port": "1"}}),
        (None, {"export": "x" * 4097}),
        (None, {"x-dirty-bitmap": "x" * 4097}),
        (None, {"tls-creds": "none"}),
        ((*QEMU_NBD, "-x", "here"), {"export": "there"}),
        ((*QEMU_NBD, "-x", "here"), {}),
        ((*QEMU_NBD, "-x", "here"), {"export": "here"}),
        ((*QEMU_NBD, "-r"), {}),
        ((*QEMU_NBD, "-r"), {"auto-read-only": True}),
        ((*QEMU_NBD, "-r"), {"read-only": True}),
        (QEMU_NBD, {"x-dirty-bitmap": "qemu:dirty-bitmap:none"}),
        ((*QEMU_NBD, "-A"), {"x-dirty-bitmap": "qemu:allocation-depth"}),
        (NBDKIT, {"export": "any name", "reconnect-delay": 5}),
    ],
    ids=lambda value: " ".join(map(str, value))[:40] if value else "none",
)
def test_opening(tmp_path: Path, server: Sequence[str] | None, options: dict[str, Any]) -> None:
    def talk(running: Running, directory: Path) -> list[object]:
        with serving(server, directory) if server else contextlib.nullcontext():
            said = [running.qmp("blockdev-add", node(f"{directory}/s", **options))]
            nodes = running.qmp("query-named-block-nodes", {"flat": True})
            said += [running.hmp("info block n"), running.qmp("blockdev-del", {"node-name": "n"})]
            return [*said, nodes]

    both(tmp_path, talk)


REQUESTS = (
    "read -P 0x11 512k 256k",
    "read -P 0 0 512k",
    "write -P 0x22 100 5000",
    "read -P 0x22 100 5000",
    "write -z 512k 4k",
    "write -z -u 520k 64k",
    "discard 640k 64k",
    "write -P 0x33 1048570 6",
    "write -P 0x33 1048570 7",
    "flush",
    "read -P 0 512k 4k",
    "length",
    "truncate 1M",
    "truncate 2M",
    "truncate 512k",
)


@pytest.mark.parametrize(
    "server",
    [
        NBDKIT,
        QEMU_NBD,
        ("nbdkit", "-f", "--no-sr", "-U", "{socket}", "file", "{image}"),
        ("nbdkit", "-f", "-U", "{socket}", "--filter=nozero", "file", "{image}"),
        (
            "nbdkit",
            "-f",
            "-U",
            "{socket}",
            "--filter=error",
            "file",
            "{image}",
            "error=ENOSPC",
            "error-pwrite-rate=100%",
        ),
        (
            "nbdkit",
            "-f",
            "-U",
            "{socket}",
            "--filter=error",
            "file",
            "{image}",
            "error=EPERM",
            "error-rate=100%",
        ),
    ],
    ids=lambda server: " ".join(server[1:])[:60],
)
def test_requests(tmp_path: Path, server: Sequence[str]) -> None:
    def talk(running: Running, directory: Path) -> list[object]:
        with serving(server, directory):
            said: list[object] = [running.qmp("blockdev-add", node(f"{directory}/s", discard="unmap"))]
            said += qemu_io(running, *REQUESTS)
            return said if "error-rate=100%" in server else said + qemu_io(running, "map")

    both(tmp_path, talk)


@pytest.mark.parametrize("options", [{}, {"export": "x"}])
def test_over_tcp(tmp_path: Path, options: dict[str, Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = ("nbdkit", "-f", "-i", "127.0.0.1", "-p", port, "file", "{image}")

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", int(port))) == 0

    def talk(running: Running, directory: Path) -> list[object]:
        with serving(server, directory, listens):
            address = {"type": "inet", "host": "127.0.0.1", "port": port}
            said: list[object] = [running.qmp("blockdev-add", {**node("", **options), "server": address})]
            said += [running.qmp("query-named-block-nodes", {"flat": True})]
            return said + qemu_io(running, "read -P 0x11 512k 256k", "write -P 3 0 1M")

    both(tmp_path, talk)


@pytest.mark.parametrize("greeting", [b"", b"NBDMAGICIHAVEOPT\0\3", b"x" * 18, b"NBDMAGIC" + b"x" * 10])
def test_a_server_that_goes_in_the_handshake(tmp_path: Path, greeting: bytes) -> None:
    """On an abstract socket, while we are at it."""

    def talk(running: Running, directory: Path) -> list[object]:
        name = f"goldenfleece-{directory}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{name}")
            listener.listen()
            listener.settimeout(DEADLINE_S)

            def answer() -> None:
                client = listener.accept()[0]
                with client, contextlib.suppress(ConnectionResetError):
                    client.sendall(greeting)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        pass

            answering = threading.Thread(target=answer)
            answering.start()
            address = {"type": "unix", "path": name, "abstract": True}
            said: list[object] = [running.qmp("blockdev-add", {**node(""), "server": address})]
            answering.join(DEADLINE_S)
            return said

    both(tmp_path, talk)


def test_large_requests_are_cut(tmp_path: Path) -> None:
    def talk(running: Running, directory: Path) -> list[object]:
        with (directory / "i").open("r+b") as file:
            file.truncate(80 * MIB)
        with serving(("nbdkit", "-f", "-U", "{socket}", "file", "{image}"), directory):
            said: list[object] = [running.qmp("blockdev-add", node(f"{directory}/s"))]
            return said + qemu_io(
                running, "write -P 7 1000 70M", "read -P 7 1000 70M", "write -z 0 70M", "map"
            )

    both(tmp_path, talk)


def test_a_lost_server_is_found_again(tmp_path: Path) -> None:
    def talk(running: Running, directory: Path) -> list[object]:
        def failed(command: str) -> bool:
            return "error" in str(qemu_io(running, command))

        with serving(NBDKIT, directory):
            said: list[object] = [running.qmp("blockdev-add", node(f"{directory}/s"))]
            said += qemu_io(running, "read 0 4k")
        (directory / "s").unlink()
        said += qemu_io(running, "read 0 4k", "write -P 1 0 4k", "flush")
        with serving(NBDKIT, directory):
            wait_until(lambda: not failed("read 0 4k"), "the server to be found again")
            said += qemu_io(running, "write -P 1 0 4k", "read -P 1 0 4k")
        return said

    said = both(tmp_path, talk)
    assert sum("Input/output error" in each for each in said) == 2


def test_with_a_reconnect_delay_requests_wait_for_the_server(tmp_path: Path) -> None:
    def talk(running: Running, directory: Path) -> list[object]:
        options = {"reconnect-delay": 30}
        with serving(NBDKIT, directory):
            said: list[object] = [running.qmp("blockdev-add", node(f"{directory}/s", **options))]
        (directory / "s").unlink()
        asking = threading.Thread(
            target=lambda: said.extend(qemu_io(running, "write -P 1 0 4k", "read -P 1 0 4k"))
        )
        began = time.monotonic()
        asking.start()
        time.sleep(0.3)
        with serving(NBDKIT, directory):
            asking.join(DEADLINE_S)
        assert time.monotonic() - began < DEADLINE_S
        return said

    said = both(tmp_path, talk)
    assert len(said) == 4
    assert "error" not in "".join(said)


def test_after_the_reconnect_delay_requests_fail(tmp_path: Path) -> None:
    def talk(running: Running, directory: Path) -> list[object]:
        with serving(NBDKIT, directory):
            said: list[object] = [
                running.qmp("blockdev-add", node(f"{directory}/s", **{"reconnect-delay": 1}))
            ]
        began = time.monotonic()
        said += qemu_io(running, "read 0 4k", "read 0 4k")
        assert 0.9 < time.monotonic() - began < 8
        return said

    assert sum("Input/output error" in each for each in both(tmp_path, talk)) == 2


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_on_the_command_line(tmp_path: Path, is_real: bool) -> None:
    (tmp_path / "i").write_bytes(b"\x11" * MIB)
    option = json.dumps(node(f"{tmp_path}/s"))
    with serving(QEMU_NBD, tmp_path), start(SYSTEM, is_real, tmp_path, ["-blockdev", option]) as running:
        said = qemu_io(running.negotiate(), "read -P 0x11 0 1M")
        assert said == [["", "read 1048576/1048576 bytes at offset 0"]]
