"""One qcow2 image with persistent bitmaps, taken on by the real QEMU and by the simulator in turn.

The same life is lived by the real QEMU alone and with the simulator for some of its days: whoever opens the
image next, qemu-img and the monitor's queries must find the same.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from both_programs import DEADLINE_S, SYSTEM, Running, real, start

MIB = 1 << 20
Day = list[Any]
# R: the day is the real QEMU's, S: it is the simulator's.
MIXED = ("RSRS", "SRSR", "SSSS")
KILLED = "killed"
IMAGES = ("disk.qcow2", "over.qcow2")


def file_node(name: str, node_name: str) -> tuple[str, dict[str, Any]]:
    return "blockdev-add", {"driver": "file", "filename": name, "node-name": node_name}


def image(name: str, node_name: str, **options: Any) -> list[Any]:
    opened = {"driver": "qcow2", "file": f"{node_name}-file", "node-name": node_name, **options}
    return [file_node(name, f"{node_name}-file"), ("blockdev-add", opened)]


def bitmap(verb: str, name: str, node: str = "disk", **more: Any) -> tuple[str, dict[str, Any]]:
    return f"block-dirty-bitmap-{verb}", {"node": node, "name": name, **more}


def write(where: str, node: str = "disk", pattern: int = 1) -> str:
    return f'qemu-io {node} "write -P {pattern} {where}"'


def read_only(is_read_only: bool) -> tuple[str, dict[str, Any]]:
    options = {"driver": "qcow2", "node-name": "disk", "file": "disk-file", "read-only": is_read_only}
    return "blockdev-reopen", {"options": [options]}


def digests(*names: str, node: str = "disk") -> list[Any]:
    return [("x-debug-block-dirty-bitmap-sha256", {"node": node, "name": name}) for name in names]


DISK = image("disk.qcow2", "disk")
CLOSED_DISK = image("disk.qcow2", "disk", **{"read-only": True})
NAMES = ("a", "off", "fine", "later")
SEEN = digests(*NAMES)

LIVES: dict[str, list[Day]] = {
    "written and closed": [
        [
            *DISK,
            bitmap("add", "a", persistent=True),
            bitmap("add", "off", persistent=True, disabled=True),
            bitmap("add", "fine", persistent=True, granularity=512),
            bitmap("add", "gone"),
            write("0 192k"),
            write("5m 512"),
        ],
        [*DISK, *SEEN, write("1m 64k", pattern=2), bitmap("enable", "off"), bitmap("clear", "fine"), *SEEN],
        [*DISK, *SEEN, write("7m 1k"), bitmap("remove", "a"), bitmap("add", "later", persistent=True)],
        [*DISK, *SEEN, write("2m 64k"), bitmap("disable", "later"), *SEEN],
    ],
    "reopened": [
        [*DISK, bitmap("add", "a", persistent=True), write("0 64k"), read_only(True), *SEEN],
        [*DISK, read_only(True), bitmap("clear", "a"), *SEEN, read_only(False), write("64k 64k"), *SEEN],
        [*CLOSED_DISK, *SEEN, read_only(False), write("2m 1k"), read_only(True)],
        [*DISK, *SEEN, read_only(True), read_only(False), bitmap("clear", "a")],
    ],
    "a snapshot on it": [
        [
            *DISK,
            bitmap("add", "a", persistent=True),
            write("0 64k"),
            *image("over.qcow2", "over", backing=None),
            ("blockdev-snapshot", {"node": "disk", "overlay": "over"}),
            *SEEN,
            bitmap("add", "fine", "over", persistent=True),
            write("64k 64k", "over"),
        ],
        [*DISK, *image("over.qcow2", "over", backing="disk"), *SEEN, *digests("fine", node="over"),
         write("3m 64k", "over", 2)],
        [*DISK, write("4m 64k", "disk"), bitmap("clear", "a")],
        [*DISK, *image("over.qcow2", "over", backing="disk"), *SEEN, *digests("fine", node="over"),
         bitmap("remove", "fine", "over")],
    ],
    "killed": [
        [*DISK, bitmap("add", "a", persistent=True), bitmap("add", "off", persistent=True), write("0 64k")],
        [*DISK, *SEEN, write("1m 64k"), 'qemu-io disk "flush"', KILLED],
        [
            *DISK,
            *SEEN,
            *(bitmap(verb, "a") for verb in ("clear", "enable", "disable")),
            ("block-dirty-bitmap-merge", {"node": "disk", "target": "off", "bitmaps": ["a"]}),
            bitmap("add", "a", persistent=True),
            bitmap("remove", "a"),
            bitmap("add", "a", persistent=True),
            write("2m 64k"),
        ],
        [*DISK, *SEEN, bitmap("remove", "off")],
    ],
}  # fmt: skip


def bitmaps_told(running: Running) -> list[Any]:
    nodes = running.qmp("query-named-block-nodes", {"flat": True})
    return [
        (node["node-name"], node["ro"], node.get("dirty-bitmaps"), node["image"].get("format-specific"))
        for node in nodes
    ]


def lived(day: Day, is_real: bool, place: Path) -> list[Any]:
    """What was answered, and which bitmaps there were after each command."""
    told: list[Any] = []
    with start(SYSTEM, is_real, place) as running:
        running.negotiate()
        for command in day:
            if command == KILLED:
                running.process.kill()
                running.wait()
                return told
            reply = running.hmp(command) if isinstance(command, str) else running.qmp(*command)
            told.append((str(command), reply, bitmaps_told(running)))
        running.qmp("quit")
        assert running.wait() == 0
    return told


def qemu_img(place: Path, *arguments: str) -> Any:
    ended = subprocess.run(
        [real("qemu-img"), *arguments], cwd=place, capture_output=True, text=True, timeout=DEADLINE_S
    )
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else ended.stderr


def between(place: Path) -> list[Any]:
    """What qemu-img tells of the images, and finds wrong with them, while nobody has them open."""
    found = []
    for name in IMAGES:
        status, info = qemu_img(place, "info", "--output=json", name)
        assert status == 0, info
        status, check = qemu_img(place, "check", "--output=json", name)
        wrong = {key: check.get(key) for key in ("corruptions", "leaks", "check-errors") if check.get(key)}
        specific = info["format-specific"]["data"]
        found.append((name, specific.get("bitmaps"), specific["corrupt"], info["dirty-flag"], status, wrong))
    return found


def a_life(days: list[Day], whose: str, place: Path) -> list[Any]:
    place.mkdir()
    for name in IMAGES:
        subprocess.run(
            [real("qemu-img"), "create", "-q", "-f", "qcow2", name, str(8 * MIB)],
            cwd=place, check=True, timeout=DEADLINE_S,
        )  # fmt: skip
    told: list[Any] = []
    for number, (day, by) in enumerate(zip(days, whose, strict=True)):
        told.append((number, lived(day, by == "R", place)))
        images = between(place)
        if KILLED not in day:
            assert not any(wrong for *_, wrong in images), (whose, number, images)
        told.append((number, images))
    return told


@pytest.fixture(scope="module")
def lived_by_qemu(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[Any]]]:
    """Where the real QEMU lived a life alone, and what was told; once each."""

    @functools.cache
    def lived_once(life: str) -> tuple[Path, list[Any]]:
        place = tmp_path_factory.mktemp("lives") / "real"
        return place, a_life(LIVES[life], "RRRR", place)

    return lived_once


@pytest.mark.parametrize("whose", MIXED)
@pytest.mark.parametrize("life", LIVES)
def test_whoever_is_next_finds_the_same(
    life: str, whose: str, lived_by_qemu: Callable[[str], tuple[Path, list[Any]]], tmp_path: Path
) -> None:
    real_place, by_qemu = lived_by_qemu(life)
    mixed = a_life(LIVES[life], whose, tmp_path / "mixed")
    for expected, found in zip(by_qemu, mixed, strict=True):
        assert found == expected
    for name in IMAGES:
        compared = subprocess.run(
            [real("qemu-img"), "compare", real_place / name, tmp_path / "mixed" / name],
            capture_output=True, text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert compared.stdout == "Images are identical.\n", (name, compared.stdout, compared.stderr)
