"""What the real emulator and the simulator count of the same requests. Times differ, and are left out."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from both_programs import DEADLINE_S, NONE, PC, Running, real
from dialogues import Command, ask, on_both

MIB = 1 << 20
STATS: Command = ("query-blockstats", {})
NODE_STATS: Command = ("query-blockstats", {"query-nodes": True})
FLUSH = 'qemu-io dr "aio_flush"'


def io(command: str, on: str = "dr") -> Command:
    return f'qemu-io {on} "{command}"'


def of_device(command: str) -> Command:
    """A request that is counted, and done when the next command comes."""
    return f'qemu-io -d s0 "{command}"'


def bins(**arguments: Any) -> Command:
    return "block-latency-histogram-set", {name.replace("_", "-"): each for name, each in arguments.items()}


def device_add(name: str, drive: str, **options: Any) -> Command:
    given = {key.replace("_", "-"): each for key, each in options.items()}
    return "device_add", {"driver": "scsi-hd", "id": name, "drive": drive, **given}


NODES: list[Command] = [
    ("blockdev-add", {"driver": "null-co", "node-name": name, "size": MIB}) for name in ("n", "m", "o")
]
FAILING = {
    "driver": "blkdebug",
    "node-name": "bad",
    "image": {"driver": "file", "filename": "other.raw"},
    "inject-error": [{"event": "none", "iotype": "write"}],
}
UNMAP = {"discard": "unmap"}
DEVICE = ("-device", "virtio-scsi-pci,id=sc", "-device", "scsi-hd,id=s0,drive=dr")
DRIVE = ("-drive", "if=none,id=dr,file=disk.raw,format=raw")

DIALOGUES: dict[str, tuple[tuple[str, ...], tuple[str, ...], list[Command]]] = {
    "a drive": (
        NONE,
        (*DRIVE, "-drive", "if=none,id=em", "-drive", "if=none,id=off,file=other.raw,format=raw,"
         "stats-account-invalid=off,stats-account-failed=no"),
        [
            STATS,
            NODE_STATS,
            "info blockstats",
            io("aio_write 0 4k"), FLUSH, STATS,
            io("aio_write 64k 1k 2k"), FLUSH, io("aio_write -z 1m 4k"), FLUSH, STATS,
            io("aio_read 0 512"), io("aio_read 4k 512"), FLUSH, STATS,
            io("aio_read -i 0 512"), io("aio_write -i 0 512"), io("aio_read -i"), STATS,
            io("aio_read 3m 4k"), FLUSH, STATS,
            io("read 0 4k"), io("write 128k 4k"), io("discard 0 64k"), io("flush"), STATS,
            io("aio_read -i 0 512", "off"), io("aio_write 9m 512", "off"), io("aio_flush", "em"), STATS,
            io("aio_read 0 512", "em"), STATS,
            NODE_STATS,
        ],
    ),
    "options of drives": (
        NONE,
        (*DRIVE,),
        [
            *(
                f"drive_add 0 if=none,id=d{number},file=other.raw,format=raw,{options}"
                for number, options in enumerate((
                    "stats-account-invalid=maybe", "stats-intervals.0=5,stats-intervals.1=7",
                    "stats-intervals.0=0",
                    "stats-intervals.1=5", "stats-intervals.0=4294967296", "stats-intervals.0=-1",
                    "stats-intervals.x=1", "stats-intervals.0=5x", "stats-account-failed=off",
                ))
            ),
            "drive_add 0 if=none,id=e,stats-account-failed=off,stats-intervals.0=9",
            STATS,
            io("aio_read 9m 512", "d8"), io("aio_read 0 512", "d1"), io("aio_flush", "d1"), STATS,
        ],
    ),
    "a device": (
        PC,
        (*DRIVE, *DEVICE),
        [
            STATS,
            of_device("aio_write 0 4k"), of_device("aio_flush"), STATS,
            bins(id="s0", boundaries=[10, 20]),
            bins(id="s0", boundaries_write=[1, 2, 1 << 62], boundaries_flush=[1 << 62]),
            bins(id="s0", boundaries=[10, 10]),
            bins(id="s0", boundaries_read=[0, 10]),
            bins(id="s0", boundaries_write=[5, 4]),
            bins(id="s0", boundaries_flush=[5, 4]),
            bins(id="nope", boundaries=[1]),
            bins(id="dr"),
            bins(boundaries=[1]),
            bins(id="s0", boundaries=[-1]),
            bins(id="s0", boundaries=[1 << 60]),
            of_device("aio_write 0 4k"), of_device("aio_read 0 4k"), of_device("aio_read 0 4k"),
            of_device("aio_flush"),
            STATS,
            bins(id="s0"),
            of_device("aio_write 0 4k"), of_device("aio_flush"),
            STATS,
            *NODES,
            device_add("s1", "n", account_invalid="off"), device_add("s2", "m", account_failed="auto"),
            device_add("s3", "o", account_failed="maybe"), device_add("s3", "o", account_failed="off"),
            STATS,
        ],
    ),
    "nodes": (
        NONE,
        (),
        [
            ("blockdev-add", {"driver": "file", "filename": "disk.raw", "node-name": "f", **UNMAP}),
            ("blockdev-add", {"driver": "raw", "file": "f", "node-name": "r", **UNMAP}),
            ("blockdev-add", FAILING),
            ("blockdev-add", {"driver": "throttle", "file": "r", "node-name": "t", "throttle-group": "nope"}),
            NODE_STATS,
            io("write 0 4k", "r"), NODE_STATS,
            io("write -z 64k 1k", "r"), NODE_STATS,
            io("discard 512k 64k", "r"), NODE_STATS,
            io("discard 512k 64k", "f"), NODE_STATS,
            ("block-dirty-bitmap-add", {"node": "bad", "name": "b"}),
            io("write 256k 512", "bad"), NODE_STATS,
            ("query-named-block-nodes", {"flat": True}),
            ("block_resize", {"node-name": "r", "size": 2 * MIB}),
            io("write 1536k 512", "r"), NODE_STATS,
            STATS,
            "info blockstats",
        ],
    ),
    "an image": (
        NONE,
        ("-drive", "if=none,id=dr,file=disk.qcow2,format=qcow2"),
        [
            STATS,
            io("aio_write 0 64k"), FLUSH, io("flush"), STATS,
            io("aio_write 1m 4k"), FLUSH, io("flush"), STATS,
            ("blockdev-snapshot-sync", {"device": "dr", "snapshot-file": "over.qcow2", "format": "qcow2"}),
            STATS,
            io("aio_write 0 64k"), FLUSH, STATS,
        ],
    ),
}  # fmt: skip
TIMES = ("_total_time_ns", "idle_time_ns", "_latency_ns", "_queue_depth", "actual-size")


def flat(value: Any, name: str = "") -> list[str]:
    """Each member on a line of its own; of times and of names that were made up only that they are there."""
    if isinstance(value, dict):
        return [line for key, each in sorted(value.items()) for line in flat(each, f"{name}.{key}")]
    if isinstance(value, list):
        return [line for number, each in enumerate(value) for line in flat(each, f"{name}[{number}]")] or [
            name
        ]
    if name.endswith(TIMES):
        return [name]
    return [f"{name}: {re.sub('#block[0-9]+', '#block', json.dumps(value))}"]


def told(running: Running, commands: Sequence[Command]) -> list[list[str]]:
    answers = []
    for command in commands:
        reply = ask(running, command)
        if command == "info blockstats":
            reply = re.sub("(time_ns=)[0-9]+", r"\1", reply)
        answers.append(flat(reply))
    return answers


def make_qcow2(place: Path) -> None:
    command = [real("qemu-img"), "create", "-q", "-f", "qcow2", "disk.qcow2", str(4 * MIB)]
    subprocess.run(command, cwd=place, check=True, timeout=DEADLINE_S)


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_same_is_counted(name: str, tmp_path: Path) -> None:
    different = on_both(DIALOGUES[name], tmp_path, 4 * MIB, told, make_qcow2)
    assert not different, "\n".join(
        f"{command}: QEMU {sorted({*theirs} - {*ours})}, simulator {sorted({*ours} - {*theirs})}"
        for command, theirs, ours in different
    )
