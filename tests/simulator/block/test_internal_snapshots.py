"""Snapshots inside an image that we take and delete are what real qemu-img finds, and the other way round."""

from __future__ import annotations

from errno import EINVAL

import pytest
from image_bench import Bench, info, needs_qemu_img, qemu_img

from simulator.block.drivers import qcow2_snapshots
from simulator.serve.host_files import DiskHost

pytestmark = needs_qemu_img

MIB = 1 << 20
SHAPES = ({}, {"version": "v2"}, {"cluster_size": 512}, {"refcount_bits": 64, "cluster_size": 4096})


@pytest.fixture
def bench():
    return Bench(DiskHost())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "a.qcow2")


def write(image, offset, value, length=99_840):
    image.write(offset, bytes([value]) * length)


def take(bench, image, name):
    return bench.run(qcow2_snapshots.create(image.driver, name, 10**18 + 5))


def delete(bench, image, name):
    [found] = [each for each in image.driver.snapshots if each.name == name]
    bench.run(qcow2_snapshots.delete(image.driver, found))


def assert_clean(path):
    done = qemu_img("check", path)
    assert "No errors were found on the image." in done.stdout, done.stdout


def byte_in(path, tmp_path, offset, snapshot=None):
    """What qemu-img reads there, of the image or of a snapshot in it."""
    raw = tmp_path / "out.raw"
    chosen = ["-l", snapshot] if snapshot else []
    qemu_img("convert", *chosen, "-f", "qcow2", "-O", "raw", path, str(raw))
    return raw.read_bytes()[offset]


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_a_snapshot_keeps_what_is_written_over(bench, path, tmp_path, options):
    bench.create(path, 3 * MIB, **options)
    image = bench.open(path)
    write(image, 0, 1)
    take(bench, image, "one")
    write(image, 512, 2)
    take(bench, image, "two")
    write(image, 2 * MIB, 3)
    image.close()
    assert_clean(path)
    told = info(path)["snapshots"]
    assert [(each["id"], each["name"]) for each in told] == [("1", "one"), ("2", "two")]
    assert {(each["date-sec"], each["date-nsec"], each["vm-state-size"]) for each in told} == {(10**9, 5, 0)}
    assert byte_in(path, tmp_path, 600, "one") == 1
    assert byte_in(path, tmp_path, 600, "two") == 2
    assert byte_in(path, tmp_path, 2 * MIB, "two") == 0
    assert byte_in(path, tmp_path, 2 * MIB) == 3


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_what_a_deleted_snapshot_held_is_free(bench, path, tmp_path, options):
    bench.create(path, 3 * MIB, **options)
    image = bench.open(path)
    write(image, 0, 1)
    take(bench, image, "one")
    write(image, 0, 2, 512)
    take(bench, image, "two")
    delete(bench, image, "one")
    image.close()
    assert_clean(path)
    assert byte_in(path, tmp_path, 0, "two") == 2
    image = bench.open(path)
    delete(bench, image, "two")
    write(image, 0, 4, 512)
    image.close()
    assert_clean(path)
    assert "snapshots" not in info(path)
    assert byte_in(path, tmp_path, 0) == 4
    assert byte_in(path, tmp_path, 600) == 1


def test_snapshots_of_qemu_img_are_ours_to_delete(bench, path, tmp_path):
    bench.create(path, MIB, cluster_size=4096)
    image = bench.open(path)
    write(image, 0, 1)
    image.close()
    for name in ("one", "two"):
        qemu_img("snapshot", "-c", name, path)
    told = info(path)["snapshots"]
    image = bench.open(path)
    assert [each.describe() for each in image.driver.snapshots] == told
    write(image, 0, 2)
    delete(bench, image, "one")
    image.close()
    assert_clean(path)
    assert byte_in(path, tmp_path, 0, "two") == 1
    assert byte_in(path, tmp_path, 0) == 2


def test_counts_of_one_bit_leave_no_room(bench, path):
    bench.create(path, MIB, refcount_bits=1)
    image = bench.open(path)
    write(image, 0, 1)
    with pytest.raises(OSError) as refused:
        take(bench, image, "one")
    assert refused.value.errno == EINVAL
    image.close()
    assert_clean(path)
    assert "snapshots" not in info(path)
