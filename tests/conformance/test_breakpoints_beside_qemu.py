"""Requests stopped at blkdebug's breakpoints beside the real QEMU 7.2: which stop, what goes on, and in which
words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qemu_pair import Step, compare

SIZE = 1 << 20
HELD = 'file=json:{"driver":"raw",,"file":"rules"}'


def hmp(line: str) -> Step:
    return "human-monitor-command", {"command-line": line}


def io(target: str, command: str) -> Step:
    return hmp(f'qemu-io {target} "{command}"')


def create(options: dict[str, Any]) -> list[Step]:
    return [("blockdev-create", {"job-id": "m", "options": options}), ("job-dismiss", {"id": "m"})]


def disk(directory: Path, image_format: str) -> list[Step]:
    """Nodes file, rules (blkdebug) and disk; drive `held` stands on rules, drive `guest` on disk."""
    path = str(directory / f"disk.{image_format}")
    steps = create({"driver": "file", "filename": path, "size": SIZE if image_format == "raw" else 0})
    steps.append(("blockdev-add", {"driver": "file", "node-name": "file", "filename": path}))
    if image_format == "qcow2":
        steps += create({"driver": "qcow2", "file": "file", "size": SIZE})
    return [
        *steps,
        ("blockdev-add", {"driver": "blkdebug", "node-name": "rules", "image": "file"}),
        hmp(f"drive_add 0 if=none,id=held,readonly=on,{HELD}"),
        ("blockdev-add", {"driver": image_format, "node-name": "disk", "file": "rules"}),
        hmp('drive_add 0 if=none,id=guest,file=json:{"driver":"raw",,"file":"disk"}'),
    ]


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
@pytest.mark.parametrize(
    ("event", "request_"),
    [
        ("write_aio", "aio_write -P 1 0 64k"),
        ("pwritev", "aio_write -P 1 0 64k"),
        ("read_aio", "aio_read -P 1 64k 64k"),
        ("write_aio", "aio_read -P 0 512k 64k"),
    ],
)
def test_one_request_stops_and_others_pass(
    image_format: str, event: str, request_: str, tmp_path: Path
) -> None:
    compare(
        [
            *disk(tmp_path, image_format),
            io("guest", "write -P 1 64k 64k"),
            io("held", f"break {event} tag"),
            io("guest", request_),
            io("guest", "read -P 0 0 64k"),
            io("guest", "aio_read -P 1 64k 64k"),
            io("guest", "aio_write -P 2 64k 64k"),
            io("held", "resume tag"),
            io("guest", "read -P 1 0 64k"),
            io("guest", "read -P 2 64k 64k"),
            io("held", "resume tag"),
            io("held", "remove_break tag"),
        ],
        tmp_path,
    )


def test_two_tags_for_one_event_and_two_requests_of_one_tag(tmp_path: Path) -> None:
    """Every breakpoint of an event stops the same request, which goes on when all are resumed."""
    write = io("guest", "aio_write -P 1 0 4k")
    compare(
        [
            *disk(tmp_path, "raw"),
            io("held", "break write_aio one"),
            io("held", "break write_aio two"),
            write,
            io("held", "resume one"),
            io("guest", "read -P 0 0 4k"),
            io("held", "resume two"),
            io("guest", "read -P 1 0 4k"),
            io("held", "break write_aio tag"),
            io("held", "break pwritev tag"),
            write,
            io("guest", "aio_write -P 2 8k 4k"),
            io("held", "resume tag"),
            io("guest", "read -P 2 8k 4k"),
            io("held", "resume tag"),
            io("held", "resume tag"),
        ],
        tmp_path,
    )


def test_a_breakpoint_taken_away_lets_all_go_that_stopped_there(tmp_path: Path) -> None:
    compare(
        [
            *disk(tmp_path, "raw"),
            io("held", "break write_aio tag"),
            io("held", "remove_break tag"),
            io("guest", "write -P 1 0 4k"),
            io("held", "break write_aio tag"),
            io("held", "break read_aio tag"),
            io("guest", "aio_write -P 2 0 4k"),
            io("guest", "aio_read -P 1 0 4k"),
            io("held", "wait_break tag"),
            io("held", "remove_break tag"),
            io("guest", "read -P 2 0 4k"),
            io("held", "remove_break tag"),
        ],
        tmp_path,
    )


def test_what_cannot_be_done_and_where_it_is_looked_for(tmp_path: Path) -> None:
    """From a node on top, blkdebug is found on the way down, and not from below it."""
    compare(
        [
            *disk(tmp_path, "qcow2"),
            io("disk", "break write_aio tag"),
            io("guest", "aio_write 0 4k"),
            io("guest", "resume tag"),
            io("held", "break no_event tag"),
            io("held", "break write_aio"),
            io("held", "break write_aio a b"),
            io("held", "resume"),
            io("held", "remove_break"),
            io("held", "wait_break"),
            io("held", "resume tag"),
            io("file", "break write_aio tag"),
            io("file", "remove_break tag"),
            io("file", "resume tag"),
            io("nowhere", "resume tag"),
            io("held", "sleep 1x"),
            io("held", "sleep -1"),
            io("held", "sleep"),
            io("held", "sleep 0"),
        ],
        tmp_path,
    )


@pytest.mark.parametrize(
    "filename",
    [
        '{"driver":"raw",,"file":"nowhere"}',
        '{"driver":"raw",,"file":{"driver":"null-co",,"size":65536}}',
        '{"driver":"null-co",,"size":65536,,"read-zeroes":true}',
        '{"driver":"raw"',
        "[]",
        "",
    ],
)
def test_a_drive_whose_file_name_is_json(filename: str, tmp_path: Path) -> None:
    compare(
        [
            hmp(f"drive_add 0 if=none,id=d,file=json:{filename}"),
            io("d", "length"),
        ],
        tmp_path,
    )


def test_what_a_drive_says_itself_comes_before_what_its_json_says(tmp_path: Path) -> None:
    json = 'json:{"driver":"raw",,"size":65536}'
    compare(
        [hmp(f"drive_add 0 if=none,id=d,driver=null-co,size=128k,file={json}"), io("d", "length")], tmp_path
    )
