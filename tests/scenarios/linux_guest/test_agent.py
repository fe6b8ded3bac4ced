"""The agent against a guest whose lines the test writes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from scenarios.backends.interface import DeadlinePassed, NbdFailed
from scenarios.backends.processes import deadline
from scenarios.linux_guest import agent as agent_module
from scenarios.linux_guest.agent import Agent, LinuxDisk, bytes_of_dump


class Waiting:
    """A session whose machine lives on."""

    async def unless_gone(self, future: asyncio.Future[None], waited_for: str, timeout_ns: int) -> None:
        async with deadline(waited_for, timeout_ns):
            await asyncio.shield(future)


class Guest:
    """The guest's ends of the two ports."""

    def __init__(self) -> None:
        ours, self.kernel = socket.socketpair()
        more, self.second = socket.socketpair()
        self.agent = Agent(Waiting(), ours, more)

    def says(self, *lines: str) -> None:
        self.second.sendall("".join(f"{line}\n" for line in lines).encode())

    def hears(self) -> list[str]:
        return self.second.recv(4096).decode().splitlines()

    def close(self) -> None:
        self.agent.close()
        self.kernel.close()
        self.second.close()


def talk(body: Callable[[Guest], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        guest = Guest()
        try:
            guest.says("disk vda /dev/vdb", "ready")
            await guest.agent.boot()
            await body(guest)
        finally:
            guest.close()

    asyncio.run(asyncio.wait_for(run(), 10))


async def soon() -> None:
    """Let what was begun go out."""
    await asyncio.sleep(0.02)


def test_requests_overlap_and_name_the_guests_device() -> None:
    async def body(guest: Guest) -> None:
        disk = LinuxDisk(guest.agent, "vda")
        one = asyncio.create_task(disk.write(4096, 512, 17))
        other = asyncio.create_task(disk.discard(0, 65536))
        await soon()
        assert guest.hears() == ["1 write /dev/vdb 4096 512 021", "2 discard /dev/vdb 0 65536 000"]
        guest.says("2 ok")
        await other
        assert not one.done()
        guest.says("1 ok")
        await one

    talk(body)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("dd: error writing '/dev/vda': Input/output error", "EIO"),
        ("blkdiscard: /dev/vda: BLKDISCARD ioctl failed: Operation not supported", "ENOTSUP"),
        ("dd: can't open '/dev/vda': No space left on device", "ENOSPC"),
    ],
)
def test_what_a_program_says_becomes_an_errno(words: str, name: str) -> None:
    async def body(guest: Guest) -> None:
        writing = asyncio.create_task(LinuxDisk(guest.agent, "vda").write(0, 512, 1))
        await soon()
        guest.says(f"1 failed: {words}")
        with pytest.raises(NbdFailed) as caught:
            await writing
        assert caught.value.errno_name == name
        assert words in str(caught.value)

    talk(body)


def test_garbage_is_told_word_for_word() -> None:
    async def body(guest: Guest) -> None:
        writing = asyncio.create_task(LinuxDisk(guest.agent, "vda").write(0, 512, 1))
        await soon()
        guest.says("noise", "1 \x1b[31mwhat")
        with pytest.raises(NbdFailed, match=r"the guest answered '1 \\x1b\[31mwhat'"):
            await writing
        assert guest.agent.last_screen == "[second port] noise"

    talk(body)


def test_a_guest_that_hangs_is_told_with_its_last_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_REQUEST_NS", 50_000_000)

    async def body(guest: Guest) -> None:
        guest.kernel.sendall(b"INFO: task dd blocked\r\n")
        with pytest.raises(
            DeadlinePassed, match=r"guest's write 0 512 of vda .*said last: INFO: task dd blocked"
        ):
            await LinuxDisk(guest.agent, "vda").write(0, 512, 1)
        # An answer that comes too late is nobody's.
        guest.says("1 ok")
        await soon()
        assert guest.agent.last_screen.endswith("[second port] 1 ok")

    talk(body)


def test_a_dump_as_hexdump_prints_it() -> None:
    """Printed by `hexdump -C` of busybox 1.35 for 16 bytes 0x41, 64 zeroes, and three more bytes."""
    lines = [
        "data 00000000  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  ",
        "data 00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  ",
        "data *",
        "data 00000050  01 02 03",
        "data 00000053",
    ]
    assert bytes_of_dump(lines) == b"A" * 16 + bytes(64) + b"\1\2\3"
    assert bytes_of_dump([]) == b""


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["data zz"], "the line 'data zz'"),
        (["data 00000010  00"], "goes on at 16, not at 0"),
        (["data *", "data 00000010"], "goes on at 16, not at 0"),
    ],
)
def test_a_dump_that_is_none(lines: list[str], problem: str) -> None:
    with pytest.raises(NbdFailed, match=problem):
        bytes_of_dump(lines)
