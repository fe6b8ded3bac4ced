"""MemoryHost and DiskHost pass one suite; both agree with a bytearray and with each other's extents."""

from __future__ import annotations

import os
from errno import EACCES, EBADF, EFBIG, EISDIR, ENOENT, ENOSPC, ENOTDIR

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.block import permissions
from simulator.block.host import HostProcess, ImageLock, LockError
from simulator.block.memory_host import MemoryHost
from simulator.serve.host_files import DiskHost

W, CR, R, WU = permissions.WRITE, permissions.CONSISTENT_READ, permissions.RESIZE, permissions.WRITE_UNCHANGED


@pytest.fixture(params=["memory", "disk"])
def host(request, tmp_path):
    if request.param == "memory":
        return MemoryHost(cwd=str(tmp_path))
    return DiskHost()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "image")


def errno_of(call, *arguments, **named) -> int:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is looked at
        call(*arguments, **named)
    assert caught.value.strerror == os.strerror(caught.value.errno)
    return caught.value.errno


def test_open_refuses_with_the_errno_of_linux(host, path, tmp_path):
    assert errno_of(host.open, path) == ENOENT
    assert errno_of(host.open, path + "/x") == ENOENT
    host.write_all(path, b"abc")
    assert errno_of(host.open, path + "/x") == ENOTDIR
    assert errno_of(host.open, str(tmp_path)) == EISDIR
    directory = host.open(str(tmp_path), read_only=True)
    assert not directory.is_regular
    directory.close()
    assert errno_of(host.unlink, path + "2") == ENOENT
    file = host.open(path, read_only=True)
    assert errno_of(file.write, 0, b"x") == EBADF


def test_reads_behind_the_end_are_zero_and_writes_grow(host, path):
    file = host.open(path, create=True)
    file.write(5, b"hello")
    assert file.size_bytes() == 10
    assert file.read(3, 10) == b"\0\0hello\0\0\0"
    assert file.read(100, 3) == bytes(3)
    file.truncate(7)
    file.truncate(9)
    assert file.read(0, 9) == b"\0\0\0\0\0he\0\0"
    assert file.run_at(20, 30) == (30, False)
    file.close()


def test_names(host, path, tmp_path):
    host.write_all(path, b"a")
    host.mkdir(str(tmp_path / "d"))
    host.rename(path, str(tmp_path / "d" / "b"))
    assert host.list(str(tmp_path)) == ["d"]
    assert host.list(str(tmp_path / "d")) == ["b"]
    assert host.read_all(str(tmp_path / "d" / "b")) == b"a"
    assert not host.exists(path)
    host.unlink(str(tmp_path / "d" / "b"))
    assert host.list(str(tmp_path / "d")) == []


BLOCK = 4096
spans = st.tuples(st.integers(0, 10 * BLOCK), st.integers(1, 5 * BLOCK))
aligned = st.tuples(st.integers(0, 10), st.integers(1, 5)).map(lambda t: (t[0] * BLOCK, t[1] * BLOCK))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.one_of(spans, aligned), st.integers(1, 255)),
        st.tuples(st.sampled_from(["zero", "unmap", "discard"]), st.one_of(spans, aligned), st.just(0)),
        st.tuples(st.just("truncate"), spans, st.just(0)),
    ),
    min_size=1,
    max_size=12,
)


def apply(file, verb, offset, length, value):
    if verb == "write":
        file.write(offset, bytes([value]) * length)
    elif verb == "discard":
        file.discard(offset, length)
    elif verb == "truncate":
        file.truncate(offset)
    else:
        file.write_zeroes(offset, length, verb == "unmap")


def apply_plain(plain: bytearray, verb, offset, length, value):
    end = offset + length
    if verb == "truncate":
        del plain[offset:]
        plain.extend(bytes(offset - len(plain)))
        return
    if verb in ("discard", "unmap"):
        end = min(end, len(plain))
    elif end > len(plain):
        plain.extend(bytes(end - len(plain)))
    if end > offset:
        plain[offset:end] = bytes([value]) * (end - offset)


