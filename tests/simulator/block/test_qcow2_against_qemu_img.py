"""Images that we write are read and found sound by real qemu-img, and the other way round."""

from __future__ import annotations

import json
import struct
import subprocess

import pytest
from image_bench import Bench, info, needs_qemu_img, qemu_content, qemu_img

from simulator.block.bitmap import DirtyBitmap, find_bitmap
from simulator.block.drivers import qcow2_bitmaps, qcow2_check
from simulator.block.errors import QmpError
from simulator.block.host import LockError
from simulator.serve.host_files import DiskHost

pytestmark = needs_qemu_img

MIB = 1 << 20


@pytest.fixture
def bench():
    return Bench(DiskHost())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "a.qcow2")


def assert_clean(path):
    done = qemu_img("check", path)
    assert "No errors were found on the image." in done.stdout, done.stdout


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": "v2"},
        {"cluster_size": 512},
        {"cluster_size": 2 * MIB},
        {"refcount_bits": 1},
        {"refcount_bits": 64, "cluster_size": 4096},
        {"lazy_refcounts": True},
        {"preallocation": "metadata"},
        {"preallocation": "falloc", "cluster_size": 4096},
        {"preallocation": "full"},
        {"extended_l2": True},
        {"extended_l2": True, "cluster_size": 16384, "preallocation": "metadata"},
        {"extended_l2": True, "preallocation": "falloc"},
    ],
    ids=str,
)
def test_a_created_image_is_what_qemu_img_creates(bench, path, tmp_path, options):
    bench.create(path, 5 * MIB, **options)
    theirs = str(tmp_path / "theirs.qcow2")
    given = []
    for key, value in options.items():
        text = {"v2": "0.10", "True": "on"}.get(str(value), value)
        given += ["-o", f"{'compat' if key == 'version' else key}={text}"]
    qemu_img("create", "-q", "-f", "qcow2", *given, theirs, "5M")
    assert_clean(path)
    ours_info, theirs_info = info(path), info(theirs)
    for described in (ours_info, theirs_info):
        del described["filename"], described["actual-size"]
    assert ours_info == theirs_info
    image = bench.open(path)
    ours = image.driver.image_info()
    assert ours["format-specific"] == theirs_info["format-specific"]
    assert ours["cluster-size"] == theirs_info["cluster-size"]
    assert ours["dirty-flag"] == theirs_info["dirty-flag"]
    image.close()
    if "preallocation" not in options:
        with open(path, "rb") as a, open(theirs, "rb") as b:
            assert a.read() == b.read()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": "v2"},
        {"cluster_size": 512},
        {"refcount_bits": 4},
        {"extended_l2": True},
        {"extended_l2": True, "cluster_size": 16384, "lazy_refcounts": True},
    ],
    ids=str,
)
def test_writes_zeroes_discards_and_sizes(bench, path, options):
    bench.create(path, 3 * MIB + 512, **options)
    image = bench.open(path)
    oracle = bytearray(3 * MIB + 512)
    for offset, piece in (
        (0, b"\x11" * 65536),
        (70_000, b"abc" * 100),
        (2 * MIB + 7, bytes(range(256)) * 3000),
    ):
        image.write(offset, piece)
        oracle[offset : offset + len(piece)] = piece
    image.write_zeroes(4096, 100_000)
    oracle[4096:104_096] = bytes(100_000)
    image.discard(0, 65536)
    oracle[0:65536] = bytes(65536)
    image.write(3 * MIB, b"z" * 512)
    oracle[3 * MIB :] = b"z" * 512
    assert image.read(0, len(oracle)) == bytes(oracle)
    image.resize(5 * MIB)
    oracle += bytes(5 * MIB - len(oracle))
    image.close()
    assert_clean(path)
    assert qemu_content(path, path) == bytes(oracle)
    image = bench.open(path)
    image.resize(MIB)
    image.close()
    assert_clean(path)
    assert qemu_content(path, path) == bytes(oracle[:MIB])


