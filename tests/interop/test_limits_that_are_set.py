"""Limits of drives and devices, and thresholds of nodes, on the real emulator and on the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from both_programs import NONE, PC
from dialogues import Command, on_both, tell_with_events

QUIET_S = 0.05
ACTUAL_SIZE = r'"actual-size": \d+'  # depends on the host's file system
MIB = 1 << 20
ZERO = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
BLOCK: Command = ("query-block", {})
NODES: Command = ("query-named-block-nodes", {"flat": True})


def throttle(**limits: Any) -> Command:
    return "block_set_io_throttle", {**ZERO, **limits}


def threshold(node: str, end: int) -> Command:
    return "block-set-write-threshold", {"node-name": node, "write-threshold": end}


def io(node: str, command: str) -> Command:
    return f'qemu-io {node} "{command}"'


def group(name: str) -> Command:
    return "object-add", {"qom-type": "throttle-group", "id": name}


DEVICE = ("-device", "virtio-scsi-pci,id=sc", "-device", "scsi-hd,id=s0,drive=dr")
DRIVES = ("-drive", "if=none,id=dr,file=disk.raw,format=raw", "-drive", "if=none,id=em")
ONE_MORE = ("-drive", "if=none,id=two,file=other.raw,format=raw")

DIALOGUES: dict[str, tuple[tuple[str, ...], tuple[str, ...], list[Command]]] = {
    "throttled": (
        PC,
        (*DRIVES, *ONE_MORE, *DEVICE),
        [
            throttle(), throttle(device="dr"), throttle(device="nope"), throttle(id="nope", bps=1),
            throttle(id="s0", device="dr"), throttle(id="s0", bps=MIB), BLOCK, "info block",
            throttle(id="s0", iops=10, iops_rd=4), throttle(id="s0", iops=10, iops_max=4),
            throttle(id="s0", iops=10, iops_max=40, iops_max_length=0), throttle(device="dr", bps=-5),
            throttle(device="dr", bps_max=5), throttle(device="dr", iops_size=5), BLOCK,
            throttle(id="s0", iops=10, iops_max=40, iops_max_length=3, iops_size=7, group="g"),
            BLOCK, "info block",
            throttle(device="em", iops=5), NODES,
            throttle(device="two", bps_wr=7, group="g"), BLOCK,
            "block_set_io_throttle dr 1 2 3 4 5 6", "block_set_io_throttle dr 1 0 0 0 0 6", BLOCK,
            "block_set_io_throttle nope 1 0 0 0 0 6", "block_set_io_throttle dr 1 0 0 0 0",
            "block_set_io_throttle dr x 0 0 0 0 6",
            throttle(device="dr"), BLOCK, throttle(id="s0", bps=9), BLOCK,
            group("h"), throttle(id="s0", bps=8, group="h"), BLOCK,
            ("object-del", {"id": "h"}), throttle(id="s0"), ("object-del", {"id": "h"}), group("g"),
            throttle(device="two"), group("g"), BLOCK, "info block",
            throttle(device="two", bps=1, group="i"), group("i"), "drive_del two", group("i"),
            throttle(device="dr", bps=1, group="j"), ("device_del", {"id": "s0"}), group("j"), BLOCK,
        ],
    ),
    "thresholds": (
        NONE,
        (),
        [
            ("blockdev-add", {"driver": "file", "filename": "disk.raw", "node-name": "f"}),
            ("blockdev-add", {"driver": "raw", "file": "f", "node-name": "n"}),
            threshold("n", 4096), threshold("nope", 1), NODES,
            io("n", "write 0 4k"), io("n", "write 2k 4k"), NODES, io("n", "write 2k 4k"),
            threshold("f", 100), io("n", "write -z 64k 4k"), threshold("n", 100), io("n", "discard 64k 4k"),
            threshold("n", 0), io("n", "write 2k 4k"), threshold("n", -1), NODES,
            threshold("n", 1 << 63), NODES, threshold("n", 1 << 64),
            ("block-set-write-threshold", {"node-name": "n"}),
        ],
    ),
}  # fmt: skip


def quiet_s(command: Command) -> float:
    # QEMU tells of a device that has gone when all its threads have seen that.
    return QUIET_S if "device_del" not in command else 10 * QUIET_S


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_same_replies_and_events(name: str, tmp_path: Path) -> None:
    different = on_both(DIALOGUES[name], tmp_path, MIB, tell_with_events(quiet_s, ACTUAL_SIZE))
    assert not different, "\n".join(f"{ours}\nreal: {real}" for _, real, ours in different)
