"""Refused arguments, word for word against the real binaries of the recorded version.

Every request to a real binary also carries a member that it cannot know, so that none is ever carried out.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from scenarios.record.argument_types import NO_SUCH_MEMBER, Types, keyval_text
from scenarios.record.monitor import complaint, monitor
from simulator import versions
from simulator.qapi.errors import ArgumentError
from simulator.qapi.option import read_option

QEMU = Path("/usr/bin/qemu-system-x86_64")
STORAGE_DAEMON = Path("/usr/bin/qemu-storage-daemon")
BINARIES = {"system": QEMU, "storage-daemon": STORAGE_DAEMON}
VERSION = versions.load("7.2")
TIMEOUT_S = 300  # for all questions of a module; a loaded machine takes minutes

WRONG_VALUES = [True, 0, 1.5, "zork", None, [], {}, ["x"], [[]], {"zork": 1}]
# The largest and smallest of every width, and one beyond.
EDGES = [
    edge for bits in (7, 8, 15, 16, 31, 32, 63, 64) for edge in ((1 << bits) - 1, 1 << bits, -(1 << bits) - 1)
]


@pytest.fixture(scope="module", params=list(BINARIES))
def live(request):
    """(schema of the simulator, a function that asks the real binary)."""
    path = BINARIES[request.param]
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    with monitor(path, request.param, TIMEOUT_S) as asked:
        version = asked.greeting["version"]["qemu"]
        if (version["major"], version["minor"]) != (7, 2):
            pytest.skip(f"{path} is QEMU {version['major']}.{version['minor']}, not 7.2")

        def ask(command, arguments):
            return asked.command(command, arguments)["error"]["desc"]

        yield VERSION.schema(request.param), ask


def ours(schema, command, arguments):
    try:
        schema.check(command, arguments)
    except ArgumentError as error:
        return error.desc
    return None


def differences(live, cases):
    """The first few cases in which the simulator does not say what the real binary says."""
    schema, ask = live
    found, count = [], 0
    for command, arguments in cases:
        count += 1
        mine, theirs = ours(schema, command, arguments), ask(command, arguments)
        if mine != theirs:
            found.append(f"{command} {arguments}\n  real: {theirs}\n  ours: {mine}")
    assert count > 100, "the schema was not walked"
    return "\n".join(found[:5])


def walk(schema):
    """(command, types, place) for every member of every type that arguments can hold."""
    types = Types(schema.entries)
    seen = set()
    for command in schema.command_names():
        if command not in schema.unchecked:
            for place in types.places(schema.command(command)["arg-type"]):
                if (place.owner, place.member) not in seen:
                    seen.add((place.owner, place.member))
                    yield command, types, place


def test_every_member_with_values_of_every_kind(live):
    cases = (
        (command, {**place.wrap(value), NO_SUCH_MEMBER: 0})
        for command, _, place in walk(live[0])
        for value in WRONG_VALUES
    )
    assert differences(live, cases) == ""


def test_every_integer_at_the_edges_of_every_width(live):
    def cases():
        for command, _, place in walk(live[0]):
            if place.type_name in ("int", "[int]"):
                for number in EDGES:
                    value = number if place.type_name == "int" else [1, number]
                    yield command, {**place.wrap(value), NO_SUCH_MEMBER: 0}

    assert differences(live, cases()) == ""


def test_every_enum_value_is_taken(live):
    """Each value of an enum, in a value that is valid but for the member that nothing knows."""

    def cases():
        for command, types, place in walk(live[0]):
            for value in types.by_name[place.type_name].get("values", []):
                yield command, {**place.wrap(value), NO_SUCH_MEMBER: 0}

    assert differences(live, cases()) == ""


def test_missing_members(live):
    def cases():
        for command, types, place in walk(live[0]):
            inner = types.by_name[place.type_name]
            if inner["meta-type"] == "object":
                whole = types.smallest(place.type_name)
                for name in whole:
                    rest = {key: value for key, value in whole.items() if key != name}
                    yield command, {**place.wrap(rest), NO_SUCH_MEMBER: 0}
        for command in live[0].command_names():
            if command not in live[0].unchecked:
                yield command, {NO_SUCH_MEMBER: 0}

    assert differences(live, cases()) == ""


def test_which_of_several_unexpected_members_is_named(live):
    """By the order of GLib's hash table, members that were visited and removed in between included."""
    chance = random.Random(7)
    valid = {
        "blockdev-backup": {
            "device": "d",
            "target": "t",
            "sync": "none",
            "job-id": "j",
            "speed": 1,
            "compress": False,
        },
        "blockdev-add": {
            "driver": "qcow2",
            "node-name": "n",
            "file": {
                "driver": "file",
                "filename": "f",
                "read-only": True,
                "discard": "unmap",
                "locking": "off",
            },
            "cache": {"direct": True},
            "backing": None,
        },
        "query-jobs": {},
    }

    def cases():
        letters = "abcdefghijklmnopqrstuvwxyz-_0123456789é"
        for round_number in range(600):
            command = chance.choice(list(valid))
            members = list(valid[command].items())
            for _ in range(round_number % 40 + 1):
                name = "".join(chance.choice(letters) for _ in range(chance.randint(1, 12)))
                members.append(("z" + name, 0))
            chance.shuffle(members)
            arguments = dict(members)
            if command == "blockdev-add" and round_number % 3 == 0:
                extra = {name: 0 for name in arguments if name.startswith("z")}
                arguments = {**valid[command], "file": {**valid[command]["file"], **extra}, NO_SUCH_MEMBER: 0}
            yield command, arguments

    assert differences(live, cases()) == ""


