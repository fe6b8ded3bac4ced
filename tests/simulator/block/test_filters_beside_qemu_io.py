"""Filters that write more than they are told to: the same requests by qemu-io, and on the simulator, must
leave the same files."""

from __future__ import annotations

import json
import subprocess

import pytest
from image_bench import WRITER, Bench, needs_qemu_img

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import ProcessEnd, QmpError
from simulator.block.memory_host import MemoryHost

MIB = 1 << 20
# (request, offset, length, byte); of the byte is what is written.
REQUESTS = [
    ("write", 0, 4096, 0x11),
    ("write_zeroes", 8192, 4096, 0),
    ("write", 512, 512, 0x22),
    ("flush", 0, 0, 0),
    ("discard", 16384, 4096, 0),
    ("write", 65536, 131072, 0x33),
    ("flush", 0, 0, 0),
]


def file(path):
    return {"driver": "file", "filename": path, "discard": "unmap"}


class Simulated:
    """A tree of options on a host in memory that has `sizes` long files."""

    def __init__(self, options, sizes):
        self.host = MemoryHost(cwd="/run")
        for name, size in sizes.items():
            self.host.write_all(f"/run/{name}", bytes(size))
        self.bench = Bench(self.host)
        node = self.bench.run(self.bench.graph.open({"discard": "unmap", **options}))
        self.backend = BlockBackend(self.bench.graph, "", WRITER, permissions.ALL)
        self.backend.insert(node)

    def run(self, request, offset, length, byte):
        arguments = {
            "write": (offset, bytes([byte]) * length),
            "flush": (),
            "write_zeroes": (offset, length, 0),
            "discard": (offset, length),
            "read": (offset, length),
        }
        return self.bench.run(getattr(self.backend, request)(*arguments[request]))

    def close(self):
        self.bench.run(self.backend.remove())


def by_qemu_io(directory, options, sizes, requests):
    for name, size in sizes.items():
        (directory / name).write_bytes(bytes(size))
    words = {
        "write": "write -P {byte} {offset} {length}",
        "write_zeroes": "write -z {offset} {length}",
        "flush": "flush",
        "discard": "discard {offset} {length}",
    }
    commands = [
        words[name].format(offset=offset, length=length, byte=byte) for name, offset, length, byte in requests
    ]
    image = "json:" + json.dumps({"discard": "unmap", **options})
    arguments = [part for command in commands for part in ("-c", command)]
    subprocess.run(
        ["qemu-io", "-t", "writeback", *arguments, image],
        cwd=directory,
        check=True,
        timeout=60,
        capture_output=True,
    )


@needs_qemu_img
@pytest.mark.parametrize("more", [{}, {"log-sector-size": 4096}, {"log-super-update-interval": 2}])
def test_the_log_of_writes(tmp_path, more):
    sizes = {"disk": MIB, "log": 0}
    options = {"driver": "blklogwrites", "file": file("disk"), "log": file("log"), **more}
    by_qemu_io(tmp_path, options, sizes, REQUESTS)
    simulated = Simulated(options, sizes)
    for request in REQUESTS:
        simulated.run(*request)
    simulated.close()
    for name in sizes:
        assert simulated.host.read_all(f"/run/{name}") == (tmp_path / name).read_bytes(), name


@needs_qemu_img
def test_a_log_goes_on(tmp_path):
    sizes = {"disk": MIB, "log": 0}
    options = {"driver": "blklogwrites", "file": file("disk"), "log": file("log")}
    by_qemu_io(tmp_path, options, sizes, REQUESTS)
    by_qemu_io(tmp_path, {**options, "log-append": True}, {}, REQUESTS)
    simulated = Simulated(options, sizes)
    for request in REQUESTS:
        simulated.run(*request)
    simulated.close()
    node = simulated.bench.run(
        simulated.bench.graph.open({"discard": "unmap", "log-append": True, **options})
    )
    simulated.backend = BlockBackend(simulated.bench.graph, "", WRITER, permissions.ALL)
    simulated.backend.insert(node)
    for request in REQUESTS:
        simulated.run(*request)
    simulated.close()
    assert simulated.host.read_all("/run/log") == (tmp_path / "log").read_bytes()


