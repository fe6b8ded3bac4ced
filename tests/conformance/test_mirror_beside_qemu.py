"""blockdev-mirror, drive-mirror and the commit of an active layer, beside the real QEMU 7.2."""

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
    hmp,
    images,
    larger,
    opened,
    rule,
)
from qemu_pair import Step, compare
from test_exports_and_filters import EXPORTS, GRAPH, NODES
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
    written_source,
)

COPIED = [
    holds("t", 0, KIB64, 1),
    holds("t", 3, 2 * KIB64, 2),
    holds("t", 1, KIB64, 0),
    holds("t", 10, KIB64, 9),
]


def mirror(**arguments: Any) -> Step:
    given = {"job-id": "j", "device": "s", "target": "t", "sync": "full", **named(arguments)}
    return "blockdev-mirror", given


def drive_mirror(directory: Path, target: str, **arguments: Any) -> Step:
    path = target if target.startswith("/") else str(directory / target)
    return "drive-mirror", {
        "job-id": "j",
        "device": "top",
        "target": path,
        "sync": "full",
        **named(arguments),
    }


def active_commit(device: str = "top", **arguments: Any) -> Step:
    return "block-commit", {"job-id": "j", "device": device, **named(arguments)}


def pair(directory: Path) -> list[Step]:
    return [*written_source(directory), *qcow2("t", directory)]


