"""Nodes on devices of the host: the same replies of the real emulator and the simulator, the same bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from both_programs import DEADLINE_S, SYSTEM, Running, start

MIB = 1 << 20
Command = tuple[str, dict[str, Any]] | str
NODES: Command = ("query-named-block-nodes", {"flat": True})
STATS: Command = ("query-blockstats", {"query-nodes": True})


def device(name: str, path: str, **options: Any) -> Command:
    return "blockdev-add", {"driver": "host_device", "node-name": name, "filename": path, **options}


def resize(size: int) -> Command:
    return "block_resize", {"node-name": "d", "size": size}


def commands_on(path: str) -> list[Command]:
    return [
        device("x", "disk.raw"),
        device("x", "/dev/nope"),
        device("x", "."),
        ("blockdev-add", {"driver": "file", "node-name": "x", "filename": path}),
        device("null", "/dev/null"),
        device("d", path, discard="unmap"),
        ("blockdev-add", {"driver": "raw", "node-name": "r", "file": "d"}),
        NODES,
        *(
            f'qemu-io {command}'
            for command in (
                'r "write -P 1 0 64k"', 'r "write -z 4k 4k"', 'r "read -P 0 4k 4k"', 'd "discard 8k 4k"',
                'd "read -P 0 8k 4k"', 'r "map"', 'r "write 4095k 2k"', 'r "flush"',
            )
        ),
        STATS,
        resize(8 * MIB),
        resize(2 * MIB),
        device("d2", path),
        device("d3", path, **{"read-only": True}),
        NODES,
        ("blockdev-del", {"node-name": "r"}),
        ("blockdev-del", {"node-name": "d"}),
    ]  # fmt: skip


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    image.write_bytes(bytes(4 * MIB))
    made = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    path = made.stdout.strip()
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True, timeout=DEADLINE_S)


def told(running: Running, commands: list[Command]) -> list[str]:
    running.negotiate()
    answers = []
    for command in commands:
        reply = running.hmp(command) if isinstance(command, str) else running.qmp(*command)
        shown = f"{command}: {json.dumps(reply, sort_keys=True)}"
        answers.append(re.sub(r"/dev/loop\d+", "/dev/loop", shown))
    return answers + [line for line in running.printed()[0].splitlines() if "ops; " not in line]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a loop device")
def test_the_same_on_a_loop_device(tmp_path: Path) -> None:
    answers, contents = [], []
    for is_real in (True, False):
        place = tmp_path / str(is_real)
        place.mkdir()
        (place / "disk.raw").write_bytes(bytes(MIB))
        with loop_device(place / "device.raw") as path, start(SYSTEM, is_real, place) as running:
            answers.append(told(running, commands_on(path)))
        contents.append((place / "device.raw").read_bytes())
    assert answers[1] == answers[0]
    assert contents[1] == contents[0]
