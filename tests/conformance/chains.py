"""Chains of images, and steps on them, for the tests of jobs that stream, commit and mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qemu_pair import Step
from test_exports_and_filters import GRAPH, NODES
from test_job_traces import BLOCK_JOBS, JOBS, KIB64, create, holds, named, qcow2, write

STATE: list[Step] = [GRAPH, JOBS, BLOCK_JOBS]
ALL: list[Step] = [NODES, *STATE]
DISMISS: Step = ("job-dismiss", {"id": "c"})

# What "top" shows of the chain below.
CONTENT: list[Step] = [
    holds("top", 0, KIB64, 7), holds("top", 2, KIB64, 5), holds("top", 3, KIB64, 6), holds("top", 40, 100, 9),
    holds("top", 20, KIB64, 0),
]  # fmt: skip


def chain(directory: Path) -> list[Step]:
    """Nodes top -> mid -> base, each with something of its own."""
    return [
        *qcow2("base", directory), write("base", 0, 8 * KIB64, 7),
        *qcow2("mid", directory, backing="base"), write("mid", 2, KIB64, 5), write("mid", 40, 100, 9),
        *qcow2("top", directory, backing="mid"), write("top", 3, KIB64, 6),
    ]  # fmt: skip


def chain_of_four(directory: Path) -> list[Step]:
    return [*chain(directory), *qcow2("act", directory, backing="top"), write("act", 9, KIB64, 4)]


def images(directory: Path) -> list[Step]:
    """The images of `chain`, and no nodes."""
    names = ("top", "mid", "base")
    gone = [*names, *(f"{name}-file" for name in names)]
    return [*chain(directory), *(("blockdev-del", {"node-name": name}) for name in gone)]


def opened(name: str, directory: Path, **options: Any) -> Step:
    """An image opened by its file alone: what is below it is what its header names."""
    file = {"driver": "file", "filename": str(directory / name)}
    return "blockdev-add", {"driver": "qcow2", "node-name": name, "file": file, **named(options)}


def rule(event: str, **options: Any) -> dict[str, Any]:
    return {"event": event, "errno": 5, "once": False, **named(options)}


def faulty_chain(directory: Path, where: str, *rules: dict[str, Any]) -> list[Step]:
    """`chain` with blkdebug below one of its images."""
    steps = images(directory)
    for name, backing in (("base", None), ("mid", "base"), ("top", "mid")):
        file = f"{name}-file"
        path = str(directory / name)
        steps.append(("blockdev-add", {"driver": "file", "node-name": file, "filename": path}))
        if name == where:
            debug = {"driver": "blkdebug", "node-name": "dbg", "image": file, "inject-error": list(rules)}
            steps.append(("blockdev-add", debug))
            file = "dbg"
        steps.append(
            ("blockdev-add", {"driver": "qcow2", "node-name": name, "file": file, "backing": backing})
        )
    return steps


def larger(directory: Path) -> list[Step]:
    """An image of twice the size above "base"."""
    path = str(directory / "big")
    header = {"backing_file": str(directory / "base"), "backing_fmt": "qcow2"}
    return [
        create("file", filename=path, size=0), DISMISS,
        ("blockdev-add", {"driver": "file", "node-name": "big-file", "filename": path}),
        create("qcow2", file="big-file", size=8 << 20, **header), DISMISS,
        ("blockdev-add", {"driver": "qcow2", "node-name": "big", "file": "big-file", "backing": "base"}),
    ]  # fmt: skip


def exported(node: str, directory: Path, writable: bool) -> list[Step]:
    address = {"type": "unix", "data": {"path": str(directory / "nbd.sock")}}
    export = {"type": "nbd", "id": "e", "node-name": node, "writable": writable}
    return [("nbd-server-start", {"addr": address}), ("block-export-add", export)]


def hmp(line: str) -> Step:
    return "human-monitor-command", {"command-line": line}
