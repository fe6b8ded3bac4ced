"""Threads of nodes and their users on the real emulator and on the simulator: what is refused, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from both_programs import NONE, PC, Running
from dialogues import on_both

Command = tuple[str, dict[str, Any]]


def thread(name: str, **options: Any) -> Command:
    given = {key.replace("_", "-"): each for key, each in options.items()}
    return "object-add", {"qom-type": "iothread", "id": name, **given}


def null(name: str) -> Command:
    return "blockdev-add", {"driver": "null-co", "node-name": name, "size": 1 << 20}


def move(node: str, to: str | None, **more: Any) -> Command:
    return "x-blockdev-set-iothread", {"node-name": node, "iothread": to, **more}


def export(name: str, node: str, thread: str | None = None, fixed: bool = False) -> Command:
    wanted = {"iothread": thread, "fixed-iothread": fixed} if thread else {}
    return "block-export-add", {"type": "nbd", "id": name, "name": name, "node-name": node, **wanted}


def unexport(name: str) -> Command:
    return "block-export-del", {"id": name}


def device(driver: str, name: str, drive: str, **more: Any) -> Command:
    return "device_add", {"driver": driver, "id": name, "drive": drive, **more}


def filtered(name: str, node: str) -> Command:
    return "blockdev-add", {"driver": "raw", "node-name": name, "file": node}


def mirror(source: str, target: str) -> Command:
    return "blockdev-mirror", {"job-id": "j", "device": source, "target": target, "sync": "full"}


SERVER: Command = ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "nbd.sock"}}})
TOLD: Command = ("query-iothreads", {})
TWO = [thread("i0"), thread("i1")]
MAIN = None

DIALOGUES: dict[str, tuple[tuple[str, ...], tuple[str, ...], list[Command]]] = {
    "objects": (
        NONE,
        (),
        [
            thread("i0"),
            thread("i1", poll_max_ns=5, poll_grow=2, poll_shrink=3, aio_max_batch=7),
            TOLD,
            thread("i2", poll_max_ns=-1),
            thread("i2", aio_max_batch=-1),
            thread("i2", thread_pool_min=5, thread_pool_max=2),
            thread("i2", thread_pool_min=-5),
            thread("i2", thread_pool_max=0),
            thread("i0"),
            null("n"),
            move("n", "i0"),
            move("n", MAIN),
            ("object-del", {"id": "i0"}),
            ("object-del", {"id": "i0"}),
            TOLD,
            thread("i0"),
            move("n", "i0"),
            move("x", "i0"),
            move("n", "nope"),
            move("n", MAIN),
        ],
    ),
    "exports": (
        NONE,
        (),
        [
            *TWO, SERVER, null("n"), null("t"),
            export("a", "n", "i1"), move("n", "i0"), move("n", "i0", force=True),
            export("b", "n", "i1", fixed=True), move("n", "i0", force=True), move("n", "i1", force=True),
            export("c", "n", "i0", fixed=True), export("d", "n", "i0"), export("e", "n", "nope"),
            unexport("b"), move("n", "i0", force=True), export("c", "n", "i1", fixed=True),
            filtered("r", "n"), move("r", "i0"), filtered("r2", "n"), move("r2", MAIN),
            unexport("c"), move("r", "i0", force=True), export("g", "r", "i1", fixed=True),
            move("n", MAIN, force=True), export("h", "n", "i0", fixed=True),
        ],
    ),
    "a job": (
        NONE,
        (),
        [
            *TWO, SERVER, null("n"), null("t"), export("b", "n", "i1", fixed=True),
            ("blockdev-backup", {"job-id": "j", "device": "n", "target": "t", "sync": "none"}),
            export("f", "t", "i0", fixed=True), move("t", MAIN, force=True), move("t", MAIN),
        ],
    ),
    "two fixed ones": (
        NONE,
        (),
        [
            *TWO, SERVER, null("n"), null("t"),
            export("a", "n", "i0", fixed=True), export("b", "t", "i1", fixed=True),
            ("blockdev-backup", {"job-id": "j", "device": "n", "target": "t", "sync": "none"}),
        ],
    ),
    "devices": (
        PC,
        ("-device", "virtio-scsi-pci,id=sc"),
        [
            *TWO, SERVER, *(null(name) for name in ("n", "m", "o", "p")),
            move("m", "i0"), move("o", "i0"),
            device("virtio-blk-pci", "v", "n", iothread="nope"),
            device("virtio-blk-pci", "v", "n", iothread="i0"),
            device("scsi-hd", "s", "m", iothread="i0"),
            device("scsi-hd", "s", "m"),
            move("m", MAIN, force=True), move("m", "i0", force=True), move("n", "i0", force=True),
            move("n", "i0"), move("o", "i1", force=True),
            export("a", "m", "i1", fixed=True), export("a", "m", "i1"),
            ("device_add", {"driver": "virtio-scsi-pci", "id": "sd", "iothread": "nope"}),
            ("device_add", {"driver": "virtio-scsi-pci", "id": "sd", "iothread": "i0"}),
        ],
    ),
    "disks of an adapter in a thread": (
        PC,
        ("-object", "iothread,id=i2", "-device", "virtio-scsi-pci,id=sc,iothread=i2"),
        [
            *TWO, SERVER, *(null(name) for name in ("n", "t")),
            device("scsi-hd", "s", "n", bus="sc.0"),
            export("a", "n", "i0", fixed=True), export("a", "n", "i0"), export("b", "n", "i2", fixed=True),
            unexport("b"), filtered("r", "n"), export("c", "r", "i0", fixed=True),
            move("t", "i1"), mirror("t", "n"), ("block-job-cancel", {"device": "j"}),
            export("d", "t", "i2", fixed=True), mirror("n", "t"), unexport("d"),
        ],
    ),
    "a drive": (
        NONE,
        ("-drive", "if=none,id=dr,file=disk.raw,format=raw,node-name=n"),
        [*TWO, SERVER, move("n", "i0"), move("n", "i0", force=True), export("a", "n", "i1", fixed=True)],
    ),
}  # fmt: skip


def told(running: Running, commands: list[Command]) -> list[Any]:
    answers = []
    for command in commands:
        reply = running.qmp(*command)
        if command == TOLD:
            assert all(each.pop("thread-id") > 0 for each in reply)
            # QEMU's order is that of a hash table.
            reply.sort(key=lambda each: str(each["id"]))
        answers.append((command, reply))
    return answers


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_same_replies(name: str, tmp_path: Path) -> None:
    different = on_both(DIALOGUES[name], tmp_path, 1 << 20, told)
    assert not different, "\n".join(f"{ours}\nreal: {real}" for _, real, ours in different)
