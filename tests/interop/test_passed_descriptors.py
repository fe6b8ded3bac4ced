"""Descriptors passed over the monitor's socket, to the real programs and to the simulator's."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from both_programs import (
    NONE,
    SYSTEM,
    SYSTEM_MONITOR,
    Running,
    both,
    command_line,
    connect,
    program_path,
    programs,
    start,
    started,
)

# A command, its arguments, and the files that are passed with it: (name, flags of open), or "listening".
Passed = tuple[str, int] | str
Command = tuple[str, dict[str, Any], tuple[Passed, ...]]
RW: Passed = ("disk.raw", os.O_RDWR)
RO: Passed = ("disk.raw", os.O_RDONLY)
FDSETS: Command = ("query-fdsets", {}, ())


def add_fd(*passed: Passed, number: int | None = None, opaque: str | None = None) -> Command:
    given: dict[str, Any] = {} if number is None else {"fdset-id": number}
    return "add-fd", given if opaque is None else {**given, "opaque": opaque}, passed


def remove_fd(number: int, fd: int | None = None) -> Command:
    return "remove-fd", {"fdset-id": number} if fd is None else {"fdset-id": number, "fd": fd}, ()


def getfd(name: str, *passed: Passed) -> Command:
    return "getfd", {"fdname": name}, passed


def closefd(name: str) -> Command:
    return "closefd", {"fdname": name}, ()


def node(name: str, path: str, **options: Any) -> Command:
    return "blockdev-add", {"driver": "file", "filename": path, "node-name": name, **options}, ()


def delete(name: str) -> Command:
    return "blockdev-del", {"node-name": name}, ()


def serve(descriptor: str) -> Command:
    return "nbd-server-start", {"addr": {"type": "fd", "data": {"str": descriptor}}}, ()


READ_ONLY = {"read-only": True}
COMMANDS: list[Command] = [
    FDSETS,
    add_fd(),
    add_fd(RW),
    add_fd(RO, number=0, opaque="for reading"),
    add_fd(RO, number=5, opaque="rdonly:disk"),
    add_fd(RW),
    add_fd(RW, number=-1),
    FDSETS,
    add_fd(),
    add_fd(RO, RO, number=7),
    add_fd(number=7),
    FDSETS,
    remove_fd(9),
    remove_fd(0, 3000),
    remove_fd(7),
    FDSETS,
    node("a", "/dev/fdset/0"),
    node("b", "/dev/fdset/5"),
    node("b", "/dev/fdset/5", **READ_ONLY),
    node("c", "/dev/fdset/77"),
    node("c", "/dev/fdset/x"),
    node("c", "/dev/fdset/77", **READ_ONLY),
    ("query-named-block-nodes", {"flat": True}, ()),
    remove_fd(0),
    FDSETS,
    remove_fd(5),
    FDSETS,
    delete("a"),
    delete("b"),
    FDSETS,
    remove_fd(1),
    FDSETS,
    getfd("x"),
    getfd("x", RW),
    getfd("x", RO),
    getfd("1x", RO),
    closefd("x"),
    closefd("x"),
    serve("l"),
    getfd("l", RW),
    serve("l"),
    serve("l"),
    getfd("l", "listening"),
    serve("l"),
    closefd("l"),
    ("nbd-server-stop", {}, ()),
]


@contextmanager
def opened(passed: tuple[Passed, ...], place: Path) -> Iterator[list[int]]:
    with ExitStack() as stack:
        descriptors = []
        for each in passed:
            if isinstance(each, str):
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(place / "listener"))
                listener.listen()
                descriptors.append(listener.fileno())
            else:
                descriptors.append(os.open(place / each[0], each[1]))
                stack.callback(os.close, descriptors[-1])
        yield descriptors


def without_numbers(reply: Any) -> Any:
    """Descriptors have other numbers in another process."""
    if isinstance(reply, list):
        return [without_numbers(each) for each in reply]
    if isinstance(reply, dict):
        return {
            key: without_numbers(value)
            for key, value in sorted(reply.items())
            if key not in ("fd", "actual-size")
        }
    return reply


def told(running: Running, place: Path) -> list[Any]:
    answers = []
    running.negotiate()
    for name, arguments, passed in COMMANDS:
        with opened(passed, place) as descriptors:
            if descriptors:
                # The request itself follows: what comes with a space is there when it is read.
                socket.send_fds(running.ours, [b" "], descriptors)
            answers.append(((name, arguments), without_numbers(running.qmp(name, arguments))))
    return answers


@programs
def test_the_same_replies(program: str, tmp_path: Path) -> None:
    answers = []
    for is_real in (True, False):
        place = tmp_path / str(is_real)
        place.mkdir()
        (place / "disk.raw").write_bytes(bytes(1 << 20))
        with start(program, is_real, place) as running:
            answers.append(told(running, place))
    real, simulated = answers
    different = [
        f"{ours}\nreal: {theirs}" for ours, theirs in zip(simulated, real, strict=True) if ours != theirs
    ]
    assert not different, "\n".join(different)


def ask(client: socket.socket, lines: Any, request: bytes, descriptors: list[int]) -> Any:
    socket.send_fds(client, [request], descriptors)
    return json.loads(lines.readline())


@both
def test_a_descriptor_goes_with_the_last_client(is_real: bool, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    left = []
    with started(command_line(SYSTEM, is_real), tmp_path), opened((RW,), tmp_path) as descriptors:
        for request, passed in ((b"add-fd", descriptors), (b"query-fdsets", [])):
            with connect(tmp_path / "q.sock") as client, client.makefile("rb") as lines:
                lines.readline()
                ask(client, lines, b'{"execute": "qmp_capabilities"}', [])
                left.append(ask(client, lines, b'{"execute": "%s"}' % request, passed)["return"])
    assert left[0]["fdset-id"] == 0
    assert left[1] == []


def test_descriptors_that_a_program_is_started_with(tmp_path: Path) -> None:
    """-add-fd: a file is opened by them from the start on, to be read by one, to be written by the other."""
    options = [
        *("-add-fd", "fd=7,set=2,opaque=to write,,and read", "-add-fd", "fd=8,set=2,opaque=to read"),
        *("-blockdev", "driver=file,node-name=f,filename=/dev/fdset/2"),
    ]
    answers = []
    for is_real in (True, False):
        place = tmp_path / str(is_real)
        place.mkdir()
        (place / "disk.raw").write_bytes(bytes(1 << 20))
        argv = ["sh", "-c", 'exec "$0" "$@" 7<>disk.raw 8<disk.raw', program_path(SYSTEM, is_real), *NONE]
        with Running([*argv, *options], place, SYSTEM_MONITOR, is_real) as running:
            running.negotiate()
            said = [running.qmp("query-fdsets"), running.hmp('qemu-io f "write -P 7 64k 64k"')]
            said += [running.qmp("blockdev-del", {"node-name": "f"}), running.qmp("query-fdsets")]
            answers.append([without_numbers(each) for each in said])
        assert (place / "disk.raw").read_bytes()[64 << 10 : 128 << 10] == b"\7" * (64 << 10)
    assert answers[1] == answers[0]
    assert [len(fdset["fds"]) for fdset in answers[0][0]] == [2]
