"""block-stream and the copy-on-read filter beside the real QEMU 7.2: replies, events, graph, content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chains import (
    ALL,
    CONTENT,
    STATE,
    chain,
    exported,
    faulty_chain,
    hmp,
    images,
    larger,
    opened,
    rule,
)
from qemu_pair import Step, compare
from test_exports_and_filters import GRAPH, NODES
from test_job_traces import (
    BLOCK_JOBS,
    JOBS,
    KIB64,
    backup,
    bitmap,
    block_job,
    digest,
    holds,
    job,
    named,
    null,
    qcow2,
)


def stream(device: str = "top", **arguments: Any) -> Step:
    return "block-stream", {"job-id": "j", "device": device, **named(arguments)}


RANGES: dict[str, dict[str, Any]] = {
    "all": {},
    "to a base": {"base_node": "base"},
    "to a bottom": {"bottom": "mid", "filter_node_name": "f"},
    "with a name for the header": {"base_node": "base", "backing_file": "hello"},
    "within the chain": {"device": "mid"},
}


@pytest.mark.parametrize("name", RANGES)
def test_what_is_streamed(name: str, tmp_path: Path) -> None:
    compare([*chain(tmp_path), stream(**RANGES[name]), *ALL, *CONTENT], tmp_path)


def test_the_base_is_named_by_its_file(tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    compare([*chain(tmp_path), stream(base=base), *ALL, stream(base="base"), stream(base="nope")], tmp_path)


def test_by_hand(tmp_path: Path) -> None:
    """Not the nodes between the end and the dismissal: the filter has nothing below it then, and 7.2 crashes
    when it is asked about it."""
    manual = stream(auto_finalize=False, auto_dismiss=False)
    steps = [manual, *ALL, job("complete"), job("finalize"), *STATE, job("dismiss"), *ALL, *CONTENT]
    compare([*chain(tmp_path), *steps], tmp_path)


def test_who_is_kept_off_a_crawling_stream(tmp_path: Path) -> None:
    steps = [
        stream(speed=1, filter_node_name="f"), NODES, GRAPH, job("pause"), BLOCK_JOBS, stream(job_id="k"),
        backup(device="mid", target="base"), backup(device="top", target="base"),
        ("block-commit", {"device": "top", "job-id": "c"}), ("blockdev-del", {"node-name": "mid"}),
        ("blockdev-del", {"node-name": "top"}), job("resume"), job("complete"),
        block_job("set-speed", speed=0), *ALL, *CONTENT,
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)


@pytest.mark.parametrize("cancel", [block_job("cancel"), job("cancel")], ids=["cancel", "force"])
def test_cancelled(cancel: Step, tmp_path: Path) -> None:
    compare([*chain(tmp_path), stream(speed=1), cancel, *ALL, *CONTENT], tmp_path)


REFUSED: list[dict[str, Any]] = [
    {"base": "x", "base_node": "y"}, {"base": "x", "bottom": "y"}, {"base_node": "x", "bottom": "y"},
    {"base_node": "nope"}, {"bottom": "nope"}, {"base_node": "top"}, {"bottom": "top-file"},
    {"base_node": "base-file"}, {"backing_file": "x"}, {"device": "nope"}, {"speed": -1}, {"job_id": "*"},
    {"filter_node_name": "mid"}, {"filter_node_name": "*"}, {"job_id": ""},
]  # fmt: skip


def test_refusals(tmp_path: Path) -> None:
    tries = [stream(**arguments) for arguments in REFUSED]
    compare([*chain(tmp_path), *tries, ("block-stream", {"device": "top"}), *ALL], tmp_path)


@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
@pytest.mark.parametrize("whole", [False, True], ids=["part", "whole"])
def test_a_chain_opened_by_its_headers(read_only: bool, whole: bool, tmp_path: Path) -> None:
    top = opened("top", tmp_path, **({"read_only": True} if read_only else {}))
    part = {} if whole else {"base": str(tmp_path / "base")}
    compare([*images(tmp_path), top, NODES, stream(**part), *ALL, *CONTENT], tmp_path)


@pytest.mark.parametrize("option", ["read-only", "auto-read-only"])
def test_a_read_only_file_below(option: str, tmp_path: Path) -> None:
    file = {"driver": "file", "node-name": "tf", "filename": str(tmp_path / "top"), option: True}
    top = {"driver": "qcow2", "node-name": "top", "file": "tf", "read-only": True}
    added: list[Step] = [("blockdev-add", file), ("blockdev-add", top)]
    compare([*images(tmp_path), *added, stream(speed=1), *ALL, job("cancel"), NODES, *CONTENT], tmp_path)


def test_a_base_that_is_shorter(tmp_path: Path) -> None:
    compare([*chain(tmp_path), *larger(tmp_path), stream("big"), *ALL, holds("big", 0, KIB64, 7)], tmp_path)


def test_filters_in_the_chain(tmp_path: Path) -> None:
    limits: list[Step] = [
        ("object-add", {"qom-type": "throttle-group", "id": "g"}),
        ("blockdev-add", {"driver": "throttle", "node-name": "thr", "throttle-group": "g", "file": "base"}),
        ("blockdev-add", {"driver": "copy-on-read", "node-name": "c", "file": "thr"}),
    ]
    top = {"driver": "qcow2", "node-name": "top", "file": "top-file", "backing": "c"}
    steps = [
        *qcow2("base", tmp_path), *limits, *qcow2("top", tmp_path)[:-1], ("blockdev-add", top),
        stream(base_node="thr"), *ALL, stream("c"), GRAPH,
    ]  # fmt: skip
    compare(steps, tmp_path)
    above = {"driver": "copy-on-read", "node-name": "cor", "file": "top"}
    compare([*chain(tmp_path), ("blockdev-add", above), stream("cor"), *ALL, *CONTENT], tmp_path)


@pytest.mark.parametrize("writable", [False, True], ids=["read", "written"])
def test_a_layer_that_is_exported(writable: bool, tmp_path: Path) -> None:
    """The refused one leaves QEMU's own backend on the node."""
    steps = [*exported("mid", tmp_path, writable), stream(filter_node_name="f"), *ALL]
    compare([*chain(tmp_path), *steps, ("blockdev-del", {"node-name": "top"})], tmp_path)


