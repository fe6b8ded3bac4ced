"""Our lock bytes and real QEMU's: each refuses the other, in the same words."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from simulator.block import permissions
from simulator.block.host import ImageLock, LockError
from simulator.serve.host_files import DiskHost

pytestmark = pytest.mark.skipif(
    not (shutil.which("qemu-img") and shutil.which("qemu-io")),
    reason="qemu-img and qemu-io are not installed",
)

W, CR, R = permissions.WRITE, permissions.CONSISTENT_READ, permissions.RESIZE
IN_USE_BY_A_WRITER = (CR | W | R, permissions.ALL & ~(W | R))


@pytest.fixture
def image(tmp_path):
    path = str(tmp_path / "a.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True, timeout=20)
    return path


def qemu_img(*arguments):
    return subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, timeout=20, check=False)


def test_real_qemu_img_is_refused_while_we_write(image):
    lock = ImageLock(DiskHost().open(image))
    lock.prepare(*IN_USE_BY_A_WRITER)
    lock.commit(*IN_USE_BY_A_WRITER)
    done = qemu_img("info", image)
    assert done.returncode == 1
    assert done.stderr == (
        f"qemu-img: Could not open '{image}': Failed to get shared \"write\" lock\n"
        f"Is another process using the image [{image}]?\n"
    )
    assert qemu_img("resize", image, "2M").returncode == 1
    assert qemu_img("info", "-U", image).returncode == 0
    lock.commit(0, permissions.ALL)
    assert qemu_img("info", image).returncode == 0
    lock.file.close()


def test_a_reader_of_ours_lets_real_readers_in_and_writers_not(image):
    reading = CR, permissions.ALL & ~(W | R)
    lock = ImageLock(DiskHost().open(image, read_only=True))
    lock.prepare(*reading)
    lock.commit(*reading)
    assert qemu_img("info", image).returncode == 0
    done = qemu_img("resize", image, "2M")
    assert done.returncode == 1
    assert 'Failed to get "write" lock' in done.stderr
    lock.file.close()
    assert qemu_img("resize", image, "2M").returncode == 0


def test_we_are_refused_while_real_qemu_io_has_it_open(image):
    real = subprocess.Popen(["qemu-io", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        real.stdin.write("length\n")
        real.stdin.flush()
        assert "1 MiB" in real.stdout.readline()
        ours = ImageLock(DiskHost().open(image))
        with pytest.raises(LockError) as caught:
            ours.prepare(*IN_USE_BY_A_WRITER)
        assert caught.value.desc == 'Failed to get "write" lock'
        with pytest.raises(LockError) as caught:
            ours.prepare(CR, permissions.ALL & ~(W | R))
        assert caught.value.desc == 'Failed to get shared "write" lock'
        ours.prepare(CR, permissions.ALL)
        ours.abort()
    finally:
        real.kill()
        real.communicate(timeout=20)
    ours.prepare(*IN_USE_BY_A_WRITER)
    ours.file.close()
