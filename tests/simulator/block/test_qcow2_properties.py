"""Any requests, sizes, reopens and crashes: the image holds what a bytearray holds, and its counts are
right."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_bench import Bench, needs_qemu_img, qemu_content, qemu_img

from simulator.block.drivers import qcow2_check
from simulator.block.memory_host import MemoryHost
from simulator.serve.host_files import DiskHost

UNIT = 512
SIZE = 64 * UNIT  # 32 KiB in clusters of 512 or 4096: several L2 tables with the former
BACKING = b"\xbb" * (20 * UNIT) + bytes(7 * UNIT) + b"\xcc" * (13 * UNIT)

spans = st.tuples(st.integers(0, 63), st.integers(1, 24)).map(
    lambda t: (t[0] * UNIT, min(t[1], 64 - t[0]) * UNIT)
)
odd_spans = st.tuples(st.integers(0, SIZE - 1), st.integers(1, 3000)).map(
    lambda t: (t[0], min(t[1], SIZE - t[0]))
)
payloads = st.integers(1, 250)
requests = st.one_of(
    st.tuples(st.just("write"), st.one_of(spans, odd_spans), payloads),
    st.tuples(st.sampled_from(["zero", "unmap", "discard"]), spans, st.just(0)),
)
steps = st.one_of(
    requests,
    st.tuples(st.just("flush"), st.just((0, 0)), st.just(0)),
    st.tuples(st.just("reopen"), st.just((0, 0)), st.just(0)),
    st.tuples(
        st.just("resize"), st.tuples(st.integers(0, 80).map(lambda n: n * UNIT), st.just(0)), st.just(0)
    ),
)
shapes = st.fixed_dictionaries(
    {"cluster_size": st.sampled_from([512, 4096]), "refcount_bits": st.sampled_from([1, 16, 64])},
    optional={
        "version": st.just("v2"),
        "backing_file": st.just("base"),
        "preallocation": st.just("metadata"),
        "extended_l2": st.just(True),
    },
).map(lambda shape: coherent(shape))


def coherent(shape):
    if "extended_l2" in shape:
        shape.pop("version", None)
        shape["cluster_size"] = 32 * UNIT
    if "version" in shape:
        shape["refcount_bits"] = 16
    if "backing_file" in shape:
        shape.pop("preallocation", None)
        shape["backing_fmt"] = "raw"
    return shape


def piece_of(offset, length, value):
    """Not uniform, so that misplaced bytes show."""
    return bytes((value + i * 7) % 251 + 1 for i in range(offset, offset + length))


async def request(backend, verb, offset, length, value):
    if verb == "write":
        await backend.write(offset, piece_of(offset, length, value))
    elif verb == "discard":
        await backend.discard(offset, length)
    elif verb == "flush":
        await backend.flush()
    else:
        await backend.write_zeroes(offset, length, 4 if verb == "unmap" else 0)


class Oracle:
    """Bytes, and for each byte what it may be after a crash: what was flushed or came after."""

    def __init__(self, shape):
        self.shape = shape
        self.cluster = shape["cluster_size"]
        self.backing = BACKING if "backing_file" in shape else b""
        self.payload = bytearray(self.backing.ljust(SIZE, b"\0"))
        self.may = [{byte} for byte in self.payload]

    def put(self, offset, piece):
        self.payload[offset : offset + len(piece)] = piece
        for at, byte in enumerate(piece, offset):
            self.may[at].add(byte)

    def apply(self, verb, offset, length, value):
        end = offset + length
        if verb == "write":
            self.put(offset, piece_of(offset, length, value))
        elif verb == "discard":
            # Whole clusters, or up to the end of the disk. An old image cannot hide its backing file.
            offset += -offset % self.cluster
            end -= end % self.cluster if end != len(self.payload) else 0
            if offset < end and not (self.backing and "version" in self.shape):
                self.put(offset, bytes(end - offset))
        elif verb in ("zero", "unmap"):
            self.put(offset, bytes(length))

    def flushed(self):
        self.may = [{byte} for byte in self.payload]

    def resize(self, size):
        grown = size - len(self.payload)
        del self.payload[size:]
        self.payload += bytes(max(grown, 0))
        self.flushed()

    def assert_possible(self, found):
        assert len(found) == len(self.may)
        wrong = [at for at, byte in enumerate(found) if byte not in self.may[at]]
        assert not wrong, f"bytes {wrong[:5]} of {len(wrong)} hold what was never there"
        self.payload = bytearray(found)
        self.flushed()


def assert_sound(bench, image, leaks=0):
    result = bench.run(qcow2_check.check(image.driver))
    assert result.corruptions == 0, result.messages
    if leaks is not None:
        assert result.leaks == leaks, result.messages


def new_image(host, shape, path, name="base"):
    bench = Bench(host)
    if "backing_file" in shape:
        shape = {**shape, "backing_file": name}
        host.write_all(name, BACKING)
    bench.create(path, SIZE, **shape)
    return bench


def everything(image):
    return image.read(0, image.node.size_bytes) if image.node.size_bytes else b""


def play(bench, path, oracle, image, steps, host):
    """Run steps; returns the image as it is then open."""
    for verb, (offset, length), value in steps:
        if verb == "reopen":
            image.close()
            image = bench.open(path)
            assert_sound(bench, image)
        elif verb == "resize":
            # What a shrunk disk's last cluster holds behind the end shows again when it grows, as in QEMU.
            offset += -offset % oracle.cluster
            image.resize(offset)
            oracle.resize(offset)
        elif verb == "flush":
            image.flush()
            oracle.flushed()
        else:
            end = min(offset + length, len(oracle.payload))
            if offset < end:
                bench.run(request(image.backend, verb, offset, end - offset, value))
                oracle.apply(verb, offset, end - offset, value)
        assert everything(image) == bytes(oracle.payload), verb
    return image


@given(shapes, st.lists(steps, min_size=1, max_size=14))
@settings(max_examples=150, deadline=None)
def test_requests_one_after_another(shape, steps):
    host = MemoryHost()
    bench = new_image(host, shape, "/image")
    oracle = Oracle(shape)
    image = play(bench, "/image", oracle, bench.open("/image"), steps, host)
    image.flush()
    assert_sound(bench, image)
    image.close()
    image = bench.open("/image", writable=False)
    assert everything(image) == bytes(oracle.payload)
    assert_sound(bench, image)


@given(shapes, st.lists(steps, min_size=1, max_size=8), st.lists(steps, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_killed_process_leaves_no_corruption_and_no_strange_bytes(shape, before, after):
    host = MemoryHost()
    bench = new_image(host, shape, "/image")
    oracle = Oracle(shape)
    play(bench, "/image", oracle, bench.open("/image"), before, host)
    bench.kill()
    bench = Bench(host)
    image = bench.open("/image")
    assert_sound(bench, image, leaks=None)
    oracle.assert_possible(everything(image))
    image = play(bench, "/image", oracle, image, [step for step in after if step[0] != "reopen"], host)
    assert_sound(bench, image, leaks=None)


@given(shapes, st.integers(0, 2**32), st.lists(requests, min_size=2, max_size=8), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_requests_together_that_do_not_overlap(shape, seed, chosen, flushes):
    host = MemoryHost()
    new_image(host, shape, "/image")
    bench = Bench(host, seed)
    image = bench.open("/image")
    oracle = Oracle(shape)
    taken, together = [], []
    for verb, (offset, length), value in chosen:
        if all(offset + length <= first or end <= offset for first, end in taken):
            taken.append((offset, offset + length))
            together.append(request(image.backend, verb, offset, length, value))
            oracle.apply(verb, offset, length, value)
    together += [request(image.backend, "flush", 0, 0, 0) for _ in range(flushes)]
    bench.run_together(*together)
    assert everything(image) == bytes(oracle.payload)
    image.close()
    image = bench.open("/image")
    assert everything(image) == bytes(oracle.payload)
    assert_sound(bench, image)


@given(shapes, st.integers(0, 2**32), st.lists(requests, min_size=2, max_size=8), st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_a_process_killed_in_the_middle_of_requests(shape, seed, chosen, turns):
    host = MemoryHost()
    new_image(host, shape, "/image")
    bench = Bench(host, seed)
    image = bench.open("/image")
    oracle = Oracle(shape)
    for number, (verb, (offset, length), value) in enumerate(chosen):
        bench.scheduler.spawn(request(image.backend, verb, offset, length, value), f"request {number}")
        oracle.apply(verb, offset, length, value)
    bench.scheduler.spawn(request(image.backend, "flush", 0, 0, 0), "flush")
    for _ in range(turns):
        if bench.scheduler._ready:
            task = bench.scheduler._ready.popleft()
            task.step()
    for task in list(bench.scheduler._ready):
        task.kill()
    bench.kill()
    bench = Bench(host)
    image = bench.open("/image", writable=False)
    assert_sound(bench, image, leaks=None)
    oracle.assert_possible(everything(image))


@needs_qemu_img
@given(shapes, st.lists(steps, min_size=1, max_size=14))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_real_qemu_img_agrees(tmp_path, shape, steps):
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    host, path = DiskHost(), str(tmp_path / "image")
    bench = new_image(host, shape, path, str(tmp_path / "base"))
    oracle = Oracle(shape)
    play(bench, path, oracle, bench.open(path), steps, host).close()
    assert "No errors were found" in qemu_img("check", path).stdout
    if oracle.payload:
        assert qemu_content(path, path) == bytes(oracle.payload)


def test_memory_of_a_big_disk_is_by_what_was_written():
    host = MemoryHost()
    bench = Bench(host)
    bench.create("/image", 16 << 40)
    image = bench.open("/image")
    for at in range(0, 16 << 40, 1 << 38):
        image.write(at, b"\x11" * 65536)
    image.flush()
    assert host.allocated_bytes < 64 * (65536 * 2) + (64 << 20)
    assert image.read((16 << 40) - 65536, 65536) == bytes(65536)
    image.close()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_the_refcount_table_grows_past_its_first_cluster(bits):
    host = MemoryHost()
    bench = Bench(host)
    bench.create("/image", 4 << 20, cluster_size=512, refcount_bits=bits)
    image = bench.open("/image")
    for at in range(0, 4 << 20, 1 << 16):
        image.write(at, b"\x77" * 65536)
    image.close()
    image = bench.open("/image")
    assert image.read(0, 4 << 20) == b"\x77" * (4 << 20)
    assert_sound(bench, image)
    assert (image.driver.header.reftable_clusters > 1) == (bits >= 32)