@needs_qemu_img
def test_a_preallocated_file_is_cropped_at_the_end(tmp_path):
    options = {
        "driver": "qcow2",
        "file": {"driver": "preallocate", "prealloc-size": MIB, "prealloc-align": 65536, "file": file("i")},
    }
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "i", "8M"], cwd=tmp_path, check=True, timeout=60
    )
    new_image = (tmp_path / "i").read_bytes()
    requests = [("write", 0, 65536, 0x11), ("write", 4 * MIB, 65536, 0x22)]
    by_qemu_io(tmp_path, options, {}, requests)
    simulated = Simulated({"driver": "null-co"}, {})
    simulated.host.write_all("/run/i", new_image)
    node = simulated.bench.run(simulated.bench.graph.open(options))
    simulated.backend = BlockBackend(simulated.bench.graph, "", WRITER, permissions.ALL)
    simulated.backend.insert(node)
    simulated.run(*requests[0])
    ahead = len(simulated.host.read_all("/run/i"))
    assert ahead > len(new_image) + MIB
    assert ahead % 65536 == 0
    simulated.run(*requests[1])
    simulated.close()
    assert len(simulated.host.read_all("/run/i")) == (tmp_path / "i").stat().st_size


def test_two_images_that_must_be_the_same():
    """What QEMU 7.2 says as it exits."""
    simulated = Simulated(
        {"driver": "blkverify", "raw": file("raw"), "test": file("test")}, {"raw": MIB, "test": MIB}
    )
    simulated.run("write", 0, 4096, 0x11)
    assert simulated.host.read_all("/run/raw") == simulated.host.read_all("/run/test")
    assert simulated.run("read", 0, 512, 0) == bytes([0x11]) * 512
    raw = simulated.host.read_all("/run/raw")
    simulated.host.write_all("/run/raw", raw[:4] + b"x" + raw[5:])
    with pytest.raises(ProcessEnd) as caught:
        simulated.run("read", 0, 512, 0)
    assert caught.value.status == 1
    assert caught.value.words == "blkverify: read offset=0 bytes=512 contents mismatch at offset 4"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"align": 3}, "Cannot meet constraints with align 3"),
        ({"max-transfer": 1}, ""),
        ({"align": 512, "max-transfer": 1000}, "Cannot meet constraints with max-transfer 1000"),
        ({"opt-write-zero": 1000, "align": 512}, "Cannot meet constraints with opt-write-zero 1000"),
        (
            {"opt-write-zero": 8192, "max-write-zero": 4096},
            "Cannot meet constraints with max-write-zero 4096",
        ),
        ({"opt-discard": 8192, "max-discard": 4096}, "Cannot meet constraints with max-discard 4096"),
    ],
)
def test_limits_that_cannot_be_met(options, words):
    """As QEMU 7.2 refuses them."""
    tree = {"driver": "blkdebug", "image": {"driver": "null-co", "size": MIB}, **options}
    try:
        Simulated(tree, {})
        refused = ""
    except QmpError as error:
        refused = error.desc
    assert refused == words


def test_blkdebug_splits_what_is_longer_than_it_likes():
    """A rule for one sector fails the piece that has it, and what came before is written: of 16 KiB, QEMU
    7.2's qemu-io leaves 8."""
    rule = {"event": "none", "iotype": "write", "sector": 16}
    simulated = Simulated(
        {"driver": "blkdebug", "image": file("disk"), "max-transfer": 4096, "inject-error": [rule]},
        {"disk": MIB},
    )
    with pytest.raises(OSError, match="Input/output error"):
        simulated.run("write", 0, 16384, 0x01)
    assert simulated.host.read_all("/run/disk") == bytes([1]) * 8192 + bytes(MIB - 8192)


def test_blkdebug_reads_around_what_is_not_aligned():
    simulated = Simulated({"driver": "blkdebug", "image": file("disk"), "align": 4096}, {"disk": MIB})
    simulated.run("write", 0, 16384, 0x01)
    simulated.run("write", 100, 10, 0x02)
    wanted = bytes([1]) * 100 + bytes([2]) * 10 + bytes([1]) * (16384 - 110)
    assert simulated.host.read_all("/run/disk")[:16384] == wanted
    assert simulated.run("read", 99, 12, 0) == b"\x01" + b"\x02" * 10 + b"\x01"
