"""The argument check by itself; its words are compared with real QEMU in
tests/interop/test_argument_errors.py.
"""

from __future__ import annotations

import time
import tracemalloc

import pytest

from simulator import versions
from simulator.qapi.errors import ArgumentError, Words
from simulator.qapi.schema import Schema

SYSTEM = versions.load("7.2").schema("system")

BACKUP = {"job-id": "j", "device": "a", "target": "t", "sync": "none", "speed": 0}
QCOW2 = {
    "driver": "qcow2",
    "node-name": "n",
    "file": {"driver": "file", "filename": "x", "node-name": "f"},
    "read-only": True,
    "backing": None,
}


def test_valid_arguments_come_back_as_they_are():
    assert SYSTEM.check("blockdev-backup", BACKUP) is BACKUP
    assert SYSTEM.check("blockdev-add", QCOW2) is QCOW2


def test_an_unknown_command_is_a_key_error():
    with pytest.raises(KeyError):
        SYSTEM.check("zork", {})
    with pytest.raises(KeyError):
        SYSTEM.check("JOB_STATUS_CHANGE", {})
    assert SYSTEM.command("JOB_STATUS_CHANGE") is None
    assert SYSTEM.event("JOB_STATUS_CHANGE") is not None


def test_a_negative_number_for_an_unsigned_one_wraps_around():
    """qobject_input_type_uint64 takes it "for backward compatibility"; block-set-write-threshold(-1) is
    2**64-1.
    """
    arguments = {"node-name": "n", "write-threshold": -1}
    assert SYSTEM.check("block-set-write-threshold", arguments) == {
        "node-name": "n",
        "write-threshold": 2**64 - 1,
    }
    assert arguments["write-threshold"] == -1


def test_unchecked_commands_take_anything():
    arguments = {"driver": "virtio-blk-pci", "zork": [1]}
    assert SYSTEM.check("device_add", arguments) is arguments


def test_words_are_the_versions():
    old = Schema(SYSTEM.entries, words=Words(bad_enum_value="Invalid parameter '{value}'"))
    with pytest.raises(ArgumentError) as refused:
        old.check("blockdev-backup", {**BACKUP, "sync": "zork"})
    assert (refused.value.desc, refused.value.error_class) == ("Invalid parameter 'zork'", "GenericError")
    with pytest.raises(AttributeError, match="no such text: zork; there are bad_enum_value"):
        Words(zork="x")


def test_types_by_their_way():
    assert SYSTEM.type_at("blockdev-backup", "device") == "str"
    assert SYSTEM.type_at("blockdev-backup", "zork") is None
    assert SYSTEM.type_at("zork") is None
    assert SYSTEM.type_at("blockdev-add", "=nbd", "server", "type") == SYSTEM.type_at(
        "blockdev-add", "=qcow2", "file", "=nbd", "server", "type"
    )
    assert SYSTEM.enum_values(SYSTEM.type_at("blockdev-backup", "sync")) == [
        "top",
        "full",
        "none",
        "incremental",
        "bitmap",
    ]


def test_a_struct_of_the_command_lines_own():
    """--nbd-server takes NbdServerOptions, which introspection does not show."""
    address = SYSTEM.type_at("blockdev-add", "=nbd", "server")
    schema = SYSTEM.with_struct(
        "NbdServerOptions", [("addr", address, False), ("max-connections", "uint32", True)]
    )
    tree = {"addr": {"type": "unix", "path": "S"}, "max-connections": "0"}
    assert schema.convert_keyval("NbdServerOptions", tree) == {
        "addr": {"type": "unix", "path": "S"},
        "max-connections": 0,
    }
    with pytest.raises(ArgumentError, match=r"Parameter 'addr\.path' is missing"):
        schema.convert_keyval("NbdServerOptions", {"addr": {"type": "unix"}})
    with pytest.raises(ArgumentError, match="Parameter 'max-connections' expects uint32_t"):
        schema.convert_keyval("NbdServerOptions", {**tree, "max-connections": "4294967296"})


def test_out_of_band():
    assert SYSTEM.allows_oob("migrate-recover")
    assert not SYSTEM.allows_oob("query-block")
    assert not SYSTEM.allows_oob("zork")


def fastest_us(command, arguments):
    rounds = 2000
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(rounds):
            SYSTEM.check(command, arguments)
        times.append(time.perf_counter() - begin)
    return min(times) / rounds * 1e6


def test_a_valid_call_costs_microseconds():
    assert fastest_us("blockdev-backup", BACKUP) <= 3
    assert fastest_us("blockdev-add", QCOW2) <= 15


def test_unknown_tags_are_not_remembered():
    """A client that sends wrong drivers without end must not fill the memory."""

    def send(numbers):
        for number in numbers:
            try:
                SYSTEM.check("blockdev-add", {"driver": f"zork{number}"})
            except ArgumentError:
                continue
            raise AssertionError("accepted")

    send(range(10))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        send(range(1000))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
