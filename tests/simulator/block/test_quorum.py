"""Driver quorum. What it tells and refuses was taken from QEMU 7.2: qemu-system-x86_64 with raw files, and
requests by its monitor's qemu-io."""

from __future__ import annotations

from errno import EIO, ENOSPC
from os import strerror

import pytest
from image_bench import WRITER, Bench

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.driver import STATUS_DATA, STATUS_ZERO
from simulator.block.errors import ProcessEnd, QmpError
from simulator.block.memory_host import MemoryHost
from simulator.block.status import status_of
from simulator.engine.outbox import Outbox

SIZE = 64 * 1024


class Quorum:
    """Three raw files of SIZE bytes, each with its own first bytes, and a quorum on what `children` are."""

    def __init__(self, contents, **options):
        self.host = MemoryHost()
        self.bench = Bench(self.host)
        self.outbox = Outbox(self.bench.scheduler)
        self.bench.graph.emit = self.outbox.emit
        for name, first in zip("abc", contents, strict=True):
            self.host.write_all(f"/{name}", first + bytes(SIZE - len(first)))
        children = options.pop("children", [file(name) for name in "abc"])
        self.node = self.bench.run(
            self.bench.graph.open(
                {"driver": "quorum", "node-name": "q", "vote-threshold": 2, "children": children, **options}
            )
        )
        self.backend = BlockBackend(self.bench.graph, "", WRITER, permissions.ALL)
        self.backend.insert(self.node)

    def run(self, name, *arguments):
        return self.bench.run(getattr(self.backend, name)(*arguments))

    def told(self):
        return [(name, data) for name, data, _ in self.outbox.drain()]


def file(name):
    return {"driver": "file", "filename": f"/{name}", "node-name": name}


def failing(name, *io_types):
    rules = [{"event": "none", "iotype": io_type, "errno": ENOSPC} for io_type in io_types]
    return {"driver": "blkdebug", "node-name": f"d{name}", "image": file(name), "inject-error": rules}


def bad(node_name, kind="read", **more):
    told = {"type": kind, **more, "node-name": node_name, "sector-num": 0, "sectors-count": 1}
    return "QUORUM_REPORT_BAD", told


FAILED = ("QUORUM_FAILURE", {"reference": "q", "sector-num": 0, "sectors-count": 1})
FULL = {"error": "No space left on device"}


def test_the_most_win_and_the_others_are_told():
    quorum = Quorum([b"", b"", b"xxxx"])
    assert quorum.run("read", 0, 4) == bytes(4)
    assert quorum.told() == [bad("c")]
    assert quorum.host.read_all("/c").startswith(b"xxxx")


def test_a_read_that_nobody_wins_fails():
    quorum = Quorum([b"a", b"b", b"c"])
    with pytest.raises(OSError, match=strerror(EIO)):
        quorum.run("read", 0, 512)
    assert quorum.told() == [FAILED]
    assert quorum.run("read", 512, 512) == bytes(512)
    assert quorum.told() == []


def test_who_lost_is_written_over_if_that_is_wanted():
    quorum = Quorum([b"", b"", b"xxxx"], **{"rewrite-corrupted": True})
    assert quorum.run("read", 0, 512) == bytes(512)
    assert quorum.told() == [bad("c")]
    assert quorum.host.read_all("/c") == bytes(SIZE)


def test_two_that_must_be_the_same():
    children = [file("a"), file("b")]
    quorum = Quorum([b"", b"xxxx", b""], children=children, blkverify=True)
    assert quorum.run("read", 512, 512) == bytes(512)
    with pytest.raises(ProcessEnd) as caught:
        quorum.run("read", 0, 512)
    assert (caught.value.status, caught.value.words) == (
        1,
        "quorum: offset=0 bytes=512 contents mismatch at offset 0",
    )


def test_writes_go_to_all_and_fail_as_most_do():
    quorum = Quorum([b"", b"", b""], children=[failing("a", "write"), failing("b", "write"), file("c")])
    with pytest.raises(OSError, match=strerror(ENOSPC)):
        quorum.run("write", 0, b"w" * 512)
    assert quorum.told() == [bad("da", "write", **FULL), bad("db", "write", **FULL), FAILED]
    assert quorum.host.read_all("/c").startswith(b"w" * 512)


def test_in_turn_the_first_that_can_be_read_is():
    children = [failing("a", "read"), file("b"), file("c")]
    quorum = Quorum([b"a", b"b", b"c"], children=children, **{"read-pattern": "fifo"})
    assert quorum.run("read", 0, 512).startswith(b"b")
    assert quorum.told() == [bad("da", **FULL)]


def test_no_more_than_one_event_a_second_tells_of_a_child():
    quorum = Quorum([b"", b"", b"xxxx"])
    for _ in range(3):
        quorum.run("read", 0, 512)
    assert quorum.told() == [bad("c")]
    quorum.bench.scheduler.advance_to(999_999_999)
    assert quorum.told() == []
    quorum.bench.scheduler.advance_to(1_000_000_000)
    assert quorum.told() == [bad("c")]
    quorum.bench.scheduler.advance_to(10_000_000_000)
    assert quorum.told() == []


def test_a_flush_goes_to_all():
    quorum = Quorum([b"", b"", b""], children=[failing("a", "flush"), file("b"), file("c")])
    quorum.run("write", 0, b"w" * 512)
    quorum.run("flush")
    told = {"type": "flush", **FULL, "node-name": "da", "sector-num": 0, "sectors-count": 0}
    assert quorum.told() == [("QUORUM_REPORT_BAD", told)]


def test_zeroes_are_where_all_have_them():
    quorum = Quorum([b"", b"", b""])
    quorum.run("write_zeroes", 0, SIZE, 0)
    quorum.run("write", 4096, b"d" * 4096)

    def kind_at(offset):
        flags, length = quorum.bench.run(status_of(quorum.node, offset, SIZE - offset, True))
        return flags & (STATUS_DATA | STATUS_ZERO), length

    assert kind_at(0) == (STATUS_ZERO, 4096)
    assert kind_at(4096) == (STATUS_DATA, 4096)
    assert kind_at(8192) == (STATUS_ZERO, SIZE - 8192)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"blkverify": True},
            "blkverify=on can only be set if there are exactly two files and vote-threshold is 2",
        ),
        (
            {"blkverify": True, "rewrite-corrupted": True, "children": [file("a"), file("b")]},
            "rewrite-corrupted=on cannot be used with blkverify=on",
        ),
        ({"vote-threshold": 0}, "Parameter 'vote-threshold' expects a value >= 1"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(QmpError) as caught:
        Quorum([b"", b"", b""], **options)
    assert caught.value.desc == words


def test_children_come_and_go():
    quorum = Quorum([b"", b"", b""])
    graph, driver = quorum.bench.graph, quorum.node.driver
    refused = []
    for call in (
        lambda: driver.add_child(graph.nodes["b"]),
        lambda: driver.remove_child(quorum.node.children["children.2"]),
        lambda: driver.remove_child(quorum.node.children["children.1"]),
        lambda: quorum.node.truncate(512),
    ):
        try:
            quorum.bench.run(call())
        except QmpError as error:
            refused.append(error.desc)
    assert refused == [
        "The node b already has a parent",
        "The number of children cannot be lower than the vote threshold 2",
        "Image format driver does not support resize",
    ]
    assert list(quorum.node.children) == ["children.0", "children.1"]