def test_backing_files_and_copy_on_write(bench, path, tmp_path):
    base = str(tmp_path / "base.qcow2")
    bench.create(base, MIB)
    image = bench.open(base)
    image.write(0, b"\xaa" * (MIB - 1000))
    image.close()
    bench.create(path, 2 * MIB, backing_file="base.qcow2", backing_fmt="qcow2")
    described = info(path)
    assert described["backing-filename"] == "base.qcow2"
    assert described["backing-filename-format"] == "qcow2"
    oracle = bytearray(b"\xaa" * (MIB - 1000) + bytes(1000 + MIB))
    image = bench.open(path)
    assert image.read(0, 2 * MIB) == bytes(oracle)
    image.write(100_000, b"\xbb" * 10)
    oracle[100_000:100_010] = b"\xbb" * 10
    image.write_zeroes(200_000, 100_000)
    oracle[200_000:300_000] = bytes(100_000)
    image.discard(655_360, 65_536)  # in an overlay a discarded cluster reads as zero
    oracle[655_360:720_896] = bytes(65_536)
    image.write(MIB - 500, b"\xcc" * 1000)
    oracle[MIB - 500 : MIB + 500] = b"\xcc" * 1000
    assert image.read(0, 2 * MIB) == bytes(oracle)
    image.close()
    assert_clean(path)
    assert_clean(base)
    assert qemu_content(path, path) == bytes(oracle)


def test_a_grown_overlay_does_not_show_a_longer_backing_file(bench, path, tmp_path):
    base = str(tmp_path / "base.raw")
    with open(base, "wb") as file:
        file.write(b"\xaa" * (2 * MIB))
    bench.create(path, MIB, backing_file=base, backing_fmt="raw")
    image = bench.open(path)
    image.resize(3 * MIB)
    assert image.read(0, 3 * MIB) == b"\xaa" * MIB + bytes(2 * MIB)
    image.close()
    assert_clean(path)
    assert qemu_content(path, path) == b"\xaa" * MIB + bytes(2 * MIB)


def test_the_header_is_rewritten_for_another_backing_file(bench, path, tmp_path):
    base = str(tmp_path / "base.raw")
    with open(base, "wb") as file:
        file.write(b"\xaa" * MIB)
    bench.create(path, MIB)
    image = bench.open(path)
    image.write(0, b"\x01" * 512)
    bench.run(image.driver.change_backing_file(base, "raw"))
    image.close()
    assert info(path)["full-backing-filename"] == base
    assert_clean(path)
    # The rest of the cluster that was written before has its zeroes already.
    assert qemu_content(path, path) == b"\x01" * 512 + bytes(65_024) + b"\xaa" * (MIB - 65_536)


@pytest.mark.parametrize("options", [{}, {"extended_l2": True}], ids=str)
def test_maps_agree(bench, path, options):
    bench.create(path, 4 * MIB, **options)
    image = bench.open(path)
    image.write(3 * MIB + 5000, b"y" * 3000)
    image.write_zeroes(2 * MIB + 2048, 4096)
    image.write(65_536, b"x" * 65_536 * 3)
    image.write_zeroes(MIB, 131_072)
    image.write_zeroes(131_072, 65_536)  # stays allocated
    image.flush()
    real = json.loads(qemu_img("map", "-U", "--output=json", path).stdout)
    ours, at = [], 0
    while at < 4 * MIB:
        length, flags, _, host = bench.run(image.driver.block_status(at, 4 * MIB - at, True))
        entry = {
            "start": at,
            "length": length,
            "present": bool(flags & 3),
            "zero": not flags & 1,
            "data": bool(flags & 1),
        }
        if flags & 4:
            entry["offset"] = host
        ours.append(entry)
        at += length
    image.close()
    for entry in real:
        del entry["depth"]
    assert ours == real


# What real qemu-img makes, we read.
def written_by_qemu(path, tmp_path, *convert_options):
    raw = str(tmp_path / "source.raw")
    payload = bytearray(3 * MIB)
    payload[0:100_000] = bytes(range(250)) * 400
    payload[MIB : MIB + 300_000] = b"text " * 60_000
    with open(raw, "wb") as file:
        file.write(payload)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *convert_options, raw, path)
    return bytes(payload)


@pytest.mark.parametrize("options", [[], ["-c"], ["-o", "compat=0.10"],
                                     ["-o", "cluster_size=512,refcount_bits=2"],
                                     ["-o", "extended_l2=on"], ["-c", "-o", "extended_l2=on"],
                                     ["-o", "preallocation=full"]], ids=str)  # fmt: skip
def test_images_of_qemu_img_are_read_and_written_on(bench, path, tmp_path, options):
    oracle = bytearray(written_by_qemu(path, tmp_path, *options))
    image = bench.open(path)
    assert image.read(0, 3 * MIB) == bytes(oracle)
    image.write(50_000, b"new")
    oracle[50_000:50_003] = b"new"
    image.write(MIB + 10, b"\x42" * 200_000)
    oracle[MIB + 10 : MIB + 200_010] = b"\x42" * 200_000
    image.close()
    assert_clean(path)
    assert qemu_content(path, path) == bytes(oracle)