# Written by hand: the mistakes that people make. Every one is refused before anything is done.
BY_HAND = [
    json.loads(line) for line in Path(__file__).with_name("argument_mistakes.jsonl").read_text().splitlines()
]


def test_mistakes_by_hand(live):
    schema, ask = live
    known = [line for line in BY_HAND if schema.command(line["execute"])]
    assert differences(live, [(line["execute"], line["arguments"]) for line in known]) == ""
    assert ask("blockdev-add", {"driver": "zork"}) == "Parameter 'driver' does not accept value 'zork'"


BLOCKDEV_OPTIONS = [
    "",
    "driver",
    "driver=",
    "zork",
    "zork=1",
    "=x",
    "null-co,=x",
    ",driver=null-co",
    "null-co,,x=y",
    "driver=null-co,node-name=n,zork=1",
    "null-co,zork=1",
    "null-co,node-name=a,,b,zork=1",
    "null-co,node-name=a,,,zork=1",
    "null-co,read-zeroes=on,zork=1",
    "null-co,read-zeroes=yes,zork=1",
    "null-co,read-zeroes=1,zork=1",
    "null-co,read-zeroes,zork=1",
    "null-co,size=1k,zork=1",
    "null-co,size=0x10,zork=1",
    "null-co,size=-1,zork=1",
    "null-co,size=,zork=1",
    "null-co,size= 7,zork=1",
    "null-co,size=7 ,zork=1",
    "null-co,size=08,zork=1",
    "null-co,size=+5,zork=1",
    "null-co,size=9223372036854775808,zork=1",
    "null-co,latency-ns=-1,zork=1",
    "null-co,latency-ns=18446744073709551616,zork=1",
    "null-co,help",
    "null-co,?",
    "qcow2",
    "qcow2,file=f,zork=1",
    "qcow2,file=f,file.driver=file",
    "qcow2,file.driver=file,file=f",
    "qcow2,file.driver=file,zork=1",
    "qcow2,file.driver=file,file.filename=f,zork=1",
    "qcow2,file.driver=file,file.filename=f,file.zork=1",
    "qcow2,file.driver=file,file.filename.x=f",
    "qcow2,file.0=f,zork=1",
    "qcow2,file.0=f,file.x=1",
    "qcow2,file=f,backing=,zork=1",
    "qcow2,file=f,cache.direct=on,zork=1",
    "qcow2,file=f,cache.direct=maybe,zork=1",
    "qcow2,file=f,cache=none,zork=1",
    "qcow2,file=f,cache-size=1M,zork=1",
    "qcow2,file=f,discard=unmap,discard=zork",
    "qcow2,.file=f",
    "qcow2,file.=f",
    "qcow2,file..x=f",
    "qcow2,0=f",
    "qcow2,fi le=f",
    "qcow2,__org.x_y=1",
    "qcow2,_x=1",
    "qcow2," + "a" * 127 + "=1",
    "qcow2," + "a" * 128 + "=1",
    "qcow2,a." + "b" * 128 + "=1",
    "quorum,vote-threshold=1,children.0=a,zork=1",
    "quorum,vote-threshold=1,children.1=a,zork=1",
    "quorum,vote-threshold=1,children.0=a,children.2=b,zork=1",
    "quorum,vote-threshold=1,children.0=a,children.x=b,zork=1",
    "quorum,vote-threshold=1,children.0.driver=raw,zork=1",
    "quorum,vote-threshold=1,children.0.driver=raw,children.0.file=f,children.00.driver=zork,zork=1",
    "quorum,vote-threshold=1,children.99999999999=a,zork=1",
    "quorum,vote-threshold=1,children=a,zork=1",
    "blkdebug,image=i,inject-error.0.event=none,inject-error.0.errno=x",
    "blkdebug,image=i,inject-error.0.event=none,inject-error.1.event=x",
    "blkdebug,image=i,max-transfer=2147483648",
    "copy-before-write,file=f,target=t,cbw-timeout=4294967296",
    "nbd,server.type=unix,server.path=p,zork=1",
    "nbd,server.type=inet,server.host=h,zork=1",
    "nbd,server.type=inet,server.host=h,server.port=10809,server.ipv4=sometimes",
    "{",
    "{}",
    '{"driver": "null-co", "zork": 1}',
    '{"driver": "null-co", "size": "1"}',
    '{"driver": "qcow2", "file": {"driver": "file"}}',
    '{"driver": "null-co"} x',
    "{'driver': 'null-co', 'zork': 1}",
]
SIZES = [
    "1",
    "1k",
    "1K",
    "1.5k",
    "1.k",
    ".5k",
    "1.5",
    "1.0",
    "0x10",
    "0x10k",
    "0x1.8",
    "1e3",
    "1.5e3k",
    "1.5E",
    "-1",
    "",
    "k",
    "1kk",
    "1 k",
    " 1k",
    "1B",
    "7E",
    "15E",
    "16E",
    "18446744073709551615",
    "18446744073709551616",
    "0.1G",
    "+1k",
    "0x",
    "1.9999999M",
    "3.14159265358979T",
    "-0",
    "0.5B",
    "inf",
    "nan",
]


