"""Drivers file, raw, null-co and null-aio. Words and numbers are those of QEMU 7.2 (block/file-posix.c,
raw-format.c, null.c)."""

from __future__ import annotations

from errno import EINVAL, ENOSPC, ENOTSUP

import pytest
from image_bench import WRITER, Bench

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.driver import NO_FALLBACK, STATUS_DATA, STATUS_OFFSET_VALID, STATUS_ZERO
from simulator.block.drivers import file as file_driver
from simulator.block.errors import QmpError
from simulator.block.host import LockError
from simulator.block.memory_host import MemoryHost
from simulator.block.status import status_of

KIB = 1024


@pytest.fixture
def host():
    return MemoryHost()


@pytest.fixture
def bench(host):
    return Bench(host)


def opened(bench, options, perm=WRITER, shared=permissions.ALL):
    node = bench.run(bench.graph.open(options))
    backend = BlockBackend(bench.graph, "", perm, shared)
    backend.insert(node)
    return backend


def refusal(call, *arguments):
    with pytest.raises(QmpError) as caught:
        call(*arguments)
    return caught.value.desc


def test_a_file_that_cannot_be_opened(bench, host):
    def attempt(path, **more):
        return refusal(opened, bench, {"driver": "file", "filename": path, **more})

    assert attempt("/nope") == "Could not open '/nope': No such file or directory"
    host.mkdir("/d")
    assert attempt("/d") == "Could not open '/d': Is a directory"
    assert attempt("/d", **{"read-only": True}) == "'file' driver requires '/d' to be a regular file"
    host.write_all("/ro", b"x")
    host.set_mode("/ro", writable=False)
    assert attempt("/ro") == "Could not open '/ro': Permission denied"
    native = {"aio": "native", "read-only": True}
    assert "aio=native was specified, but it requires cache.direct=on" in attempt("/ro", **native)
    assert not bench.graph.nodes


def test_auto_read_only_opens_for_writing_when_somebody_writes(bench, host):
    host.write_all("/a", bytes(512))
    host.set_mode("/a", writable=False)
    options = {"driver": "file", "filename": "/a", "auto-read-only": True}
    reader = opened(bench, options, permissions.CONSISTENT_READ)
    assert bench.run(reader.read(0, 512)) == bytes(512)
    assert (
        refusal(reader.set_permissions, WRITER, permissions.ALL) == "Could not open '/a': Permission denied"
    )
    host.set_mode("/a")
    reader.set_permissions(WRITER, permissions.ALL)
    bench.run(reader.write(0, b"x" * 512))
    assert host.read_all("/a") == b"x" * 512


def test_a_file_keeps_its_locks_when_it_becomes_writable(bench, host):
    host.write_all("/a", bytes(512))
    options = {"driver": "file", "filename": "/a", "auto-read-only": True}
    ours = opened(bench, options, permissions.CONSISTENT_READ, permissions.ALL & ~permissions.WRITE)
    other = Bench(host)
    with pytest.raises(LockError) as caught:
        opened(other, {"driver": "file", "filename": "/a"})
    assert caught.value.desc == 'Failed to get "write" lock'
    ours.set_permissions(WRITER, permissions.ALL & ~permissions.WRITE)
    with pytest.raises(LockError):
        opened(other, {"driver": "file", "filename": "/a"})
    unlocked = {"driver": "file", "filename": "/a", "locking": "off"}
    opened(other, unlocked)
    ours.set_permissions(permissions.CONSISTENT_READ, permissions.ALL)
    opened(other, {"driver": "file", "filename": "/a"})


def test_a_file_counts_whole_sectors_and_shows_its_holes(bench, host):
    host.write_all("/a", b"x" * 700)
    ours = opened(bench, {"driver": "file", "filename": "/a"})
    assert ours.node.size_bytes == KIB
    assert bench.run(ours.read(512, 512)) == b"x" * 188 + bytes(324)
    bench.run(ours.node.truncate(64 * KIB))
    assert bench.run(status_of(ours.node, 0, 64 * KIB, True))[1] == 4 * KIB
    length, flags, child, offset = bench.run(ours.node.driver.block_status(8 * KIB, KIB, True))
    assert (length, flags, child, offset) == (KIB, STATUS_ZERO | STATUS_OFFSET_VALID, None, 8 * KIB)
    length, flags, _, _ = bench.run(ours.node.driver.block_status(0, 64 * KIB, False))
    assert (length, flags) == (64 * KIB, STATUS_DATA | STATUS_OFFSET_VALID)