@given(steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_hosts_hold_the_same_bytes_and_allocate_the_same_blocks(tmp_path, steps):
    name = str(tmp_path / "image")
    if os.path.exists(name):
        os.unlink(name)
    memory, disk, plain = MemoryHost(cwd=str(tmp_path)).open("image", create=True), None, bytearray()
    disk = DiskHost().open(name, create=True)
    for verb, (offset, length), value in steps:
        apply(memory, verb, offset, length, value)
        apply(disk, verb, offset, length, value)
        apply_plain(plain, verb, offset, length, value)
    assert memory.read(0, len(plain) + 10) == bytes(plain) + bytes(10) == disk.read(0, len(plain) + 10)
    assert memory.size_bytes() == disk.size_bytes() == len(plain)
    # What a file system calls a hole always reads as zero.
    for file in (memory, disk):
        at = 0
        while at < len(plain):
            end, is_data = file.run_at(at, len(plain))
            assert end > at
            assert is_data or not any(plain[at:end])
            at = end
    memory.close()
    disk.close()


def test_extents_are_those_of_ext4(host, path):
    file = host.open(path, create=True)
    # ext4 writes zeroes where fallocate was asked for little, so all is big here.
    big = 16 * BLOCK
    file.write(0, b"\x01" * (8 * big))
    file.truncate(16 * big)
    file.flush()
    file.discard(2 * big + 1, 2 * BLOCK)  # only one whole block
    file.write_zeroes(6 * big, big, unmap=False)
    file.flush()
    runs, at = [], 0
    while at < 16 * big:
        end, is_data = file.run_at(at, 16 * big)
        runs.append((at // BLOCK, end // BLOCK, is_data))
        at = end
    assert runs == [
        (0, 33, True), (33, 34, False), (34, 96, True), (96, 112, False), (112, 128, True), (128, 256, False),
    ]  # fmt: skip
    # Zeroed without unmap stays allocated, the hole does not.
    assert file.allocated_bytes() == 127 * BLOCK
    file.close()


# Locks. What is expected is QEMU's rule: what one needs, the others must share.
@pytest.mark.parametrize(
    ("first", "second", "refusal"),
    [
        ((CR, permissions.ALL), (CR, permissions.ALL), None),
        ((CR | W | R, permissions.ALL & ~(W | R)), (CR, permissions.ALL), None),
        ((CR | W, permissions.ALL & ~W), (CR | W, permissions.ALL), 'Failed to get "write" lock'),
        ((CR | W, permissions.ALL), (CR, permissions.ALL & ~W), 'Failed to get shared "write" lock'),
        ((R, permissions.ALL), (CR, CR | W | WU), 'Failed to get shared "resize" lock'),
        ((CR, W | WU | R), (CR, permissions.ALL), 'Failed to get "consistent read" lock'),
    ],
)
def test_locks_between_two_opens(host, path, first, second, refusal):
    host.write_all(path, b"x")
    one, two = ImageLock(host.open(path)), ImageLock(host.open(path))
    one.prepare(*first)
    one.commit(*first)
    if refusal is None:
        two.prepare(*second)
        two.commit(*second)
    else:
        with pytest.raises(LockError) as caught:
            two.prepare(*second)
        assert caught.value.desc == refusal
        assert caught.value.hint == f"Is another process using the image [{path}]?"
    # Whatever the second one tried, it left no lock behind that stops the first from what it may do.
    two.file.close()
    one.prepare(permissions.ALL, 0)
    one.file.close()


def test_abort_gives_back_only_what_is_new(host, path):
    host.write_all(path, b"x")
    one, two = ImageLock(host.open(path)), ImageLock(host.open(path))
    one.prepare(CR | W, permissions.ALL)
    one.commit(CR | W, permissions.ALL)
    one.prepare(CR | W | R, permissions.ALL & ~W)
    one.abort()
    two.prepare(CR | W, permissions.ALL & ~R)
    two.commit(CR | W, permissions.ALL & ~R)
    with pytest.raises(LockError):
        one.prepare(CR | W | R, permissions.ALL)
    one.file.close()
    two.file.close()


def test_a_killed_process_leaves_bytes_and_no_locks(host, path):
    process = HostProcess(host)
    file = process.open(path, create=True)
    lock = ImageLock(file)
    lock.prepare(W, 0)
    file.write(0, b"kept")
    process.kill()
    after = host.open(path)
    ImageLock(after).prepare(W, 0)
    assert after.read(0, 4) == b"kept"
    after.close()


# Limits that only the host in memory can set at will.
def test_a_full_host_refuses_and_frees():
    host = MemoryHost(capacity_bytes=3 * BLOCK)
    file = host.open("/a", create=True)
    file.write(0, b"x" * (3 * BLOCK))
    file.write(100, b"y")
    assert errno_of(file.write, 3 * BLOCK, b"x") == ENOSPC
    assert errno_of(host.write_all, "/b", b"x") == ENOSPC
    assert file.size_bytes() == 3 * BLOCK
    file.discard(0, BLOCK)
    host.write_all("/b", b"x")
    assert host.allocated_bytes == 3 * BLOCK
    host.unlink("/a")
    assert host.allocated_bytes == BLOCK
    file.write(0, b"x" * BLOCK)


def test_rights_and_the_largest_file():
    host = MemoryHost()
    host.write_all("/a", b"x")
    host.set_mode("/a", writable=False)
    assert errno_of(host.open, "/a") == EACCES
    assert host.open("/a", read_only=True).read(0, 1) == b"x"
    host.file_limit_bytes = 10
    file = host.open("/b", create=True)
    assert errno_of(file.write, 5, b"123456") == EFBIG
    assert errno_of(file.truncate, 11) == EFBIG


def test_a_rename_and_an_unlink_leave_open_files_alone():
    host = MemoryHost()
    host.write_all("/a", b"old")
    host.write_all("/b", b"new")
    file = host.open("/a")
    host.rename("/b", "/a")
    assert file.read(0, 3) == b"old"
    assert host.read_all("/a") == b"new"
