"""Contents against a plain bytearray with a written flag for each byte."""

from __future__ import annotations

import tracemalloc
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.block.contents import Contents

SIZE = 300

payloads = st.one_of(
    st.binary(max_size=SIZE), st.builds(lambda v, n: bytes([v]) * n, st.integers(0, 2), st.integers(0, SIZE))
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, SIZE), payloads),
        st.tuples(st.just("fill"), st.integers(0, SIZE), st.integers(1, SIZE), st.integers(0, 255)),
        st.tuples(st.just("punch"), st.integers(0, SIZE), st.integers(0, SIZE)),
        st.tuples(st.just("resize"), st.integers(0, 2 * SIZE)),
        st.tuples(st.just("snapshot")),
    ),
    max_size=40,
)


class Plain:
    def __init__(self):
        self.payload, self.written = bytearray(), []

    def grow(self, size):
        missing = size - len(self.payload)
        if missing > 0:
            self.payload += bytes(missing)
            self.written += [False] * missing

    def write(self, offset, payload):
        if payload:
            self.grow(offset + len(payload))
            self.payload[offset : offset + len(payload)] = payload
            self.written[offset : offset + len(payload)] = [True] * len(payload)

    def fill(self, offset, length, value):
        self.write(offset, bytes([value]) * length)

    def punch(self, offset, length):
        for at in range(offset, min(offset + length, len(self.payload))):
            self.payload[at], self.written[at] = 0, False

    def resize(self, size):
        del self.payload[size:], self.written[size:]
        self.grow(size)

    def copy(self):
        other = Plain()
        other.payload, other.written = self.payload[:], self.written[:]
        return other


def agree(subject, plain, offset, length):
    assert subject.size_bytes == len(plain.payload)
    assert subject.read(0, len(plain.payload) + 7) == bytes(plain.payload) + bytes(7)
    expected = (bytes(plain.payload) + bytes(4 * SIZE))[offset : offset + length]
    assert subject.read(offset, length) == expected
    assert subject.written_bytes == sum(plain.written)
    runs, at = [], 0
    for written, group in groupby(plain.written):
        count = len(list(group))
        runs.append((at, at + count, written))
        at += count
    assert list(subject.runs(0, len(plain.payload))) == runs


@given(steps, st.integers(0, SIZE), st.integers(1, SIZE))
@settings(max_examples=300, deadline=None)
def test_any_steps_agree_with_a_bytearray(steps, offset, length):
    subject, plain, kept = Contents(), Plain(), []
    for name, *arguments in steps:
        if name == "snapshot":
            kept.append((subject, plain))
            subject, plain = subject.snapshot(), plain.copy()
        else:
            getattr(subject, name)(*arguments)
            getattr(plain, name)(*arguments)
        agree(subject, plain, offset, length)
    for old, old_plain in kept:
        agree(old, old_plain, offset, length)


def test_memory_is_by_what_was_written():
    tracemalloc.start()
    disk = Contents(16 << 40)
    disk.fill(0, 8 << 40, 0x5A)
    for i in range(1000):
        disk.write((9 << 40) + i * (1 << 30), bytes([i % 255 + 1]) * 65536)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1 << 20
    assert disk.read((4 << 40) - 2, 4) == b"ZZZZ"
    assert disk.read((9 << 40) + (7 << 30) + 65534, 4) == b"\x08\x08\0\0"


def test_overwriting_most_of_a_big_payload_frees_it():
    disk = Contents()
    pattern = bytes(range(256)) * 4096
    tracemalloc.start()
    disk.write(0, bytes(bytearray(pattern)))
    disk.fill(100, len(pattern) - 200, 1)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 100_000
    assert disk.read(len(pattern) - 100, 100) == pattern[-100:]
