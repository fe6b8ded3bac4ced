"""Injected errors beside the real QEMU 7.2: which request fails, how often, and with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qemu_pair import Step, compare

KIB = 1024
SIZE = 1024 * KIB
NODES: Step = ("query-named-block-nodes", {})


def make(directory: Path, image_format: str) -> list[Step]:
    """Nodes: file, and on it `disk` of that format with its rules to come between."""
    path = str(directory / f"disk.{image_format}")
    size = SIZE if image_format == "raw" else 0
    steps: list[Step] = [
        create({"driver": "file", "filename": path, "size": size}),
        ("job-dismiss", {"id": "make"}),
        ("blockdev-add", {"driver": "file", "node-name": "file", "filename": path}),
    ]
    if image_format == "qcow2":
        steps += [create({"driver": "qcow2", "file": "file", "size": SIZE}), ("job-dismiss", {"id": "make"})]
    return steps


def create(options: dict[str, Any]) -> Step:
    return "blockdev-create", {"job-id": "make", "options": options}


def rules(*inject: dict[str, Any], states: tuple[dict[str, Any], ...] = (), **more: Any) -> Step:
    options = {"driver": "blkdebug", "node-name": "rules", "image": "file", "inject-error": list(inject)}
    if states:
        options["set-state"] = list(states)
    return "blockdev-add", {**options, **more}


def disk(image_format: str) -> Step:
    return "blockdev-add", {"driver": image_format, "node-name": "disk", "file": "rules"}


def io(command: str, node: str = "disk") -> Step:
    return "human-monitor-command", {"command-line": f'qemu-io {node} "{command}"'}


WRITE, READ = io("write -P 1 0 64k"), io("read -P 1 0 64k")


RULES = [
    {"event": "none", "iotype": "write", "errno": 28, "once": True},
    {"event": "none", "iotype": "read", "once": True},
    {"event": "none", "iotype": "discard", "errno": 5, "once": True},
    {"event": "none", "iotype": "write-zeroes", "errno": 28, "once": True},
    {"event": "none", "once": True, "errno": 13},
    {"event": "pwritev", "errno": 28, "once": True},
    {"event": "pwritev", "errno": 0},
    {"event": "pwritev_zero", "iotype": "write-zeroes", "once": True},
    {"event": "pwritev_done", "iotype": "read", "once": True},
    {"event": "write_aio", "once": True, "immediately": True},
    {"event": "read_aio", "errno": 12, "once": True},
]
# These hit the tables of a qcow2 image, which QEMU and the simulator write at moments of their own.
RAW_RULES = [
    {"event": "none", "iotype": "flush", "errno": 5, "once": True},
    {"event": "none", "iotype": "write", "sector": 600, "once": True},
]


@pytest.mark.parametrize(
    ("image_format", "rule"),
    [("qcow2", rule) for rule in RULES] + [("raw", rule) for rule in [*RULES, *RAW_RULES]],
    ids=lambda part: "-".join(str(value) for value in part.values()) if isinstance(part, dict) else part,
)
def test_one_error(image_format: str, rule: dict[str, Any], tmp_path: Path) -> None:
    steps = [*make(tmp_path, image_format), rules(rule), disk(image_format)]
    for offset in ("0", "256k", "512k"):
        for command in (f"write -P 1 {offset} 64k", f"read -P 1 {offset} 64k"):
            steps.append(io(command))
    steps += [io("write -z 0 64k"), io("discard 64k 64k"), io("write -P 2 0 4k"), io("read -P 2 0 4k")]
    compare(steps, tmp_path)


def test_errors_that_come_later(tmp_path: Path) -> None:
    """The third write fails, twice; then no more."""
    once = {"event": "pwritev", "state": 3, "iotype": "write", "errno": 28, "once": True}
    states = (
        {"event": "pwritev", "state": 1, "new_state": 2},
        {"event": "pwritev", "state": 2, "new_state": 3},
    )
    steps = [*make(tmp_path, "raw"), rules(once, once, states=states), disk("raw")]
    compare([*steps, *[WRITE] * 6, READ], tmp_path)


def test_errors_that_stay(tmp_path: Path) -> None:
    compare(
        [
            *make(tmp_path, "raw"),
            rules({"event": "none", "errno": 28}),
            disk("raw"),
            WRITE,
            READ,
            ("blockdev-reopen", {"options": [{"driver": "raw", "node-name": "disk", "file": "file"}]}),
            READ,
        ],
        tmp_path,
    )


def test_put_in_and_taken_out_under_a_disk(tmp_path: Path) -> None:
    reopened = {"driver": "qcow2", "node-name": "disk"}
    compare(
        [
            *make(tmp_path, "qcow2"),
            ("blockdev-add", {**reopened, "file": "file"}),
            WRITE,
            rules({"event": "none", "iotype": "read", "once": True}),
            ("blockdev-reopen", {"options": [{**reopened, "file": "rules"}]}),
            NODES,
            READ,
            READ,
            ("blockdev-del", {"node-name": "rules"}),
            ("blockdev-reopen", {"options": [{**reopened, "file": "file"}]}),
            ("blockdev-del", {"node-name": "rules"}),
            READ,
        ],
        tmp_path,
    )


def test_names_and_what_is_refused(tmp_path: Path) -> None:
    compare(
        [
            *make(tmp_path, "raw"),
            ("blockdev-add", {"driver": "blkdebug", "node-name": "plain", "image": "file"}),
            NODES,
            ("blockdev-del", {"node-name": "plain"}),
            rules({"event": "pwritev", "errno": 28}),
            rules({"event": "none"}),
            ("blockdev-add", {"driver": "blkdebug", "node-name": "x", "image": "nowhere"}),
            ("blockdev-add", {"driver": "blkdebug", "node-name": "x"}),
            rules(),
            rules({"event": "noon"}),
            rules({"event": "none", "iotype": "rite"}),
            rules({"errno": 5}),
            ("blockdev-del", {"node-name": "rules"}),
            ("blockdev-add", {"driver": "blkdebug", "node-name": "x", "image": "file",
                              "take-child-perms": ["write"], "unshare-child-perms": ["resize"]}),
            NODES,
        ],
        tmp_path,
    )  # fmt: skip


def test_a_backup_whose_target_is_full(tmp_path: Path) -> None:
    """The guest's write fails, and the job runs on (see also specs/faults)."""
    path = str(tmp_path / "source.raw")
    backup = {"job-id": "j", "device": "source", "target": "rules", "sync": "none"}
    compare(
        [
            *make(tmp_path, "raw"),
            create({"driver": "file", "filename": path, "size": SIZE}),
            ("job-dismiss", {"id": "make"}),
            ("blockdev-add", {"driver": "file", "node-name": "source", "filename": path}),
            rules({"event": "none", "iotype": "write", "errno": 28, "once": True}),
            ("blockdev-add", {"driver": "raw", "node-name": "top", "file": "source"}),
            ("blockdev-backup", backup),
            ("query-block-jobs", {}),
            io("write -P 1 0 64k", "top"),
            io("write -P 1 0 64k", "top"),
            io("read -P 1 0 64k", "top"),
            ("query-jobs", {}),
            ("job-cancel", {"id": "j"}),
        ],
        tmp_path,
    )
