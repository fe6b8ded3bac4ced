"""block-commit below the top and change-backing-file, beside the real QEMU 7.2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chains import (
    ALL,
    CONTENT,
    STATE,
    chain,
    chain_of_four,
    exported,
    faulty_chain,
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
    MIB,
    backup,
    bitmap,
    block_job,
    digest,
    holds,
    job,
    named,
    null,
    qcow2,
    write,
)


def commit(**arguments: Any) -> Step:
    return "block-commit", {"job-id": "j", "device": "top", "top-node": "mid", **named(arguments)}


def bare(device: str, **arguments: Any) -> Step:
    return "block-commit", {"job-id": "j", "device": device, **named(arguments)}


OF_FOUR = [
    holds("act", 0, KIB64, 7), holds("act", 2, KIB64, 5), holds("act", 3, KIB64, 6), holds("act", 40, 100, 9),
    holds("act", 9, KIB64, 4), holds("base", 2, KIB64, 5), holds("base", 40, 100, 9),
]  # fmt: skip


@pytest.mark.parametrize("named_filter", [False, True], ids=["unnamed", "named"])
def test_a_layer_goes_into_its_base(named_filter: bool, tmp_path: Path) -> None:
    started = commit(filter_node_name="f") if named_filter else commit()
    compare([*chain(tmp_path), started, *ALL, *CONTENT, holds("base", 2, KIB64, 5)], tmp_path)


def test_layers_are_named_by_their_files(tmp_path: Path) -> None:
    mid, top = str(tmp_path / "mid"), str(tmp_path / "top")
    compare([*chain(tmp_path), bare("top", top=mid), *ALL, *CONTENT], tmp_path)
    compare([*chain_of_four(tmp_path), bare("act", top=top, base=mid), *ALL, *OF_FOUR], tmp_path)


@pytest.mark.parametrize(
    "range_", [{"base_node": "base"}, {"base_node": "mid", "backing_file": "hello"}], ids=["two", "renamed"]
)
def test_several_layers(range_: dict[str, Any], tmp_path: Path) -> None:
    compare([*chain_of_four(tmp_path), bare("act", top_node="top", **range_), *ALL, *OF_FOUR], tmp_path)


def test_by_hand(tmp_path: Path) -> None:
    manual = commit(auto_finalize=False, auto_dismiss=False)
    steps = [manual, *ALL, job("complete"), job("finalize"), *STATE, job("dismiss"), *ALL, *CONTENT]
    compare([*chain(tmp_path), *steps], tmp_path)


def test_who_is_kept_off_a_crawling_commit(tmp_path: Path) -> None:
    steps = [
        commit(speed=1, filter_node_name="f"), *ALL, job("pause"), BLOCK_JOBS,
        ("block-stream", {"device": "top", "job-id": "k"}), backup(device="top", target="base"),
        backup(device="mid", target="base"), commit(job_id="k"), backup(device="base", target="top"),
        *(("blockdev-del", {"node-name": name}) for name in ("mid", "f", "base")),
        write("mid", 0, 512, 1), write("top", 0, 512, 1), bare("f"), job("complete"), block_job("complete"),
        job("resume"), block_job("set-speed", speed=0), *ALL, *CONTENT,
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)


@pytest.mark.parametrize("by_header", [False, True], ids=["nodes", "headers"])
def test_cancelled(by_header: bool, tmp_path: Path) -> None:
    made = [*images(tmp_path), opened("top", tmp_path)] if by_header else chain(tmp_path)
    started = bare("top", top=str(tmp_path / "mid"), speed=1)
    compare([*made, started, *ALL, block_job("cancel"), *ALL, *CONTENT], tmp_path)


@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
def test_a_chain_opened_by_its_headers(read_only: bool, tmp_path: Path) -> None:
    top = opened("top", tmp_path, **({"read_only": True} if read_only else {}))
    compare([*images(tmp_path), top, bare("top", top=str(tmp_path / "mid")), *ALL, *CONTENT], tmp_path)


def test_a_base_that_cannot_be_written(tmp_path: Path) -> None:
    file = {"driver": "file", "node-name": "bf", "filename": str(tmp_path / "base"), "read-only": True}
    base = {"driver": "qcow2", "node-name": "base", "file": "bf", "read-only": True}
    nodes: list[Step] = [
        ("blockdev-add", file), ("blockdev-add", base), opened("mid", tmp_path, backing="base"),
        opened("top", tmp_path, backing="mid"),
    ]  # fmt: skip
    compare([*images(tmp_path), *nodes, commit(), *ALL], tmp_path)


def test_refusals(tmp_path: Path) -> None:
    top, mid = str(tmp_path / "top"), str(tmp_path / "mid")
    refused: list[dict[str, Any]] = [
        {"device": "nope"}, {"device": "mid"}, {"device": "base-file"}, {"top": "x"}, {"top_node": "nope"},
        {"top_node": "base-file"}, {"base": "x", "base_node": "y"}, {"base_node": "nope"},
        {"base_node": "top"}, {"base": "nope"}, {"base_node": "mid"}, {"base": mid}, {"speed": -1},
        {"job_id": "*"}, {"filter_node_name": "top"}, {"filter_node_name": "*"}, {"top_node": "base"},
    ]  # fmt: skip
    tries = [
        *(commit(**arguments) for arguments in refused), bare("top", top="nope"),
        bare("top", top=top, base_node="top"), bare("top", backing_file="x"),
        ("block-commit", {"device": "top", "top-node": "mid"}),
    ]  # fmt: skip
    compare([*chain(tmp_path), *tries, *ALL], tmp_path)


def on_top_of(name: str, directory: Path, backing: str) -> list[Step]:
    above = {"driver": "qcow2", "node-name": name, "file": f"{name}-file", "backing": backing}
    return [*qcow2(name, directory)[:-1], ("blockdev-add", above)]


def test_a_base_that_is_shorter_grows(tmp_path: Path) -> None:
    layers = [*larger(tmp_path), *on_top_of("act", tmp_path, "big"), write("big", 100, KIB64, 3)]
    started = bare("act", top_node="big")
    compare([*chain(tmp_path), *layers, started, *ALL, holds("act", 0, KIB64, 7)], tmp_path)
    small = [null("base", size=MIB), *on_top_of("big", tmp_path, "base"), *on_top_of("act", tmp_path, "big")]
    compare([*small, started, *ALL], tmp_path)


def test_filters_in_the_chain(tmp_path: Path) -> None:
    limits: list[Step] = [
        ("object-add", {"qom-type": "throttle-group", "id": "g"}),
        ("blockdev-add", {"driver": "throttle", "node-name": "thr", "throttle-group": "g", "file": "base"}),
    ]
    layers = [
        *on_top_of("mid", tmp_path, "thr"),
        write("mid", 1, KIB64, 3),
        *on_top_of("top", tmp_path, "mid"),
    ]
    steps = [
        commit(speed=1, base_node="base"), GRAPH, job("cancel"), commit(base_node="thr"), *ALL,
        commit(top_node="thr", base_node="base"),
    ]  # fmt: skip
    compare([*qcow2("base", tmp_path), *limits, *layers, *steps], tmp_path)
    above = {"driver": "copy-on-read", "node-name": "cor", "file": "mid"}
    compare([*chain(tmp_path), ("blockdev-add", above), commit(filter_node_name="f"), *ALL], tmp_path)


@pytest.mark.parametrize(("node", "writable"), [("mid", False), ("base", True)])
def test_a_layer_that_is_exported(node: str, writable: bool, tmp_path: Path) -> None:
    compare([*chain(tmp_path), *exported(node, tmp_path, writable), commit(), *ALL], tmp_path)


def test_a_fleece_beside_it(tmp_path: Path) -> None:
    fleece = backup(device="top", sync="none", job_id="b", filter_node_name="cbw")
    others = [backup(device=name, sync="none", job_id="b") for name in ("top", "mid", "base")]
    steps = [
        null("t"), fleece, commit(), commit(device="cbw"), *ALL, job("cancel", "b"), commit(speed=1), *others,
        backup(device="top", sync="none", job_id="b", target="base"), JOBS,
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)


def test_bitmaps_of_both_layers(tmp_path: Path) -> None:
    bitmaps = [bitmap("add", "b", node="mid"), bitmap("add", "c", node="base")]
    compare([*chain(tmp_path), *bitmaps, commit(), NODES, digest("c", "base"), digest("b", "mid")], tmp_path)


@pytest.mark.parametrize("on_error", ["report", "stop", "enospc"])
@pytest.mark.parametrize(("where", "failing"), [
    ("mid", rule("read_aio")), ("base", rule("write_aio", errno=28)),
], ids=["read", "write"])  # fmt: skip
def test_a_request_fails(where: str, failing: dict[str, Any], on_error: str, tmp_path: Path) -> None:
    ending = [*STATE, job("resume"), BLOCK_JOBS, job("cancel"), job("dismiss"), GRAPH, JOBS]
    started = commit(on_error=on_error, auto_dismiss=False)
    compare([*faulty_chain(tmp_path, where, failing), started, *ending], tmp_path)


def change(image: str, backing_file: str, device: str = "top") -> Step:
    arguments = {"device": device, "image-node-name": image, "backing-file": backing_file}
    return "change-backing-file", arguments


def test_the_name_in_a_header(tmp_path: Path) -> None:
    steps = [
        change("mid", "hi"), change("base", "hi"), change("nope", "hi"), change("mid", "x" * 2000),
        change("top", "y"), change("mid", "z", "mid"), change("mid", "z", "base-file"), NODES,
        *qcow2("other", tmp_path, backing="base"), change("other", "u"), null("t"),
        backup(device="top", sync="none"), change("mid", "q"), job("cancel"), change("mid", ""), NODES,
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)


def test_the_name_in_a_header_that_is_read_only(tmp_path: Path) -> None:
    mid = {"driver": "file", "filename": str(tmp_path / "mid")}
    top = opened("top", tmp_path, backing={"driver": "qcow2", "node-name": "mid", "file": mid})
    compare([*images(tmp_path), top, change("mid", "hi"), NODES], tmp_path)
