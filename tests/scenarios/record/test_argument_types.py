"""What the probe finds in a binary whose hidden types are known: 7.2's QAPI files say what they are."""

from __future__ import annotations

import pytest

from scenarios.record.argument_types import Types
from simulator import versions

# Type and member as qapi/*.json of 7.2 declares them, and the way there from a command's arguments.
DECLARED = {
    ("blockdev-add", "=copy-before-write", "cbw-timeout"): "uint32",
    ("blockdev-add", "=null-co", "latency-ns"): "uint64",
    ("blockdev-add", "=null-co", "size"): "int64",
    ("blockdev-add", "=blkdebug", "max-transfer"): "int32",
    ("blockdev-add", "=blkdebug", "align"): "int64",
    ("blockdev-add", "=nbd", "reconnect-delay"): "uint32",
    ("blockdev-add", "=qcow2", "cache-size"): "int64",
    ("blockdev-backup", "speed"): "int64",
    ("block-dirty-bitmap-add", "granularity"): "uint32",
    ("blockdev-create", "options", "=qcow2", "size"): "uint64",
    ("nbd-server-start", "max-connections"): "uint32",
    ("nbd-server-start", "addr", "=inet", "data", "to"): "uint16",
    ("block_resize", "size"): "int64",
}


@pytest.mark.parametrize("path", DECLARED, ids="/".join)
@pytest.mark.parametrize("binary", versions.BINARIES)
def test_width(binary, path):
    schema = versions.load("7.2").schema(binary)
    owner = schema.type_at(*path[:-1])
    while schema.by_name[owner]["meta-type"] != "object":
        owner = schema.by_name[owner]["element-type"]
    assert schema.type_at(*path) == "int"
    assert schema.integers.get(owner, {}).get(path[-1], "int64") == DECLARED[path]


def test_sizes_are_told_from_plain_numbers_where_the_command_line_shows_it():
    schema = versions.load("7.2").schema("storage-daemon")
    vhost = schema.type_at("block-export-add", "=vhost-user-blk")
    assert schema.integers[vhost]["logical-block-size"] == "size"


@pytest.mark.parametrize("binary", versions.BINARIES)
def test_alternates_have_names(binary):
    schema = versions.load("7.2").schema(binary)
    names = set(schema.alternates.values())
    assert {"BlockdevRef", "BlockdevRefOrNull", "Qcow2OverlapChecks", "StrOrNull"} <= names
    assert schema.alternates[schema.type_at("blockdev-add", "=qcow2", "file")] == "BlockdevRef"
    assert schema.alternates[schema.type_at("blockdev-add", "=qcow2", "backing")] == "BlockdevRefOrNull"
    merge = schema.by_name[schema.type_at("block-dirty-bitmap-merge", "bitmaps")]
    assert schema.alternates[merge["element-type"]] == "BlockDirtyBitmapOrStr"


def test_device_add_alone_takes_anything():
    assert versions.load("7.2").schema("system").unchecked == {"device_add"}
    assert versions.load("7.2").schema("storage-daemon").unchecked == frozenset()


def test_smallest_values_are_valid_for_every_command():
    schema = versions.load("7.2").schema("system")
    types = Types(schema.entries)
    for command in schema.command_names():
        arguments = types.smallest(schema.command(command)["arg-type"])
        assert schema.check(command, arguments) is arguments