ENDS: dict[str, list[Step]] = {
    "pivot": [job("complete")],
    "pivot by block job": [block_job("complete"), block_job("complete")],
    "cancel": [block_job("cancel")],
    "force": [job("cancel")],
    "force by block job": [block_job("cancel", force=True)],
    "paused": [
        job("pause"), BLOCK_JOBS, job("pause"), block_job("cancel"), job("complete"), BLOCK_JOBS,
        job("resume"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("filter_node_name", ["", "f"], ids=["unnamed", "named"])
def test_how_a_mirror_ends(filter_node_name: str, end: str, tmp_path: Path) -> None:
    started = mirror(filter_node_name="f") if filter_node_name else mirror()
    compare([*pair(tmp_path), started, *ALL, *ENDS[end], *ALL, *COPIED], tmp_path)


@pytest.mark.parametrize("verb", [job("complete"), block_job("cancel")], ids=["complete", "cancel"])
def test_by_hand(verb: Step, tmp_path: Path) -> None:
    manual = mirror(auto_finalize=False, auto_dismiss=False, filter_node_name="f")
    steps = [manual, BLOCK_JOBS, verb, *ALL, job("finalize"), *STATE, job("dismiss"), *ALL, *COPIED]
    compare([*pair(tmp_path), *steps], tmp_path)
    steps = [manual, verb, *STATE, job("cancel"), *STATE, job("dismiss"), *ALL]
    compare([*pair(tmp_path), *steps], tmp_path)


def test_a_crawling_mirror(tmp_path: Path) -> None:
    steps = [
        mirror(filter_node_name="f", speed=1), *ALL, job("complete"), block_job("complete"), job("pause"),
        BLOCK_JOBS, job("resume"), mirror(job_id="k"), backup(job_id="k"),
        ("blockdev-del", {"node-name": "t"}), block_job("cancel"), *ALL, *COPIED,
    ]  # fmt: skip
    compare([*pair(tmp_path), *steps], tmp_path)
    faster = [block_job("set-speed", speed=0), *STATE, block_job("set-speed", speed=5), BLOCK_JOBS]
    compare([*pair(tmp_path), mirror(speed=1), *faster, block_job("cancel"), JOBS, *COPIED], tmp_path)


@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_what_is_copied(sync: str, tmp_path: Path) -> None:
    reads = [holds("t", 3, KIB64, 6), holds("t", 2, KIB64, 5), holds("t", 2, KIB64, 0)]
    steps = [mirror(device="top", sync=sync), *ALL, job("complete"), *ALL, *reads]
    compare([*chain(tmp_path), *qcow2("t", tmp_path), *steps], tmp_path)


def test_writes_that_wait_for_the_target(tmp_path: Path) -> None:
    steps = [
        mirror(copy_mode="write-blocking", filter_node_name="f"), *ALL, write("f", 10, KIB64, 9), *STATE,
        write("f", 20, 100, 8), NODES, JOBS, block_job("cancel"), *STATE, *COPIED,
    ]  # fmt: skip
    compare([*pair(tmp_path), *steps], tmp_path)
    none = mirror(sync="none", copy_mode="write-blocking")
    steps = [*exported("s", tmp_path, True), none, *ALL, job("complete"), *ALL, EXPORTS]
    compare([*pair(tmp_path), *steps], tmp_path)


@pytest.mark.parametrize("sizes", [(4 * MIB, 4 * MIB), (0, 0), (4 * MIB, MIB)])
def test_sizes(sizes: tuple[int, int], tmp_path: Path) -> None:
    nodes = [null("s", size=sizes[0]), null("t", size=sizes[1])]
    compare([*nodes, mirror(auto_dismiss=False), *ALL, job("complete"), *ALL, job("dismiss"), JOBS], tmp_path)


def test_granularity_and_buffer(tmp_path: Path) -> None:
    started = mirror(granularity=4096, buf_size=65536, filter_node_name="f")
    compare([*pair(tmp_path), started, *ALL, job("complete"), *STATE, *COPIED], tmp_path)


REFUSED: list[dict[str, Any]] = [
    {"device": "nope"}, {"target": "nope"}, {"device": "s-file"}, {"target": "s"}, {"granularity": 100},
    {"granularity": 1000}, {"granularity": 1 << 27}, {"buf_size": -1}, {"sync": "incremental"},
    {"sync": "bitmap"}, {"speed": -1}, {"job_id": "*"}, {"filter_node_name": "s"}, {"filter_node_name": "*"},
    {"replaces": "nope"}, {"replaces": "s-file"}, {"replaces": "t"}, {"device": "top", "target": "mid"},
    {"device": "top", "target": "s-file"}, {"device": "mid"},
]  # fmt: skip


def test_refusals(tmp_path: Path) -> None:
    tries = [mirror(**arguments) for arguments in REFUSED]
    tries.append(("blockdev-mirror", {"device": "s", "target": "t", "sync": "full"}))
    compare([*pair(tmp_path), *chain(tmp_path), *tries, *ALL], tmp_path)


def test_a_node_below_a_filter_is_replaced(tmp_path: Path) -> None:
    above: Step = ("blockdev-add", {"driver": "copy-on-read", "node-name": "c", "file": "s"})
    started = mirror(device="c", replaces="s", filter_node_name="f")
    steps = [*pair(tmp_path), above, started, GRAPH]
    compare([*steps, job("complete"), *ALL, *COPIED], tmp_path)
    gone: Step = ("blockdev-del", {"node-name": "s"})
    held = [job("pause"), job("complete"), gone, GRAPH, job("resume"), *STATE]
    compare([*pair(tmp_path), above, started, *held], tmp_path)
    target: Step = ("blockdev-add", {"driver": "copy-on-read", "node-name": "c", "file": "base"})
    compare([*chain(tmp_path), target, mirror(device="top", target="c"), *STATE], tmp_path)


def test_bitmaps_of_the_source(tmp_path: Path) -> None:
    steps = [bitmap("add", "b"), mirror(), NODES, bitmap("add", "c"), job("complete"), NODES, digest("b")]
    compare([*pair(tmp_path), *steps], tmp_path)


@pytest.mark.parametrize("writable", [False, True], ids=["target", "source"])
def test_what_is_exported(writable: bool, tmp_path: Path) -> None:
    shown = exported("s" if writable else "t", tmp_path, writable)
    compare([*pair(tmp_path), *shown, mirror(), *STATE, job("complete"), *STATE, EXPORTS], tmp_path)


def test_points_in_time_beside_it(tmp_path: Path) -> None:
    fleece = backup(target="b", sync="none", job_id="b", filter_node_name="cbw")
    steps = [
        null("b"), fleece, mirror(), mirror(device="cbw"), *STATE, job("cancel", "b"), mirror(), fleece,
        *STATE,
    ]  # fmt: skip
    compare([*pair(tmp_path), *steps], tmp_path)
    filtered: list[Step] = [
        ("blockdev-add", {"driver": "copy-before-write", "node-name": "cbw", "file": "s", "target": "b"}),
        ("blockdev-add", {"driver": "snapshot-access", "node-name": "sa", "file": "cbw"}),
    ]
    steps = [
        null("b"),
        *filtered,
        mirror(device="cbw"),
        mirror(device="s"),
        *STATE,
        mirror(device="sa"),
        *STATE,
    ]
    compare([*pair(tmp_path), *steps], tmp_path)
    overlay: Step = ("blockdev-snapshot", {"node": "s", "overlay": "o"})
    compare(
        [*pair(tmp_path), *qcow2("o", tmp_path), mirror(), overlay, *STATE, block_job("cancel")], tmp_path
    )


@pytest.mark.parametrize("policy", ["report", "stop", "enospc"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_request_fails(side: str, policy: str, tmp_path: Path) -> None:
    if side == "source":
        nodes = [*faulty_chain(tmp_path, "base", rule("read_aio")), *qcow2("t", tmp_path)]
        started = mirror(device="top", on_source_error=policy, auto_dismiss=False)
    else:
        nodes = [*faulty_chain(tmp_path, "base", rule("write_aio", errno=28)), *written_source(tmp_path)]
        started = mirror(target="base", on_target_error=policy, auto_dismiss=False)
    ending = [*STATE, job("resume"), BLOCK_JOBS, job("cancel"), job("dismiss"), GRAPH, JOBS]
    compare([*nodes, started, *ending], tmp_path)


# -- a commit of the layer that is written to
@pytest.mark.parametrize("end", ["pivot", "cancel", "force"])
@pytest.mark.parametrize("base", ["base", "mid"])
def test_how_an_active_commit_ends(base: str, end: str, tmp_path: Path) -> None:
    started = active_commit(filter_node_name="f", base_node=base)
    reads = [holds("base", at, KIB64, pattern) for at, pattern in ((0, 7), (2, 5), (3, 6), (10, 9))]
    steps = [
        *exported("top", tmp_path, True),
        started,
        *ALL,
        write("f", 10, KIB64, 9),
        *ENDS[end],
        *ALL,
        EXPORTS,
    ]
    compare([*chain(tmp_path), *steps, *reads], tmp_path)


def test_an_active_commit_of_a_chain_opened_by_its_headers(tmp_path: Path) -> None:
    top = opened("top", tmp_path)
    compare([*images(tmp_path), top, active_commit(), *ALL, job("complete"), *ALL], tmp_path)
    part = active_commit(base=str(tmp_path / "mid"))
    compare([*images(tmp_path), top, part, *ALL, block_job("cancel"), *ALL, *CONTENT], tmp_path)


def test_an_active_commit_grows_its_base(tmp_path: Path) -> None:
    steps = [*larger(tmp_path), write("big", 100, KIB64, 3), active_commit("big", base_node="base"), *ALL]
    compare([*chain(tmp_path), *steps, job("complete"), *ALL], tmp_path)


def test_who_is_kept_off_a_crawling_active_commit(tmp_path: Path) -> None:
    steps = [
        active_commit(speed=1, filter_node_name="f"), *ALL, active_commit(job_id="k"),
        *(("block-stream", {"job-id": "k", "device": name}) for name in ("top", "mid")),
        backup(device="top", target="base"), backup(device="base", target="top"), *STATE, job("cancel"),
        *STATE,
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)


def test_a_layer_with_a_writer_is_committed_actively(tmp_path: Path) -> None:
    steps = [
        *exported("top", tmp_path, True), active_commit("act", top_node="top", backing_file="x"),
        active_commit("act", top_node="top"), *ALL, job("complete"), *ALL, EXPORTS,
    ]  # fmt: skip
    compare([*chain_of_four(tmp_path), *steps], tmp_path)


def test_a_snapshot_with_a_bitmap_is_merged_back(tmp_path: Path) -> None:
    steps = [
        *exported("s", tmp_path, True), bitmap("add", "b"), *qcow2("o", tmp_path),
        ("blockdev-snapshot", {"node": "s", "overlay": "o"}), bitmap("add", "b2", node="o"),
        active_commit("o"), *ALL, job("complete"), *ALL, EXPORTS, digest("b"),
    ]  # fmt: skip
    compare([*written_source(tmp_path), *steps], tmp_path)


# -- targets that are files
NEW: dict[str, dict[str, Any]] = {
    "full": {}, "top": {"sync": "top", "node_name": "n"}, "none": {"sync": "none", "node_name": "n"},
    "raw": {"format": "raw", "node_name": "n"},
}  # fmt: skip


@pytest.mark.parametrize("kind", NEW)
def test_a_new_file(kind: str, tmp_path: Path) -> None:
    steps = [drive_mirror(tmp_path, "new", **NEW[kind]), *ALL, job("complete"), *ALL, holds("n", 0, KIB64, 7)]
    compare([*chain(tmp_path), *steps], tmp_path)


@pytest.mark.parametrize("sync", ["full", "top"])
def test_a_file_that_exists(sync: str, tmp_path: Path) -> None:
    """With sync=top its backing file is opened at the end, which the lock of its user forbids."""
    made = [*qcow2("n", tmp_path, backing="mid")[:-1], ("blockdev-del", {"node-name": "n-file"})]
    started = drive_mirror(tmp_path, "n", sync=sync, mode="existing", format="qcow2", node_name="n")
    end = job("complete") if sync == "top" else block_job("cancel")
    compare([*chain(tmp_path), *made, started, *ALL, end, *ALL], tmp_path)


def test_refusals_of_files(tmp_path: Path) -> None:
    steps = [
        drive_mirror(tmp_path, "/nonexistent/x"), drive_mirror(tmp_path, "missing", mode="existing"),
        drive_mirror(tmp_path, "x", format="zork"), drive_mirror(tmp_path, "x", replaces="top"),
        drive_mirror(tmp_path, "x", device="mid"), drive_mirror(tmp_path, "x", device="nope"),
        drive_mirror(tmp_path, "top"), drive_mirror(tmp_path, "x", sync="top", format="raw"),
        drive_mirror(tmp_path, "x", sync="bitmap"), drive_mirror(tmp_path, "x", granularity=3),
        drive_mirror(tmp_path, "x", node_name="top"), *ALL,
    ]  # fmt: skip
    compare([*chain(tmp_path), *steps], tmp_path)


def test_the_human_monitor(tmp_path: Path) -> None:
    """With a drive, whose name is the job's."""
    path, other = str(tmp_path / "s"), str(tmp_path / "x")
    gone: list[Step] = [("blockdev-del", {"node-name": name}) for name in ("s", "s-file")]
    steps = [
        *gone, hmp(f"drive_add 0 id=d0,if=none,node-name=s,format=qcow2,file={path}"),
        hmp(f"drive_mirror -f d0 {other} raw"), hmp("info block-jobs"), hmp("block_job_complete d0"), *ALL,
        hmp("drive_mirror nope x"), hmp("drive_mirror d0"),
    ]  # fmt: skip
    compare([*written_source(tmp_path), *steps], tmp_path)
