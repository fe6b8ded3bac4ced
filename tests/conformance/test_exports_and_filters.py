"""Nodes, filters and exports beside the real QEMU 7.2: replies member for member, error texts, events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qemu_pair import Step, compare

MIB = 1 << 20
NODES: Step = ("query-named-block-nodes", {})
GRAPH: Step = ("x-debug-query-block-graph", {})
EXPORTS: Step = ("query-block-exports", {})


def named(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in arguments.items()}


def add(driver: str, node_name: str, **options: Any) -> Step:
    return "blockdev-add", {"driver": driver, "node-name": node_name, **named(options)}


def null(node_name: str, **options: Any) -> Step:
    return add("null-co", node_name, size=MIB, **options)


def delete(node_name: str) -> Step:
    return "blockdev-del", {"node-name": node_name}


def reopen(*options: dict[str, Any]) -> Step:
    return "blockdev-reopen", {"options": [named(each) for each in options]}


def resize(node_name: str, size: int) -> Step:
    return "block_resize", {"node-name": node_name, "size": size}


def create(path: Path, size: int, **qcow2: Any) -> list[Step]:
    """An image made by the machine itself: raw, or with `format="qcow2"`."""
    file = {"driver": "file", "filename": str(path), "size": 0 if qcow2 else size}
    steps: list[Step] = [
        ("blockdev-create", {"job-id": "make", "options": file}),
        ("job-dismiss", {"id": "make"}),
    ]
    if qcow2:
        steps += [
            add("file", "making", filename=str(path)),
            (
                "blockdev-create",
                {"job-id": "make", "options": {"driver": "qcow2", "file": "making", "size": size}},
            ),
            ("job-dismiss", {"id": "make"}),
            delete("making"),
        ]
    return steps


def file_of(path: Path, **options: Any) -> dict[str, Any]:
    return {"driver": "file", "filename": str(path), **named(options)}


def test_nodes_are_described_member_for_member(tmp_path: Path) -> None:
    base, overlay, odd = tmp_path / "base.qcow2", tmp_path / "over.qcow2", tmp_path / "odd.raw"
    compare(
        [
            *create(base, 4 * MIB, format="qcow2"),
            *create(overlay, 4 * MIB, format="qcow2"),
            *create(odd, 3 * MIB + 512),
            add("qcow2", "base", file=file_of(base, node_name="basef"), discard="unmap"),
            add("qcow2", "over", file=file_of(overlay), backing="base"),
            add("raw", "odd", file=file_of(odd), read_only=True, cache={"direct": False, "no-flush": True}),
            add("raw", "window", file="odd", offset=512, size=MIB, read_only=True),
            NODES,
            GRAPH,
            ("query-named-block-nodes", {"flat": True}),
            ("query-blockstats", {"query-nodes": True}),
            ("query-block", {}),
        ],
        tmp_path,
    )


def test_filters_are_described_member_for_member(tmp_path: Path) -> None:
    target = tmp_path / "t.qcow2"
    compare(
        [
            null("a"),
            *create(target, MIB, format="qcow2"),
            add("qcow2", "t", file=file_of(target), backing="a"),
            ("block-dirty-bitmap-add", {"node": "a", "name": "b0"}),
            ("object-add", {"qom-type": "throttle-group", "id": "tg", "limits": {"bps-total": 1 << 20}}),
            add("throttle", "slow", throttle_group="tg", file={"driver": "null-aio", "read-zeroes": True}),
            add("copy-before-write", "c", file="a", target="t"),
            NODES,
            add("snapshot-access", "sa", file="c"),
            NODES,
            GRAPH,
            delete("c"),
            delete("sa"),
            delete("c"),
            NODES,
            ("object-del", {"id": "tg"}),
            delete("slow"),
            ("object-del", {"id": "tg"}),
            ("object-del", {"id": "tg"}),
        ],
        tmp_path,
    )


def test_nodes_that_cannot_be_added(tmp_path: Path) -> None:
    compare(
        [
            null("a"),
            null("a"),
            null("#x"),
            null("n" * 32),
            ("blockdev-add", {"driver": "null-co"}),
            add("raw", "b", file="nope"),
            add("raw", "b", file=file_of(tmp_path / "missing")),
            add("raw", "a", file=file_of(tmp_path / "missing")),
            add("qcow2", "b", file="a"),
            add("raw", "b"),
            add("copy-before-write", "c", file="a", target="nope"),
            add("copy-before-write", "c", file="nope", target="a"),
            add("copy-before-write", "c", file="a", target="a"),
            NODES,
            delete("c"),
            null("t"),
            add("copy-before-write", "c", file="a", target="t", bitmap={"node": "a", "name": "nope"}),
            add("copy-before-write", "c", file="a", target="t", bitmap={"node": "nope", "name": "nope"}),
            add("throttle", "th", file="a", throttle_group="nope"),
            null("ro", read_only=True),
            add("copy-before-write", "c", file="a", target="ro"),
            add("null-co", "d", detect_zeroes="unmap"),
            add("null-co", "d", cache={}),
            add("raw", "d", file="a", cache={}),
            add("raw", "d", file="nope", detect_zeroes="unmap", force_share=True),
            add("raw", "a", file="ro", force_share=True),
            NODES,
        ],
        tmp_path,
    )


def test_nodes_that_cannot_be_removed(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    compare(
        [
            *create(image, MIB),
            add("raw", "a", file=file_of(image, node_name="f")),
            add("snapshot-access", "sa", file="a"),
            delete("nope"),
            delete("f"),
            delete("a"),
            delete("sa"),
            delete("a"),
            delete("f"),
            NODES,
        ],
        tmp_path,
    )


def test_limits_of_a_throttle_group_while_it_is_used(tmp_path: Path) -> None:
    def limits(path: str, value: Any) -> Step:
        return "qom-set", {"path": path, "property": "limits", "value": value}

    def shown(path: str, name: str = "limits") -> Step:
        return "qom-get", {"path": path, "property": name}

    group = "/objects/g"
    compare(
        [
            ("object-add", {"qom-type": "throttle-group", "id": "g", "limits": {"bps-total": 1 << 20}}),
            null("below"),
            add("throttle", "slow", throttle_group="g", file="below"),
            add("raw", "top", file="below"),
            shown(group),
            shown(group, "x-bps-total"),
            shown(group, "x-bps-none"),
            shown(group, "none"),
            shown("/objects/h"),
            limits(group, {"bps-total": 2 << 20, "iops-total": 5, "iops-total-max": 9, "iops-size": 4096}),
            shown(group),
            limits(group, {"bps-read": 1}),
            limits(group, {"bps-total": -1}),
            limits(group, {"bps-total-max-length": 1 << 32}),
            limits(group, {"bps-none": 1}),
            limits(group, {"bps-total": "1"}),
            limits(group, 3),
            limits("/objects/h", {}),
            ("qom-set", {"path": group, "property": "x-bps-total", "value": 7}),
            ("qom-set", {"path": group, "property": "none", "value": 7}),
            shown(group),
            limits(group, {}),
            ("blockdev-reopen", {"options": [{"driver": "raw", "node-name": "top", "file": "slow"}]}),
            ("object-del", {"id": "g"}),
            delete("slow"),
            ("blockdev-reopen", {"options": [{"driver": "raw", "node-name": "top", "file": "below"}]}),
            delete("slow"),
            ("object-del", {"id": "g"}),
            shown(group),
        ],
        tmp_path,
    )


def test_throttle_groups_that_cannot_be(tmp_path: Path) -> None:
    def group(name: str, **properties: Any) -> Step:
        return "object-add", {"qom-type": "throttle-group", "id": name, **named(properties)}

    compare(
        [
            group("1x"),
            group("g", limits={"bps-total": 1, "bps-read": 1}),
            group("g", limits={"iops-size": 512}),
            group("g", limits={"bps-total-max": 512}),
            group("g", limits={"bps-total": 1024, "bps-total-max": 512}),
            group("g", limits={"bps-total": 1024, "bps-total-max-length": 2}),
            group("g", limits={"iops-total": -1}),
            group("g", limits={"bps-read-max": -1}),
            group("g", limits={"bps-read-max-length": 1 << 32}),
            group("g", x_bps_read_max_length=1 << 32),
            group("g", x_bps_total=-1),
            group("g", x_bps_total=1024),
            group("g"),
            ("object-del", {"id": "h"}),
        ],
        tmp_path,
    )


def test_resize(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    compare(
        [
            *create(image, MIB),
            add("raw", "a", file=file_of(image, node_name="f")),
            resize("a", -1),
            resize("nope", 1),
            resize("a", 2 * MIB),
            NODES,
            resize("a", 1000),
            NODES,
            null("n"),
            resize("n", MIB),
            null("ro", read_only=True),
            resize("ro", MIB),
            null("t"),
            ("blockdev-backup", {"device": "n", "target": "t", "sync": "none", "job-id": "j"}),
            resize("t", MIB),
            resize("n", MIB),
            ("block-job-cancel", {"device": "j"}),
        ],
        tmp_path,
    )


def test_exports(tmp_path: Path) -> None:
    def export(identifier: str, node_name: str = "a", **options: Any) -> Step:
        return "block-export-add", {"type": "nbd", "id": identifier, "node-name": node_name, **named(options)}

    socket_path = str(tmp_path / "nbd")
    start: Step = ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": socket_path}}})
    compare(
        [
            null("a"),
            null("ro", read_only=True),
            export("e"),
            ("nbd-server-stop", {}),
            ("nbd-server-add", {"device": "a"}),
            ("nbd-server-start", {"addr": {"type": "fd", "data": {"str": "3"}}}),
            start,
            start,
            export("e", "nope"),
            export("1 x"),
            export("e", "ro", writable=True),
            export("e", name="n" * 4097),
            export("e", description="n" * 4097),
            export("e", bitmaps=["nope"]),
            ("block-dirty-bitmap-add", {"node": "a", "name": "b"}),
            export("e", bitmaps=["b"]),
            export("e", bitmaps=[{"node": "a", "name": "nope"}]),
            export("e", bitmaps=[{"node": "nope", "name": "nope"}]),
            export("e", iothread="zork"),
            EXPORTS,
            export("e", writable=True, bitmaps=["b"], allocation_depth=True, description="d"),
            GRAPH,
            export("e"),
            export("f", name="a"),
            export("f", name="other", bitmaps=["b"]),
            export("f", name="other"),
            EXPORTS,
            ("block-dirty-bitmap-remove", {"node": "a", "name": "b"}),
            delete("a"),
            resize("a", 2 * MIB),
            ("nbd-server-remove", {"name": "zork"}),
            ("block-export-del", {"id": "zork"}),
            ("nbd-server-remove", {"name": "f"}),
            ("nbd-server-add", {"device": "ro", "writable": True}),
            ("nbd-server-add", {"device": "ro", "name": "ro"}),
            EXPORTS,
            ("nbd-server-stop", {}),
            EXPORTS,
            ("block-dirty-bitmap-remove", {"node": "a", "name": "b"}),
            delete("a"),
            delete("ro"),
            NODES,
        ],
        tmp_path,
    )


@pytest.mark.parametrize("order", [("e1", "e2", "e3"), ("e3", "e1", "e2")])
def test_the_server_stops_with_several_exports(tmp_path: Path, order: tuple[str, ...]) -> None:
    socket_path = str(tmp_path / "nbd")
    exports: list[Step] = [
        ("block-export-add", {"type": "nbd", "id": name, "node-name": "a", "name": name}) for name in order
    ]
    compare(
        [
            null("a"),
            ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": socket_path}}}),
            *exports,
            ("nbd-server-stop", {}),
        ],
        tmp_path,
    )


def test_reopen(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.qcow2", tmp_path / "over.qcow2"
    over = {"driver": "qcow2", "node-name": "over", "file": file_of(overlay)}
    compare(
        [
            *create(base, MIB, format="qcow2"),
            *create(overlay, MIB, format="qcow2"),
            add("qcow2", "base", file=file_of(base, node_name="basef")),
            add("qcow2", "over", file=file_of(overlay), backing="base"),
            null("n"),
            reopen({"driver": "null-co"}),
            reopen({"driver": "null-co", "node-name": "nope"}),
            reopen({"driver": "null-co", "node-name": "n"}),
            reopen({"driver": "null-co", "node-name": "n", "size": 2 * MIB}),
            reopen({"driver": "null-aio", "node-name": "n", "size": MIB}),
            reopen({"driver": "null-co", "node-name": "n", "size": MIB, "read-only": True}),
            NODES,
            reopen(over),
            reopen({**over, "backing": "nope"}),
            reopen({**over, "backing": "over"}),
            reopen({**over, "backing": None}),
            NODES,
            reopen({**over, "backing": "n"}),
            GRAPH,
            reopen({**over, "backing": "base", "read-only": True}),
            NODES,
            reopen({**over, "backing": "base", "file": file_of(base)}),
            reopen({"driver": "qcow2", "node-name": "base", "file": "n"}, {**over, "backing": "zork"}),
            add("snapshot-access", "sa", file="base"),
            reopen({"driver": "snapshot-access", "node-name": "sa", "file": "base"}),
            NODES,
        ],
        tmp_path,
    )


def test_a_filter_is_put_between_by_reopen(tmp_path: Path) -> None:
    compare(
        [
            null("a"),
            null("t"),
            add("raw", "top", file="a"),
            add("copy-before-write", "c", file="a", target="t"),
            reopen({"driver": "raw", "node-name": "top", "file": "c"}),
            GRAPH,
            delete("c"),
            reopen({"driver": "raw", "node-name": "top", "file": "a"}),
            GRAPH,
            delete("c"),
            reopen({"driver": "raw", "node-name": "top", "file": "top"}),
        ],
        tmp_path,
    )
