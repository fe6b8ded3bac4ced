"""KEY=VALUE text. Refusals are compared with the real storage daemon in
tests/interop/test_argument_errors.py.
"""

from __future__ import annotations

import pytest

from simulator import versions
from simulator.qapi.errors import ArgumentError
from simulator.qapi.keyval import parse, wants_help
from simulator.qapi.option import read_option

DAEMON = versions.load("7.2").schema("storage-daemon")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1,", {"a": "1"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=,,,,b", {"a": ",,b"}),
        ("a.b.c=1,a.b.d=2,a.e=3", {"a": {"b": {"c": "1", "d": "2"}, "e": "3"}}),
        ("a.1=y,a.0=x", {"a": ["x", "y"]}),
        ("a.0.b=x,a.0.c=y", {"a": [{"b": "x", "c": "y"}]}),
        ("a.0.0=x", {"a": [["x"]]}),
        ("__org.qemu_x-y=1", {"__org.qemu_x-y": "1"}),
        (
            "driver=qcow2,file.driver=file,file.filename=a,,b",
            {"driver": "qcow2", "file": {"driver": "file", "filename": "a,b"}},
        ),
    ],
)
def test_trees(text, tree):
    """The grammar at the head of util/keyval.c; cases as in tests/unit/test-keyval.c."""
    assert parse(text) == tree


def test_an_implied_key():
    assert parse("nbd,id=e", "type") == {"type": "nbd", "id": "e"}
    assert parse("type=nbd", "type") == {"type": "nbd"}


def test_help_is_seen_and_refused():
    assert wants_help("help")
    assert wants_help("driver=raw,?")
    assert not wants_help("driver=help")
    with pytest.raises(ArgumentError, match="Help is not available for this option"):
        parse("a=1,help")


def blockdev(text):
    return read_option(DAEMON, DAEMON.command("blockdev-add")["arg-type"], text, "driver")


def test_strings_become_what_the_schema_says():
    assert blockdev("null-co,node-name=7,size=0x10,read-zeroes=on,latency-ns=010") == {
        "driver": "null-co",
        "node-name": "7",
        "size": 16,
        "read-zeroes": True,
        "latency-ns": 8,
    }
    assert blockdev("qcow2,file.driver=file,file.filename=x,cache.direct=off,backing=base") == {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": "x"},
        "cache": {"direct": False},
        "backing": "base",
    }
    assert blockdev("quorum,vote-threshold=1,children.0=a,children.1.driver=raw,children.1.file=b") == {
        "driver": "quorum",
        "vote-threshold": 1,
        "children": ["a", {"driver": "raw", "file": "b"}],
    }


def test_json_keeps_its_types():
    assert blockdev('{"driver": "null-co", "size": 7}') == {"driver": "null-co", "size": 7}


def test_a_size_takes_a_suffix():
    text = "vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path=p,logical-block-size=4k"
    options = read_option(DAEMON, DAEMON.command("block-export-add")["arg-type"], text, "type")
    assert options["logical-block-size"] == 4096