@pytest.mark.parametrize("raw", [False, True])
def test_a_data_file_of_qemu_img_is_written_on(bench, path, tmp_path, raw):
    data = str(tmp_path / "data.raw")
    options = f"data_file={data}" + (",data_file_raw=on" if raw else "")
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "1M")
    oracle = bytearray(MIB)
    told = info(path)["format-specific"]
    image = bench.open(path)
    assert image.driver.image_info()["format-specific"] == told
    image.write(70_000, b"new" * 1000)
    oracle[70_000:73_000] = b"new" * 1000
    image.write(300_000, b"old" * 50_000)
    oracle[300_000:450_000] = b"old" * 50_000
    image.write_zeroes(327_680, 65_536)
    oracle[327_680:393_216] = bytes(65_536)
    assert image.read(0, MIB) == bytes(oracle)
    image.close()
    assert_clean(path)
    assert qemu_content(path, path) == bytes(oracle)
    if raw:
        with open(data, "rb") as file:
            assert file.read() == bytes(oracle)


def test_a_new_table_takes_no_cluster_that_another_in_the_file_still_leads_to(bench, path):
    bench.create(path, MIB, cluster_size=512)
    image = bench.open(path)
    image.write(0, b"x" * 512)
    image.flush()
    image.discard(0, 512)
    image.write(MIB // 2, b"y" * 512)
    bench.kill()
    done = json.loads(qemu_img("check", "--output=json", path, check=False).stdout)
    assert "corruptions" not in done, done


def test_an_entry_that_leads_into_the_tables_is_not_written_to(bench, path):
    bench.create(path, MIB)
    image = bench.open(path)
    image.write(0, b"x" * 65_536)
    image.close()
    with open(path, "r+b") as file:
        file.seek(4 * 65_536)  # the L2 table; its first entry names the refcount table from now on
        file.write(struct.pack(">Q", 1 << 63 | 65_536))
    image = bench.open(path)
    with pytest.raises(OSError, match="Input/output error"):
        image.write(0, b"y" * 512)
    with pytest.raises(OSError, match="No medium found"):
        image.read(0, 512)
    image.close()
    assert info(path)["format-specific"]["data"]["corrupt"]
    with pytest.raises(QmpError, match="Image is corrupt; cannot be opened read/write"):
        bench.open(path)


def test_an_image_with_an_internal_snapshot_keeps_it(bench, path, tmp_path):
    oracle = bytearray(written_by_qemu(path, tmp_path))
    qemu_img("snapshot", "-c", "before", path)
    image = bench.open(path)
    image.write(1000, b"\x42" * 100_000)
    after = oracle[:]
    after[1000:101_000] = b"\x42" * 100_000
    assert image.read(0, 3 * MIB) == bytes(after)
    image.close()
    assert_clean(path)
    assert qemu_content(path, path) == bytes(after)
    qemu_img("snapshot", "-a", "before", path)
    assert_clean(path)
    assert qemu_content(path, path) == bytes(oracle)


def test_a_dirty_image_of_a_killed_qemu_is_repaired(bench, path):
    qemu_img("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "1M")
    subprocess.run(
        ["qemu-io", "-c", "write -P 0x5a 0 128k", "-c", "flush", "-c", "abort", path],
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert info(path)["dirty-flag"]
    image = bench.open(path)
    assert image.read(0, 131_072) == b"\x5a" * 131_072
    image.close()
    assert not info(path)["dirty-flag"]
    assert_clean(path)


def test_check_counts_as_qemu_img_does(bench, path, tmp_path):
    written_by_qemu(path, tmp_path, "-c")
    with open(path, "r+b") as file:  # a leaked cluster: refcount of cluster 40 is 1
        file.seek(2 * 65_536 + 80)
        file.write(b"\0\1")
        file.truncate(41 * 65_536)
    real = json.loads(qemu_img("check", "--output=json", path, check=False).stdout)
    image = bench.open(path, writable=False)
    ours = bench.run(qcow2_check.check(image.driver))
    image.close()
    assert ours.leaks == real["leaks"] == 1
    assert ours.corruptions == 0
    assert ours.messages == ["Leaked cluster 40 refcount=1 reference=0"]
    assert ours.allocated_clusters == real["allocated-clusters"]
    assert ours.compressed_clusters == real["compressed-clusters"]
    assert ours.total_clusters == real["total-clusters"]
    assert ours.image_end_offset == real["image-end-offset"]


# Bitmaps.
def dirty_ranges(path, name, tmp_path):
    """Which parts a real qemu-nbd calls dirty."""
    with subprocess.Popen(
        ["qemu-nbd", "-r", "-t", "-k", str(tmp_path / "nbd"), "-f", "qcow2", "-B", name, path]
    ) as server:
        try:
            for _ in range(200):
                if (tmp_path / "nbd").exists():
                    break
                subprocess.run(["sleep", "0.02"], check=True)
            done = qemu_img(
                "map", "--output=json", "--image-opts",
                f"driver=nbd,server.type=unix,server.path={tmp_path / 'nbd'},"
                f"x-dirty-bitmap=qemu:dirty-bitmap:{name}",
            )  # fmt: skip
        finally:
            server.terminate()
    return [(run["start"], run["length"]) for run in json.loads(done.stdout) if not run["data"]]


def test_bitmaps_that_we_store_are_what_qemu_loads(bench, path, tmp_path):
    bench.create(path, 100 * MIB, cluster_size=4096)
    image = bench.open(path)
    first = DirtyBitmap(image.node, "first", 65_536)
    second = DirtyBitmap(image.node, "second", 512)
    forgotten = DirtyBitmap(image.node, "forgotten", 65_536)
    first.persistent = second.persistent = True
    second.enabled = False
    second.set(10 * MIB, 30 * MIB)
    image.write(70_000, b"x")
    image.write(99 * MIB, b"x" * MIB)
    assert forgotten.count_bytes == first.count_bytes
    image.close()
    assert_clean(path)
    assert info(path)["format-specific"]["data"]["bitmaps"] == [
        {"flags": [], "name": "second", "granularity": 512},
        {"flags": ["auto"], "name": "first", "granularity": 65_536},
    ]
    assert dirty_ranges(path, "first", tmp_path) == [(65_536, 65_536), (99 * MIB, MIB)]
    assert dirty_ranges(path, "second", tmp_path) == [(10 * MIB, 30 * MIB)]


def test_bitmaps_of_qemu_img_are_loaded_marked_in_use_and_stored_again(bench, path, tmp_path):
    qemu_img("create", "-q", "-f", "qcow2", path, "10M")
    qemu_img("bitmap", "--add", "-g", "64k", path, "b")
    subprocess.run(["qemu-io", "-c", "write 1M 128k", path], check=True, capture_output=True, timeout=30)
    image = bench.open(path)
    bitmap = find_bitmap(image.node, "b")
    assert (bitmap.persistent, bitmap.enabled, bitmap.granularity_bytes) == (True, True, 65_536)
    assert list(bitmap.dirty_areas()) == [(MIB, 131_072)]
    # Only for reading and with -U another process sees it in use.
    described = json.loads(qemu_img("info", "-U", "--output=json", path).stdout)
    assert described["format-specific"]["data"]["bitmaps"][0]["flags"] == ["in-use", "auto"]
    image.write(5 * MIB, b"x")
    image.close()
    assert_clean(path)
    assert dirty_ranges(path, "b", tmp_path) == [(MIB, 131_072), (5 * MIB, 65_536)]


def test_a_bitmap_of_a_killed_process_is_inconsistent(bench, path):
    qemu_img("create", "-q", "-f", "qcow2", path, "10M")
    qemu_img("bitmap", "--add", path, "b")
    bench.open(path)
    bench.kill()
    assert info(path)["format-specific"]["data"]["bitmaps"][0]["flags"] == ["in-use", "auto"]
    later = Bench(DiskHost())
    image = later.open(path)
    bitmap = find_bitmap(image.node, "b")
    assert bitmap.inconsistent
    with pytest.raises(QmpError) as caught:
        bitmap.check()
    assert caught.value.desc == "Bitmap 'b' is inconsistent and cannot be used"
    later.run(qcow2_bitmaps.remove(image.driver, "b"))
    bitmap.release()
    image.close()
    assert "bitmaps" not in info(path)["format-specific"]["data"]
    assert_clean(path)


def test_locks_go_both_ways(bench, path):
    bench.create(path, MIB)
    image = bench.open(path)
    done = qemu_img("info", path, check=False)
    assert done.returncode == 1
    assert 'Failed to get shared "write" lock' in done.stderr
    image.close()
    with subprocess.Popen(
        ["qemu-io", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as real:
        real.stdin.write("length\n")
        real.stdin.flush()
        real.stdout.readline()
        with pytest.raises(LockError) as caught:
            bench.open(path)
        assert caught.value.desc == 'Failed to get "write" lock'
        with pytest.raises(LockError) as caught:
            bench.open(path, writable=False)
        assert caught.value.desc == 'Failed to get shared "write" lock'
        bench.open(path, writable=False, force_share=True).close()
        real.kill()
    bench.open(path).close()
