"""Options of nodes that QEMU 7.2 refuses, and windows of one file side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qemu_pair import Step, compare
from test_exports_and_filters import GRAPH, MIB, NODES, add, create, file_of, null


def qemu_io(node: str, command: str) -> Step:
    return "human-monitor-command", {"command-line": f'qemu-io {node} "{command}"'}


def test_options_that_are_refused(tmp_path: Path) -> None:
    raw, image = tmp_path / "a.raw", tmp_path / "a.qcow2"
    raw_options: list[dict[str, Any]] = [
        {"size": -512}, {"offset": -512}, {"offset": (1 << 63) - 1}, {"size": 1000}, {"offset": 7},
        {"size": 2 * MIB}, {"offset": MIB, "size": 512}, {"force_share": True},
    ]  # fmt: skip
    file_options: list[dict[str, Any]] = [
        {"filename": ""}, {"filename": f"file:{raw}"}, {"pr_manager": "x"}, {"force_share": True},
        {"aio": "native"}, {"aio": "native", "filename": "nope"}, {"detect_zeroes": "unmap"},
    ]  # fmt: skip
    qcow2_options: list[dict[str, Any]] = [
        *({f"{name}_size": -1} for name in ("cache", "l2_cache", "l2_cache_entry", "refcount_cache")),
        {"cache_size": MIB, "l2_cache_size": MIB, "refcount_cache_size": MIB},
        {"cache_size": MIB, "l2_cache_size": MIB + 1},
        {"cache_size": MIB, "refcount_cache_size": MIB + 1},
        {"cache_size": MIB, "l2_cache_size": MIB},
        {"l2_cache_entry_size": 256}, {"l2_cache_entry_size": 1000}, {"l2_cache_entry_size": 131072},
        {"refcount_cache_size": 1 << 62}, {"cache_clean_interval": -1}, {"cache_clean_interval": 1 << 32},
        {"encrypt": {"format": "luks"}}, {"backing": "nope"},
    ]  # fmt: skip
    compare(
        [
            *create(raw, MIB),
            *create(image, MIB, format="qcow2"),
            *(add("raw", f"r{number}", file=file_of(raw), **each) for number, each in enumerate(raw_options)),
            *(
                add("file", f"f{number}", **{"filename": str(raw), **each})
                for number, each in enumerate(file_options)
            ),
            *(
                add("qcow2", f"q{number}", file=file_of(image), read_only=True, **each)
                for number, each in enumerate(qcow2_options)
            ),
            add("null-co", "n", size=(1 << 63) - 1),
            NODES,
        ],
        tmp_path,
    )


def test_windows_of_one_file(tmp_path: Path) -> None:
    """Only who resizes needs the file's size to be its own."""
    raw = tmp_path / "a.raw"
    window = {"file": file_of(raw), "size": 1024}
    compare(
        [
            *create(raw, MIB),
            null("n"),
            *(add("raw", f"r{number}", offset=number * 1024, **window) for number in range(3)),
            *(qemu_io(f"r{number}", f"write -P {number + 1} 0 1k") for number in range(3)),
            *(qemu_io(f"r{number}", f"read -P {number + 1} 0 1k") for number in range(3)),
            qemu_io("r0", "write 512 1k"),
            ("blockdev-backup", {"device": "n", "target": "r1", "sync": "none", "job-id": "j"}),
            GRAPH,
            add("raw", "whole", file=file_of(raw)),
            qemu_io("whole", "write 4k 4k"),
        ],
        tmp_path,
    )


def test_sizes_of_drives(tmp_path: Path) -> None:
    """In a drive's options sizes have suffixes, and names of files their protocol."""
    raw, image = tmp_path / "a.raw", tmp_path / "a.qcow2"
    drives = [
        f"driver=raw,file={raw},offset=64k,size=1k,id=d0",
        f"driver=raw,file={raw},offset=x,id=d1",
        f"driver=raw,file={raw},size=-1,id=d2",
        f"driver=raw,file={raw},size=99999999999999999999,id=d3",
        f"driver=qcow2,file={image},cache-size=k,id=d5",
        f"driver=qcow2,file={image},l2-cache-size=1.5M,id=d4",
        f"format=raw,file=file:{tmp_path}/nope,id=d6",
        "format=raw,file=zork:nope,id=d7",
        "format=raw,file=./a:b,id=d8",
    ]
    compare(
        [
            *create(raw, MIB),
            *create(image, MIB, format="qcow2"),
            *(
                ("human-monitor-command", {"command-line": f"drive_add 0 if=none,{drive}"})
                for drive in drives
            ),
        ],
        tmp_path,
    )


def backup(device: str, target: str) -> Step:
    return "blockdev-backup", {"device": device, "target": target, "sync": "none", "job-id": "j"}


def test_a_job_pauses_while_its_node_becomes_a_file(tmp_path: Path) -> None:
    """Twice, whether the new node comes to be or not."""
    compare(
        [
            null("n"),
            null("t"),
            backup("n", "t"),
            add("raw", "r", file="n"),
            add("raw", "r", file="n"),
            add("raw", "bad", file="n", size=7),
            add("raw", "bad", file="n", offset=-1),
            add("raw", "bad", file="n", detect_zeroes="unmap"),
            add("qcow2", "bad", file="n"),
            add("snapshot-access", "sa", file="n"),
            add("raw", "two", file={"driver": "raw", "file": "n"}),
            add("raw", "above", file="r"),
            add("raw", "other", file="t"),
            ("block_resize", {"device": "t", "size": MIB}),
            ("block_resize", {"node-name": "t", "size": MIB}),
            GRAPH,
        ],
        tmp_path,
    )


def test_an_edge_that_moves_is_the_newest(tmp_path: Path) -> None:
    compare(
        [
            null("n"),
            null("t"),
            null("u"),
            add("copy-before-write", "c", file="n", target="t"),
            GRAPH,
            backup("n", "u"),
            GRAPH,
            ("job-cancel", {"id": "j"}),
            GRAPH,
        ],
        tmp_path,
    )


def test_options_of_the_command_line_by_name(tmp_path: Path) -> None:
    asked = ("drive", "device", "blockdev", "zork", "")
    compare([("query-command-line-options", {"option": name}) for name in asked], tmp_path)
