"""Overlays put on nodes that are in use, beside the real QEMU 7.2: names, what becomes read-only, errors."""

from __future__ import annotations

from pathlib import Path

from qemu_pair import Step, compare
from test_exports_and_filters import GRAPH, MIB, NODES, add, create, delete, file_of, null


def snapshot(node: str, overlay: str) -> Step:
    return "blockdev-snapshot", {"node": node, "overlay": overlay}


def test_an_overlay_is_described_by_what_it_stands_on(tmp_path: Path) -> None:
    """The image names no backing file, so its own name would not lead to what the node holds. What it
    stands on is read-only from now on with all that was described within it, if it can be reopened."""
    inline, named, over, top = (tmp_path / name for name in ("inline", "named", "over", "top"))
    for steps in (
        [
            *create(inline, MIB, format="qcow2"),
            add("qcow2", "below", file=file_of(inline)),
            add("qcow2", "over", file=file_of(over), backing=None),
        ],
        [
            *create(named, MIB, format="qcow2"),
            add("file", "f", filename=str(named)),
            add("qcow2", "below", file="f"),
            add("qcow2", "over", file=file_of(over)),
        ],
        [
            null("n"),
            null("t"),
            add("copy-before-write", "below", file="n", target="t"),
            add("qcow2", "over", file=file_of(over), backing=None),
        ],
    ):
        compare(
            [
                *create(over, MIB, format="qcow2"),
                *create(top, 2 * MIB, format="qcow2"),
                *steps,
                add("qcow2", "top", file=file_of(top)),
                snapshot("below", "over"),
                NODES,
                snapshot("over", "top"),
                NODES,
                GRAPH,
                snapshot("top", "over"),
                delete("below"),
                delete("top"),
                NODES,
            ],
            tmp_path,
        )


def test_the_name_follows_when_the_backing_file_is_replaced(tmp_path: Path) -> None:
    base, between = tmp_path / "base", tmp_path / "between"
    compare(
        [
            *create(base, MIB, format="qcow2"),
            *create(between, MIB, format="qcow2"),
            add("qcow2", "base", file=file_of(base)),
            ("blockdev-snapshot-sync", {"node-name": "base", "snapshot-file": str(tmp_path / "sync"),
                                        "snapshot-node-name": "sync"}),
            NODES,
            add("qcow2", "between", file=file_of(between)),
            snapshot("base", "between"),
            NODES,
            GRAPH,
        ],
        tmp_path,
    )  # fmt: skip


def test_what_would_make_a_cycle(tmp_path: Path) -> None:
    over = tmp_path / "over"
    compare(
        [
            *create(over, MIB, format="qcow2"),
            add("qcow2", "over", file=file_of(over, node_name="f"), backing=None),
            add("raw", "above", file="over"),
            snapshot("over", "over"),
            snapshot("above", "over"),
            snapshot("f", "over"),
            snapshot("over", "above"),
            NODES,
            GRAPH,
        ],
        tmp_path,
    )