def test_create_locks_sizes_and_allocates_as_qemu_does(bench, host):
    def create(**options):
        bench.run(file_driver.create(bench.graph, {"filename": "/a", **options}))

    create(size=64 * KIB)
    file = host.open("/a", read_only=True)
    assert (file.size_bytes(), file.allocated_bytes()) == (64 * KIB, 4 * KIB)
    create(size=64 * KIB, preallocation="falloc")
    assert (file.allocated_bytes(), file.run_at(0, 64 * KIB)) == (64 * KIB, (64 * KIB, False))
    create(size=64 * KIB, preallocation="full")
    assert (file.allocated_bytes(), file.run_at(0, 64 * KIB)) == (64 * KIB, (64 * KIB, True))
    assert (
        refusal(lambda: create(size=KIB, preallocation="metadata"))
        == "Unsupported preallocation mode: metadata"
    )
    host.file_limit_bytes = KIB
    assert refusal(lambda: create(size=64 * KIB)) == "Could not resize file: File too large"
    opened(bench, {"driver": "file", "filename": "/a"}, WRITER, permissions.CONSISTENT_READ)
    assert refusal(lambda: create(size=0)) == 'Failed to get "write" lock'
    missing = {"filename": "/d/a", "size": 0}
    desc = refusal(lambda: bench.run(file_driver.create(bench.graph, missing)))
    assert desc == "Could not create '/d/a': No such file or directory"


def test_raw_shows_a_window(bench, host):
    host.write_all("/a", bytes([number // 512 for number in range(8 * 512)]))
    window = {"driver": "raw", "offset": 1024, "size": 1024, "file": {"driver": "file", "filename": "/a"}}
    ours = opened(bench, window)
    assert ours.node.size_bytes == 1024
    assert bench.run(ours.read(0, 1024)) == b"\2" * 512 + b"\3" * 512
    bench.run(ours.write(512, b"!" * 512))
    assert host.read_all("/a")[1536:2048] == b"!" * 512
    driver = ours.node.driver
    for call, number in (
        (driver.read(1024, 1), EINVAL),
        (driver.write(1000, b"x" * 100, 0), ENOSPC),
        (driver.write_zeroes(1025, 1, 0), ENOSPC),
        (driver.discard(0, 1025), ENOSPC),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is looked at
            bench.run(call)
        assert caught.value.errno == number
    assert refusal(lambda: bench.run(ours.node.truncate(2048))) == "Cannot resize fixed-size raw disks"


@pytest.mark.parametrize(
    ("options", "desc"),
    [
        ({"offset": 5000}, "Offset (5000) cannot be greater than size of the containing file (4096)"),
        (
            {"offset": 1024, "size": 4096},
            "The sum of offset (1024) and size (4096) has to be smaller or equal to the  actual size of the "
            "containing file (4096)",
        ),
        ({"size": 1000}, "Specified size is not multiple of 512"),
    ],
)
def test_raw_refuses_a_window_that_does_not_fit(bench, host, options, desc):
    host.write_all("/a", bytes(4096))
    described = {"driver": "raw", **options, "file": {"driver": "file", "filename": "/a"}}
    assert refusal(opened, bench, described) == desc
    assert not bench.graph.nodes


def test_raw_without_a_window_grows_with_its_file(bench, host):
    host.write_all("/a", bytes(4096))
    ours = opened(bench, {"driver": "raw", "file": {"driver": "file", "filename": "/a"}})
    bench.run(ours.node.truncate(8192))
    assert (ours.node.size_bytes, len(host.read_all("/a"))) == (8192, 8192)


@pytest.mark.parametrize("driver", ["null-co", "null-aio"])
def test_null(bench, driver):
    ours = opened(bench, {"driver": driver, "latency-ns": 5_000_000})
    assert (ours.node.size_bytes, ours.node.filename) == (1 << 30, f"{driver}://")
    began = bench.scheduler.now_ns
    bench.run(ours.write(0, b"x" * 512))
    assert bench.run(ours.read(0, 512)) == bytes(512)
    assert bench.scheduler.now_ns - began == 10_000_000
    assert bench.run(ours.node.driver.block_status(0, 512, True))[1] == STATUS_OFFSET_VALID
    with pytest.raises(OSError, match="not supported") as caught:  # QEMU has to write them: observed over NBD
        bench.run(ours.write_zeroes(0, 512, NO_FALLBACK))
    assert caught.value.errno == ENOTSUP
    bench.run(ours.write_zeroes(0, 512, 0))
    zeroes = opened(bench, {"driver": driver, "size": 1000, "read-zeroes": True})
    assert zeroes.node.size_bytes == 1024
    assert bench.run(zeroes.node.driver.block_status(0, 512, True))[1] == STATUS_OFFSET_VALID | STATUS_ZERO
    assert refusal(lambda: bench.run(ours.node.truncate(0))) == "Image format driver does not support resize"
