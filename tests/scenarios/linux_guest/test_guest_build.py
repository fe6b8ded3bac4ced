"""What a guest is made of, and what is said where that cannot be had."""

from __future__ import annotations

import lzma
import os
import subprocess
from pathlib import Path

import pytest

from scenarios.backends.interface import SetupError
from scenarios.linux_guest import build
from scenarios.linux_guest.archive import Archive
from scenarios.linux_guest.modules import depends_on, load_order


def module(depends: str) -> bytes:
    return b"\x7fELF...\0license=GPL\0depends=" + depends.encode() + b"\0retpoline=Y\0"


def test_modules_come_after_what_they_depend_on(tmp_path: Path) -> None:
    (tmp_path / "virtio_blk.ko").write_bytes(module("virtio,virtio_ring"))
    (tmp_path / "virtio_pci.ko.xz").write_bytes(
        lzma.compress(module("virtio,virtio-ring,virtio_pci_modern_dev"))
    )
    (tmp_path / "virtio.ko").write_bytes(module(""))
    (tmp_path / "virtio-ring.ko").write_bytes(module("virtio"))
    (tmp_path / "unrelated.ko").write_bytes(module(""))
    order = [name for name, _ in load_order(tmp_path)]
    # virtio_pci_modern_dev is built into this kernel.
    assert order == ["virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "virtio_blk.ko"]
    assert dict(load_order(tmp_path))["virtio_pci.ko"] == module("virtio,virtio-ring,virtio_pci_modern_dev")
    assert depends_on(b"no such section") == []


def test_no_modules_at_all(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"expected kernel modules such as virtio_pci\.ko, there are none"):
        load_order(tmp_path)


def test_an_archive_as_others_read_it(tmp_path: Path) -> None:
    archive = Archive()
    archive.file("a/b/one", b"1", executable=True)
    archive.file("a/two", b"22222")
    archive.device("dev/console", 5, 1)
    listed = subprocess.run(
        ["cpio", "-t", "-v", "--quiet"], input=archive.finish(), capture_output=True, check=True, cwd=tmp_path
    )
    rows = [line.split() for line in listed.stdout.decode().splitlines()]
    assert [(row[0], row[-1]) for row in rows] == [
        ("drwxr-xr-x", "a"),
        ("drwxr-xr-x", "a/b"),
        ("-rwxr-xr-x", "a/b/one"),
        ("-rw-r--r--", "a/two"),
        ("drwxr-xr-x", "dev"),
        ("crw-------", "dev/console"),
    ]
    subprocess.run(
        ["cpio", "-i", "--quiet", "a*"], input=archive.finish(), check=True, cwd=tmp_path, timeout=10
    )
    assert (tmp_path / "a" / "two").read_bytes() == b"22222"


def stub(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a PATH with nothing but what a test puts there."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("GOLDENFLEECE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(programs))
    return programs


def nothing_half_made() -> bool:
    return [path.name for path in (build.cache_directory() / "linux-guest").iterdir()] == ["lock"]


def test_a_machine_without_apt(bare: Path) -> None:
    with pytest.raises(
        SetupError, match="apt-get: not found in PATH; a Linux guest is made from Debian's packages"
    ):
        build.guest_files()
    assert nothing_half_made()


def test_apt_that_does_not_know_the_kernel(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        stub(bare, name, "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match=r"apt does not know this package\. Run: sudo apt-get update"):
        build.guest_files()
    assert nothing_half_made()


def test_a_step_that_fails_is_named_with_its_last_words(bare: Path) -> None:
    stub(bare, "apt-cache", "echo '  Depends: linux-image-9-cloud-amd64'")
    stub(bare, "apt-get", "echo 'E: disk full' >&2; exit 100")
    stub(bare, "dpkg-deb", "exit 0")
    words = r"apt-get download .*linux-image-9-cloud-amd64 busybox-static: exit status 100: E: disk full"
    with pytest.raises(SetupError, match=words):
        build.guest_files()
    assert nothing_half_made()


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("GOLDENFLEECE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SetupError, match="cannot keep a Linux guest's kernel there"):
        build.guest_files()