def test_a_copy_on_read_filter(tmp_path: Path) -> None:
    filtered = {"driver": "copy-on-read", "node-name": "c", "file": "top"}
    reads = [holds("c", 0, KIB64, 7), holds("c", 5, 100, 7), GRAPH, NODES, holds("c", 2, 2 * KIB64, 5)]
    steps = [("blockdev-add", filtered), *reads, holds("c", 60, 4 * KIB64, 0), NODES]
    compare([*chain(tmp_path), *steps], tmp_path)


def test_a_copy_on_read_filter_with_a_bottom(tmp_path: Path) -> None:
    def add(name: str, **options: Any) -> Step:
        return "blockdev-add", {"driver": "copy-on-read", "node-name": name, **options}

    again = {"driver": "copy-on-read", "node-name": "c", "file": "top"}
    steps = [
        add("c", file="top", bottom="mid"), holds("c", 0, KIB64, 7), holds("c", 2, KIB64, 5),
        stream(base_node="base"), stream(), ("blockdev-del", {"node-name": "mid"}),
        add("e", file="c", bottom="c"), add("e", file="top", bottom="base"), add("e", file="top", bottom="x"),
        GRAPH, ("blockdev-reopen", {"options": [again]}), ("blockdev-del", {"node-name": "c"}), NODES,
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)


def test_a_fleece_beside_it(tmp_path: Path) -> None:
    fleece = backup(device="top", sync="none", job_id="b", filter_node_name="cbw")
    first = [null("t"), fleece, stream(), stream("cbw"), stream("mid"), *STATE]
    compare([*chain(tmp_path), *first], tmp_path)
    others = [backup(device=name, sync="none", job_id=f"b{name}") for name in ("top", "mid", "base")]
    compare([*chain(tmp_path), null("t"), stream(speed=1), *others, *STATE], tmp_path)


def test_what_is_copied_up_is_dirty_nowhere(tmp_path: Path) -> None:
    compare([*chain(tmp_path), bitmap("add", "b", node="top"), stream(), NODES, digest("b", "top")], tmp_path)


@pytest.mark.parametrize("on_error", ["report", "ignore", "stop", "enospc"])
def test_reading_fails(on_error: str, tmp_path: Path) -> None:
    started = stream(on_error=on_error, auto_dismiss=False)
    ending = [*STATE, job("resume"), BLOCK_JOBS, job("cancel"), job("dismiss"), GRAPH, JOBS]
    failing = faulty_chain(tmp_path, "base", rule("read_aio", sector=5 * 128))
    compare([*failing, started, *ending], tmp_path)


def test_writing_fails(tmp_path: Path) -> None:
    """The image itself, or at the end its header."""
    started = stream(auto_dismiss=False, base_node="base")
    for failing in (rule("write_aio"), {"event": "none", "errno": 5, "iotype": "write", "sector": 0}):
        steps = faulty_chain(tmp_path, "top", failing)
        compare([*steps, started, *STATE, job("dismiss"), *STATE], tmp_path)


def test_the_human_monitor(tmp_path: Path) -> None:
    steps = [
        hmp("block_stream top"), *STATE, hmp("block_stream top 1k"), hmp("block_stream nope"),
        hmp("block_stream"),
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)
    line = f"block_stream top 1k {tmp_path / 'base'}"
    compare(
        [*chain(tmp_path), hmp(line), hmp("info block-jobs"), hmp("block_job_cancel top"), *STATE], tmp_path
    )