def option_said(option, text):
    """The message of the storage daemon about an option that it refuses."""
    said = complaint(STORAGE_DAEMON, [option, text], TIMEOUT_S).splitlines()
    prefix = f"{STORAGE_DAEMON.name}: {option} {text}: "
    messages = [line.removeprefix(prefix) for line in said if line.startswith(prefix)]
    return messages[-1] if messages else said[-1].removeprefix(f"{STORAGE_DAEMON.name}: ")


def option_ours(command, text, implied_key):
    schema = VERSION.schema("storage-daemon")
    try:
        read_option(schema, schema.command(command)["arg-type"], text, implied_key)
    except ArgumentError as error:
        return error.desc
    return None


needs_storage_daemon = pytest.mark.skipif(
    not STORAGE_DAEMON.exists(), reason=f"{STORAGE_DAEMON} is not installed"
)


@needs_storage_daemon
@pytest.mark.parametrize("text", BLOCKDEV_OPTIONS)
def test_blockdev_option(text):
    assert option_ours("blockdev-add", text, "driver") == option_said("--blockdev", text)


@needs_storage_daemon
@pytest.mark.parametrize("size", SIZES)
def test_size_option(size):
    text = f"vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path=p,logical-block-size={size},zork=1"
    assert option_ours("block-export-add", text, "type") == option_said("--export", text)


def test_keyval_text_is_what_the_parser_reads():
    from simulator.qapi.keyval import parse

    tree = {"a": {"b": "1,2", "c": ["x", {"y": "z"}]}, "d": ""}
    assert keyval_text(tree) == "a.b=1,,2,a.c.0=x,a.c.1.y=z,d="
    assert parse(keyval_text(tree)) == tree
