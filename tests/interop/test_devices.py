"""Devices that come and go while a machine runs, on the real emulator and on the simulator: the same replies
and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from both_programs import NONE, PC
from dialogues import Command, on_both, tell_with_events

# How long a machine must be silent to be taken to have nothing more to say.
QUIET_S = 0.2
SCSI = ("-device", "virtio-scsi-pci,id=sc")


def add(driver: str, **options: Any) -> Command:
    return "device_add", {
        "driver": driver,
        **{name.replace("_", "-"): each for name, each in options.items()},
    }


def remove(name: str) -> Command:
    return "device_del", {"id": name}


def drop(node_name: str) -> Command:
    return "blockdev-del", {"node-name": node_name}


def node(name: str, file: str) -> Command:
    return "blockdev-add", {"driver": "file", "filename": file, "node-name": name}


NODES = [node("n", "disk.raw"), node("m", "other.raw")]
BLOCK: Command = ("query-block", {})
RESET: Command = ("system_reset", {})
JOBS: Command = ("query-jobs", {})

DIALOGUES: dict[str, tuple[tuple[str, ...], tuple[str, ...], list[Command]]] = {
    "no board": (
        NONE,
        (),
        [
            *NODES,
            add("virtio-blk-pci", drive="n", id="d0"),
            add("scsi-hd", drive="n", id="d0"),
            add("virtio-scsi-pci", id="d0"),
            add("ide-hd", drive="n"),
            remove("x"),
        ],
    ),
    "wrong options": (
        PC,
        SCSI,
        [
            *NODES,
            add("virtio-blk-pci", id="d1"),
            add("virtio-blk-pci", drive="nope", id="d1"),
            add("virtio-blk-pci", drive=5, id="d1"),
            add("nope", id="x"),
            add("nope", id="a b"),
            ("device_add", {"id": "x"}),
            ("device_add", {"driver": 5}),
            add("virtio-blk-pci", drive="m", zork=1),
            add("virtio-blk-pci", drive="m", id="7"),
            add("virtio-blk-pci", drive="m", id="d2", bus="nobus"),
            add("virtio-blk-pci", drive="m", id="d2", addr="0x99"),
            add("virtio-blk-pci", drive="m", id="d2", addr="7.9"),
            add("virtio-blk-pci", drive="m", id="d2", share_rw="maybe"),
            add("scsi-hd", drive="n", id="s1", bus="pci.0"),
            add("ide-hd", drive="n", id="i0"),
            "device_add nope",
            "device_add virtio-blk-pci,drive=nope",
            "device_add scsi-hd,drive=m,id=s3,zork=on",
            "device_del nope",
            remove("/machine"),
            remove(""),
            BLOCK,
        ],
    ),
    "virtio": (
        PC,
        (),
        [
            *NODES,
            add("virtio-blk-pci", drive="n", id="d0", bus="pci.0", addr="0x7"),
            add("virtio-blk-pci", drive="m", id="d0"),
            add("virtio-blk-pci", drive="m", id="d1", bus="pci.0", addr="07.0"),
            add("virtio-blk-pci", drive="n", id="d1"),
            add("virtio-blk", drive="m"),
            BLOCK,
            ("qom-get", {"path": "/machine/peripheral/d0", "property": "drive"}),
            remove("d0"),
            remove("d0"),
            drop("n"),
            remove("/machine/peripheral-anon/device[0]"),
            remove("device[0]"),
            RESET,
            remove("d0"),
            drop("n"),
            drop("m"),
            RESET,
        ],
    ),
    "scsi": (
        PC,
        (),
        [
            *NODES,
            add("scsi-hd", drive="n", id="s0"),
            add("virtio-scsi-pci", id="sc"),
            add("virtio-scsi-pci", id="sc"),
            add("scsi-hd", drive="n", id="s0", bus="sc.0"),
            add("scsi-hd", drive="m", id="s1", share_rw=True),
            add("scsi-hd", drive="m", id="s2", share_rw="on"),
            BLOCK,
            remove("s0"),
            remove("s0"),
            drop("n"),
            "device_del s2",
            drop("m"),
            remove("sc"),
            remove("sc"),
            RESET,
            drop("m"),
            BLOCK,
        ],
    ),
    "drives": (
        PC,
        (*SCSI, "-drive", "if=none,id=dr,file=disk.raw,format=raw"),
        [
            add("scsi-hd", drive="dr", id="s0"),
            add("scsi-hd", drive="dr", id="s1"),
            BLOCK,
            remove("s0"),
            BLOCK,
            add("scsi-hd", drive="dr", id="s0"),
            "drive_add 0 if=none,id=e,file=other.raw,format=raw",
            "device_add virtio-blk-pci,drive=e,id=v",
            "drive_del e",
            BLOCK,
            remove("v"),
            "system_reset",
            BLOCK,
            "info block",
            add("scsi-hd", drive="e", id="x"),
            "drive_add 0 if=none,id=e,file=other.raw,format=raw",
        ],
    ),
    "under a job": (
        PC,
        SCSI,
        [
            *NODES,
            add("scsi-hd", drive="n", id="s0"),
            ("blockdev-backup", {"job-id": "j", "device": "n", "target": "m", "sync": "none"}),
            remove("s0"),
            BLOCK,
            JOBS,
            drop("n"),
            ("block-job-cancel", {"device": "j"}),
            drop("n"),
        ],
    ),
    "trays": (
        PC,
        (
            *SCSI,
            *("-drive", "if=none,id=dr,media=cdrom,file=disk.raw,format=raw"),
            *("-drive", "if=none,id=em", "-drive", "if=none,id=hd,file=other.raw,format=raw"),
            *("-device", "scsi-cd,id=cd0", "-device", "ide-cd,id=cd1,drive=dr"),
            *("-device", "scsi-cd,id=cd2,drive=em", "-device", "scsi-hd,id=h,drive=hd"),
        ),
        [
            BLOCK,
            "info block",
            ("eject", {"device": "dr"}),
            ("eject", {"id": "cd1"}),
            BLOCK,
            "info block",
            *(
                (f"blockdev-{verb}", {"id": "h", **more})
                for verb, more in (
                    ("open-tray", {}),
                    ("close-tray", {}),
                    ("remove-medium", {}),
                    ("insert-medium", {"node-name": "x"}),
                    ("change-medium", {"filename": "disk.raw", "format": "raw"}),
                )
            ),
            ("eject", {"device": "hd"}),
            ("blockdev-open-tray", {}),
            ("blockdev-open-tray", {"id": "h", "device": "hd"}),
            ("blockdev-open-tray", {"device": "nope"}),
            ("blockdev-close-tray", {"id": "nope"}),
            ("blockdev-change-medium", {"device": "em", "filename": "disk.raw"}),
            BLOCK,
            "eject em",
            "change em other.raw raw",
            "change em disk.raw raw read-only",
            "change em disk.raw raw zork",
            "change em nope.raw",
            "change nope x",
            "eject -f em",
            "eject nope",
            ("blockdev-change-medium", {"id": "cd0", "filename": "disk.raw", "format": "qcow2"}),
            (
                "blockdev-change-medium",
                {"id": "cd0", "filename": "disk.raw", "format": "raw", "read-only-mode": "read-write"},
            ),
            BLOCK,
            ("blockdev-add", {"driver": "null-co", "node-name": "z", "size": 1 << 20}),
            ("blockdev-insert-medium", {"id": "cd0", "node-name": "z"}),
            ("blockdev-open-tray", {"id": "cd0"}),
            ("blockdev-open-tray", {"id": "cd0"}),
            ("blockdev-insert-medium", {"id": "cd0", "node-name": "z"}),
            ("blockdev-remove-medium", {"id": "cd0"}),
            ("blockdev-remove-medium", {"id": "cd0"}),
            ("blockdev-insert-medium", {"id": "cd0", "node-name": "z"}),
            ("blockdev-insert-medium", {"id": "cd2", "node-name": "z"}),
            drop("z"),
            ("blockdev-remove-medium", {"id": "cd0"}),
            drop("z"),
            ("blockdev-close-tray", {"id": "cd0"}),
            ("blockdev-change-medium", {"id": "cd0", "filename": "disk.raw", "format": "raw"}),
            BLOCK,
            remove("cd0"),
            remove("cd2"),
            remove("cd1"),
            BLOCK,
        ],
    ),
    "q35": (
        ("-M", "q35", *PC[2:]),
        ("-device", "pcie-root-port,id=rp,chassis=1", *SCSI),
        [
            *NODES,
            add("virtio-blk-pci", drive="n", id="d0"),
            add("virtio-blk-pci", drive="n", id="d0", bus="pcie.0"),
            add("virtio-blk-pci", drive="n", id="d0", bus="pci.0"),
            add("virtio-blk-pci", drive="n", id="d0", bus="rp"),
            add("scsi-hd", drive="m", id="s0", bus="sc.0"),
            remove("s0"),
            remove("d0"),
        ],
    ),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_same_replies_and_events(name: str, tmp_path: Path) -> None:
    tell = tell_with_events(lambda command: QUIET_S)
    different = on_both(DIALOGUES[name], tmp_path, 1 << 20, tell)
    assert not different, "\n".join(f"{ours}\nreal: {real}" for _, real, ours in different)
