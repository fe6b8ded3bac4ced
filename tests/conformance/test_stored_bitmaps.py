"""Persistent bitmaps of nodes that become read-only and writable again, beside the real QEMU 7.2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qemu_pair import Step, compare
from test_exports_and_filters import MIB, add, create, delete, file_of, reopen
from test_job_traces import action, bitmap, digest, transaction
from test_node_options import qemu_io


def described(image: Path) -> list[Step]:
    """What the image itself holds now: another node reads it while it is in use."""
    peek = add("qcow2", "peek", file=file_of(image), read_only=True, force_share=True)
    names = [digest(name, "peek") for name in ("p", "off", "nope")]
    return [peek, *names, bitmap("clear", "p", node="peek"), delete("peek")]


def begin(image: Path, overlay: Path) -> list[Step]:
    return [
        *create(image, MIB, format="qcow2"),
        *create(overlay, MIB, format="qcow2"),
        add("qcow2", "s", file=file_of(image, node_name="f")),
        bitmap("add", "p", persistent=True),
        bitmap("add", "off", persistent=True, disabled=True),
        qemu_io("s", "write 0 64k"),
        *described(image),
    ]


def set_read_only(read_only: bool) -> Step:
    return reopen({"driver": "qcow2", "node-name": "s", "file": "f", "read-only": read_only})


def refused() -> list[Step]:
    clear, remove = (action(f"block-dirty-bitmap-{verb}", node="s", name="p") for verb in ("clear", "remove"))
    return [
        bitmap("remove", "p"), bitmap("clear", "p"), transaction(remove), transaction(clear),
        bitmap("disable", "p"), bitmap("enable", "p"), bitmap("add", "more", persistent=True),
    ]  # fmt: skip


def merge(target: str, source: str) -> Step:
    return "block-dirty-bitmap-merge", {"node": "s", "target": target, "bitmaps": [source]}


def test_reopened_read_only_and_back(tmp_path: Path) -> None:
    image = tmp_path / "s"
    compare(
        [
            *begin(image, tmp_path / "overlay"),
            set_read_only(True),
            *described(image),
            *refused(),
            bitmap("add", "v"),
            merge("p", "v"),
            merge("v", "p"),
            digest("v"),
            set_read_only(False),
            *described(image),
            qemu_io("s", "write 128k 64k"),
            bitmap("remove", "off"),
            delete("s"),
            *described(image),
        ],
        tmp_path,
    )


@pytest.mark.parametrize("again", [False, True], ids=["own file", "named file"])
def test_below_an_overlay(tmp_path: Path, again: bool) -> None:
    image, overlay = tmp_path / "s", tmp_path / "overlay"
    below: dict[str, Any] = {"node": "s", "name": "p"}
    reopened = [delete("s"), add("file", "f", filename=str(image)), add("qcow2", "s", file="f")]
    compare(
        [
            *begin(image, overlay),
            *(reopened if again else []),
            add("qcow2", "o", file=file_of(overlay)),
            ("blockdev-snapshot", {"node": "s", "overlay": "o"}),
            *described(image),
            *refused(),
            bitmap("add", "p", node="o", persistent=True),
            ("block-dirty-bitmap-merge", {"node": "o", "target": "p", "bitmaps": [below]}),
            digest("p", "o"),
            delete("o"),
            delete("s"),
            *described(image),
        ],
        tmp_path,
    )


def test_sizes_that_no_image_has(tmp_path: Path) -> None:
    image = tmp_path / "s"

    def made(driver: str, size: int, **options: Any) -> list[Step]:
        new = {"driver": driver, "size": size, **options}
        return [("blockdev-create", {"job-id": "j", "options": new}), ("query-jobs", {}),
                ("job-dismiss", {"id": "j"})]  # fmt: skip

    compare(
        [
            *begin(image, tmp_path / "overlay"),
            *made("file", -1, filename=str(tmp_path / "x")),
            *made("file", -1, filename=str(tmp_path / "x"), preallocation="full"),
            ("blockdev-add", file_of(tmp_path / "overlay", node_name="x")),
            *made("qcow2", -512, file="x"),
            ("block_resize", {"node-name": "x", "size": (1 << 63) - 1}),
        ],
        tmp_path,
    )
