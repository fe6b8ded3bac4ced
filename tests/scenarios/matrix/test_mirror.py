"""What is asked of Debian's archive, on a small one on this disk; and of apt, by a stand-in for it."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from scenarios.backends.interface import SetupError
from scenarios.matrix import mirror

DEFAULT = "http://deb.debian.org/debian"


def archive_with(tmp_path: Path, packages: str, suite: str = "suite") -> str:
    folder = tmp_path / f"dists/{suite}/main/binary-{mirror.architecture()}"
    folder.mkdir(parents=True)
    (folder / "Packages.xz").write_bytes(lzma.compress(packages.encode()))
    return f"file://{tmp_path}"


def section(name: str, version: str, more: str = "") -> str:
    return f"Package: {name}\nSource: something\nVersion: {version}\n{more}\n"


def test_the_newest_version_of_a_package(tmp_path: Path) -> None:
    many = "".join(section(f"p{number}", f"1:{number}", "Depends: x\n" * 50) for number in range(3000))
    wanted = section("qemu-system-x86", "1:10.0+ds-1", "Depends: y\n" * 200)
    for where, text in (("first", wanted + many), ("middle", many + wanted + many), ("last", many + wanted)):
        (tmp_path / where).mkdir()
        archive = archive_with(tmp_path / where, text)
        assert mirror.newest(archive, "suite", "qemu-system-x86") == "1:10.0+ds-1", where
        assert mirror.newest(archive, "suite", "p2999") == "1:2999"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    archive = archive_with(tmp_path, section("qemu-system-x86-extra", "1"))
    with pytest.raises(SetupError, match=r"Packages.xz: expected a package qemu-system-x86 in it"):
        mirror.newest(archive, "suite", "qemu-system-x86")
    with pytest.raises(SetupError, match=r"expected the list of packages of woody.* --mirror URL"):
        mirror.newest(archive, "woody", "qemu-system-x86")


def fake_program(tmp_path: Path, name: str, prints: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{prints}\nEND\n")
    (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("said", "mirror_of_it"),
    [
        ("Debian|Debian-Security|http://near/debian-security/\nDebian|Debian|http://near/debian/", "http://near/debian"),
        ("Debian|Debian|cdrom://x/\nDebian|Debian|https://far/d", "https://far/d"),
        ("Ubuntu|Ubuntu|http://near/ubuntu/", DEFAULT),
        ("", DEFAULT),
    ],
)  # fmt: skip
def test_the_mirror_is_the_one_that_apt_uses(
    said: str, mirror_of_it: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, "apt-get", said, monkeypatch)
    assert mirror.mirror(DEFAULT) == mirror_of_it


def test_without_apt_there_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mirror.mirror(DEFAULT) == DEFAULT
    assert mirror.architecture() == "amd64"


def test_the_proxy_is_the_one_that_apt_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    fake_program(tmp_path, "apt-config", "http://proxy:3142", monkeypatch)
    assert mirror.environment()["http_proxy"] == "http://proxy:3142"
    fake_program(tmp_path, "apt-config", "DIRECT", monkeypatch)
    assert "http_proxy" not in mirror.environment()
