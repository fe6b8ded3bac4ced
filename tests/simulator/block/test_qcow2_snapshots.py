"""Snapshots inside qcow2 images, held to the real tools: what they list, check and read."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_bench import Bench, needs_qemu_img, qemu_img

from simulator.monitor.hmp.dates import date_text
from simulator.serve.host_files import DiskHost

MIB = 1 << 20
SECOND_NS = 1_000_000_000
pytestmark = needs_qemu_img


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "disk.qcow2")


@pytest.fixture(params=[512, 65536])
def image(request, path):
    bench = Bench(DiskHost())
    bench.create(path, 4 * MIB, cluster_size=request.param)
    return bench.open(path)


def snapshot(image, name, date_ns=0, clock_ns=0):
    return image.bench.run(image.driver.create_snapshot(name, date_ns, clock_ns, 0))


def delete(image, identifier):
    image.bench.run(image.driver.delete_snapshot(identifier))


def content(path, name=None):
    raw = f"{path}.raw"
    chosen = ["-l", f"snapshot.name={name}"] if name else []
    qemu_img("convert", "-U", *chosen, "-O", "raw", path, raw)
    return Path(raw).read_bytes()


def check(path):
    """Of an image that is closed."""
    done = json.loads(qemu_img("check", "--output=json", path).stdout)
    assert "leaks" not in done, done
    assert "corruptions" not in done, done


def test_a_snapshot_keeps_what_the_disk_was(image, path):
    image.write(0, b"a" * MIB, 0)
    assert snapshot(image, "one", 1_700_000_000 * SECOND_NS + 5, 3661 * SECOND_NS + 42_000_000) == "1"
    image.write(4096, b"b" * 8192, 0)
    image.write(2 * MIB, b"c" * 4096, 0)
    assert snapshot(image, "two") == "2"
    image.write_zeroes(0, MIB, 0)
    image.close()
    check(path)
    told = json.loads(qemu_img("info", "--output=json", path).stdout)["snapshots"]
    assert [(each["id"], each["name"], each["vm-state-size"]) for each in told] == [
        ("1", "one", 0),
        ("2", "two", 0),
    ]
    first = told[0]
    assert (first["date-sec"], first["date-nsec"]) == (1_700_000_000, 5)
    assert (first["vm-clock-sec"], first["vm-clock-nsec"]) == (3661, 42_000_000)
    assert content(path, "one") == b"a" * MIB + bytes(3 * MIB)
    assert content(path, "two") == (
        b"a" * 4096 + b"b" * 8192 + b"a" * (MIB - 12288) + bytes(MIB) + b"c" * 4096 + bytes(2 * MIB - 4096)
    )
    assert content(path) == bytes(2 * MIB) + b"c" * 4096 + bytes(2 * MIB - 4096)


def test_deleting_gives_back_what_nobody_else_uses(image, path):
    image.write(0, b"a" * MIB, 0)
    snapshot(image, "one")
    image.write(0, b"b" * MIB, 0)
    snapshot(image, "two")
    image.write(0, b"c" * 65536, 0)
    delete(image, "1")
    assert [each["name"] for each in image.driver.snapshot_infos()] == ["two"]
    assert snapshot(image, "three") == "3"
    delete(image, "2")
    delete(image, "3")
    image.write(65536, b"d" * 65536, 0)
    image.close()
    check(path)
    wanted = b"c" * 65536 + b"d" * 65536 + b"b" * (MIB - 131072) + bytes(3 * MIB)
    assert content(path) == wanted
    qemu_img("snapshot", "-c", "real", path)
    again = image.bench.open(path)
    assert [each["name"] for each in again.driver.snapshot_infos()] == ["real"]
    again.write(0, b"e" * MIB, 0)
    delete(again, "1")
    again.close()
    check(path)
    assert content(path) == b"e" * MIB + bytes(3 * MIB)


def test_what_real_qemu_img_made_is_read(image, path):
    image.write(0, b"a" * 4096, 0)
    image.close()
    for name in ("one", "two"):
        qemu_img("snapshot", "-c", name, path)
    wanted = json.loads(qemu_img("info", "--output=json", path).stdout)["snapshots"]
    again = image.bench.open(path)
    assert again.driver.snapshot_infos() == wanted
    again.close()


def test_counts_of_one_bit_have_no_room_for_another_user(path):
    bench = Bench(DiskHost())
    bench.create(path, MIB, refcount_bits=1)
    image = bench.open(path)
    image.write(0, b"a" * 4096, 0)
    with pytest.raises(OSError, match="Invalid argument"):
        snapshot(image, "one")
    image.close()
    check(path)
    assert "snapshots" not in json.loads(qemu_img("info", "--output=json", path).stdout)


@given(st.integers(0, (1 << 32) - 1))
def test_a_date_is_that_of_the_calendar(seconds):
    told = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert date_text(seconds) == told
