"""Compressed clusters written by the real QEMU and by the simulator: the same replies, and the same content
in as many clusters."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from both_programs import DEADLINE_S, SYSTEM, Running, real, start

MIB = 1 << 20
Command = tuple[str, dict[str, Any]] | str
# What does not get smaller.
NOISE = bytes((at * at * 7919 >> 5) * (at + 13) >> 3 & 255 for at in range(3 * 65536))
DISK: list[Command] = [
    ("blockdev-add", {"driver": "file", "filename": "disk.qcow2", "node-name": "file"}),
    ("blockdev-add", {"driver": "qcow2", "file": "file", "node-name": "disk"}),
]
SOURCE: Command = (
    "blockdev-add",
    {"driver": "raw", "file": {"driver": "file", "filename": "source.raw"}, "node-name": "source"},
)
FILTER: Command = ("blockdev-add", {"driver": "compress", "file": "disk", "node-name": "c"})


def io(command: str, node: str = "disk") -> Command:
    return f'qemu-io {node} "{command}"'


def backup(**more: Any) -> Command:
    given = {"job-id": "j", "device": "source", "target": "disk", "sync": "full", "compress": True, **more}
    return "blockdev-backup", given


DIALOGUES: dict[str, list[Command]] = {
    "written": [
        *DISK,
        io("write -c -P 1 0 64k"), io("write -c -P 2 64k 192k"), io("write -c -P 3 0 64k"),
        io("write -c -P 1 1m 4k"), io("write -c -P 1 512 64k"), io("write -c -P 1 100 64k"),
        io("write -c -P 1 1m 100"), io("write -c -f 1m 64k"),
        io("write -c -z 1m 64k"), io("write -c -P 7 1m 64k"), io("read -P 7 1m 64k"),
        io("write -P 4 100k 1k"), io("read -P 2 128k 64k"), io("write -c -P 4 64k 64k"),
        io("discard 128k 64k"), io("write -c -P 9 128k 64k"), io("write -P 5 192k 64k"),
        io("write -c -P 5 -s 2m 64k"), io("write -c -P 1 8128k 64k"), io("write -c 0 64k", "file"),
    ],
    "backed up": [*DISK, SOURCE, backup(target="source"), backup(target="file"), backup()],
    "backed up twice": [*DISK, SOURCE, backup(), io("write -P 6 0 1m", "source"), backup()],
    "filtered": [
        *DISK,
        ("blockdev-add", {"driver": "compress", "file": "file", "node-name": "x"}),
        ("blockdev-add", {"driver": "compress", "node-name": "x"}),
        FILTER,
        ("query-named-block-nodes", {"flat": True}),
        io("write -P 1 0 64k", "c"), io("write -P 2 100k 4k", "c"), io("read -P 2 100k 4k", "c"),
        io("read -P 0 64k 36k", "c"), io("write -P 2 100k 4k", "c"), io("write -z 1m 128k", "c"),
        io("write -P 9 1m 1k", "c"), io("write -P 8 3m 256k", "c"), io("write -P 8 8190k 2k", "c"),
        ("blockdev-reopen", {"options": [{"driver": "compress", "file": "disk", "node-name": "c"}]}),
    ],
}  # fmt: skip


def told(running: Running, commands: list[Command]) -> list[tuple[str, str]]:
    answers = []
    running.negotiate()
    for command in commands:
        reply = running.hmp(command) if isinstance(command, str) else running.qmp(*command)
        if command[0] == "blockdev-backup" and reply == {}:
            running.wait_event("BLOCK_JOB_COMPLETED")
            reply = [each["data"] for each in running.events if each["event"] == "BLOCK_JOB_COMPLETED"]
            running.events.clear()
        if isinstance(reply, list):
            for each in reply:
                each.get("image", {}).pop("actual-size", None)
        answers.append((str(command), json.dumps(reply, sort_keys=True)))
    assert running.qmp("quit") == {}
    assert running.wait() == 0
    # What qemu-io prints, without the times that it took.
    printed = [line for line in running.printed()[0].splitlines() if "ops; " not in line]
    return [*answers, *(("printed", line) for line in printed)]


def qemu_img(place: Path, *arguments: str) -> Any:
    run = subprocess.run(
        [real("qemu-img"), *arguments], cwd=place, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert run.returncode == 0, (arguments, run.stdout, run.stderr)
    return json.loads(run.stdout) if "--output=json" in arguments else run.stdout


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_same_is_written(name: str, tmp_path: Path) -> None:
    answers, found = [], []
    for is_real in (True, False):
        place = tmp_path / str(is_real)
        place.mkdir()
        (place / "source.raw").write_bytes(
            bytes(MIB) + b"q" * (3 * MIB) + NOISE + bytes(4 * MIB - len(NOISE))
        )
        qemu_img(place, "create", "-q", "-f", "qcow2", "disk.qcow2", str(8 * MIB))
        with start(SYSTEM, is_real, place) as running:
            answers.append(told(running, DIALOGUES[name]))
        check = qemu_img(place, "check", "--output=json", "disk.qcow2")
        found.append((check["allocated-clusters"], check.get("compressed-clusters")))
    theirs, ours = answers
    assert ours == theirs
    assert found[1] == found[0]
    images = (str(tmp_path / str(is_real) / "disk.qcow2") for is_real in (True, False))
    assert qemu_img(tmp_path, "compare", *images) == "Images are identical.\n"
