"""A file system of little room in memory beside a tmpfs of that size: what fits, what fails, what is left."""

from __future__ import annotations

import random
from collections.abc import Iterator
from errno import ENOSPC, EXDEV
from pathlib import Path

import pytest

from scenarios.backends.rooms import can_mount, make_room, unmount_below
from simulator.block.host import Host
from simulator.block.memory_host import MemoryHost
from simulator.serve.host_files import DiskHost

PAGE = 4096
ROOM = 16 * PAGE


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host, str]]:
    """Host in memory, real host, and the path of a directory with ROOM on both."""
    if not can_mount(tmp_path):
        pytest.skip("mounting a file system needs root")
    room = tmp_path / "small.room"
    make_room(room, ROOM)
    try:
        memory = MemoryHost()
        memory.mount(str(room), ROOM)
        yield memory, DiskHost(), str(room)
    finally:
        unmount_below(tmp_path)


def outcome(host: Host, path: str, act: str, offset: int, length: int) -> tuple[object, ...]:
    """Do one thing to a file: its errno or 0, and what the file is after that."""
    file = host.open(path, create=True)
    number = 0
    try:
        if act == "write":
            file.write(offset, bytes([offset // PAGE % 255 + 1]) * length)
        elif act == "zeroes":
            file.write_zeroes(offset, length, unmap=False)
        elif act == "discard":
            file.discard(offset, length)
        else:
            file.truncate(offset)
    except OSError as error:
        number = error.errno or -1
    try:
        size = file.size_bytes()
        return number, size, file.allocated_bytes(), file.read(0, size)
    finally:
        file.close()


@pytest.mark.parametrize("seed", range(10))
def test_the_same_fits_on_both(hosts: tuple[Host, Host, str], seed: int) -> None:
    memory, real, room = hosts
    chance = random.Random(seed)
    failed = 0
    for number in range(150):
        path = f"{room}/{chance.choice('ab')}"
        act = chance.choice(["write", "write", "write", "zeroes", "discard", "truncate"])
        offset = chance.choice([chance.randrange(20 * PAGE), chance.randrange(20) * PAGE])
        length = chance.choice([1, 512, PAGE, 5 * PAGE, chance.randrange(1, 8 * PAGE)])
        step = (path, act, offset, length)
        in_memory, on_disk = outcome(memory, *step), outcome(real, *step)
        assert in_memory == on_disk, f"step {number}: {act} {length} at {offset}"
        failed += in_memory[0] == ENOSPC
        if chance.random() < 0.1:
            for host in (memory, real):
                host.unlink(path)
    assert failed, "the room was never used up, so nothing was shown"


def test_a_file_cannot_be_moved_out(hosts: tuple[Host, Host, str]) -> None:
    for host in hosts[:2]:
        host.write_all(f"{hosts[2]}/a", b"x")
    hosts[0].mkdir(str(Path(hosts[2]).parent / "other"))
    (Path(hosts[2]).parent / "other").mkdir()
    for host in hosts[:2]:
        with pytest.raises(OSError, match="cross-device") as raised:
            host.rename(f"{hosts[2]}/a", str(Path(hosts[2]).parent / "other" / "a"))
        assert raised.value.errno == EXDEV
        assert host.read_all(f"{hosts[2]}/a") == b"x"
