"""Builds that go wrong, with a stand-in for debootstrap, and what the command says of what is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scenarios.backends.interface import SetupError
from scenarios.matrix import build, command, roots

ROOT = Path(__file__).parents[3]
# Makes a part of a root, as debootstrap does, in its last but one argument.
BEGIN = 'for last; do target=$root root=$last; done; mkdir -p "$target/etc" "$target/proc"; '


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(roots.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def debootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin" / "debootstrap"
    path.parent.mkdir()
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{BEGIN}{text}\n")
    path.chmod(0o755)


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "roots").iterdir())


def test_a_build_that_fails_tells_the_command_and_its_last_lines(cache: Path, debootstrap: Path) -> None:
    script(
        debootstrap, 'for n in $(seq 40); do echo "I: Retrieving $n"; done; echo "E: Disk full" >&2; exit 28'
    )
    told: list[str] = []
    with pytest.raises(SetupError) as caught:
        build.build("trixie", "http://nowhere/debian", told.append)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{debootstrap} --variant=minbase ")
    assert first.endswith(
        f"trixie {cache}/roots/.trixie.partial http://nowhere/debian: status 28; its last lines:"
    )
    assert rest == [f"  I: Retrieving {n}" for n in range(27, 41)] + ["  E: Disk full"]
    assert told == [line.strip() for line in [f"I: Retrieving {n}" for n in range(1, 41)] + ["E: Disk full"]]
    assert left_in(cache) == []


def test_a_root_without_qemu_is_none(cache: Path, debootstrap: Path) -> None:
    script(debootstrap, "exit 0")
    with pytest.raises(SetupError, match=r"dpkg-query .* in .*: status"):
        build.build("trixie", "http://nowhere/debian", print)
    assert left_in(cache) == []
    assert roots.find("trixie") is None


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing(sent: signal.Signals, cache: Path, debootstrap: Path) -> None:
    """What was there before stays, processes and mounts of the build go with it; after a SIGKILL, what is on
    the disk goes when the next build begins."""
    mark = f"60.{os.getpid()}{sent:d}"
    script(debootstrap, f'mount -t proc proc "$target/proc"; echo "I: Retrieving x"; sleep {mark}')
    old = cache / "roots" / "trixie"
    (old / "etc").mkdir(parents=True)
    roots.describe(old, roots.About("trixie", "1:10.0.0-1", "10.0.0", 1, 1))
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from scenarios.matrix import build\n"
        "with build.as_interrupt(signal.SIGTERM):\n"
        "    build.build('trixie', 'http://nowhere/debian', lambda line: print(line, flush=True))\n"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
    )  # fmt: skip
    assert builder.stdout is not None
    with builder.stdout:
        assert builder.stdout.readline() == "I: Retrieving x\n"
        assert soon(lambda: len(running(mark)) == 1)
        builder.send_signal(sent)
        assert builder.wait(20) != 0
    assert soon(lambda: running(mark) == [])
    assert str(cache) not in Path("/proc/self/mounts").read_text()
    if sent == signal.SIGKILL:
        assert left_in(cache) == [".trixie.partial", "trixie"]
        script(debootstrap, "exit 1")
        with pytest.raises(SetupError):
            build.build("bullseye", "http://nowhere/debian", print)
    assert left_in(cache) == ["trixie"]
    found = roots.find("trixie")
    assert found is not None
    assert found.about.qemu == "10.0.0"


def soon(what: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 10
    while not what() and time.monotonic() < give_up:
        time.sleep(0.01)
    return what()


def running(mark: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", mark.encode()]:
                found.append(int(process.name))
    return found


def test_too_little_space(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage())
    with pytest.raises(SetupError, match="about 600 MiB are needed for a build, 100 MiB are free"):
        build.build("trixie", "http://nowhere/debian", print)


class Usage:
    free = 100 << 20


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(roots.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(SetupError, match=rf"cache directory .*: Not a directory; .*\${roots.CACHE_VARIABLE}"):
        build.build("trixie", "http://nowhere/debian", print)


@pytest.mark.parametrize("missing", ["debootstrap", "podman", "runc"])
def test_what_is_missing_on_the_host(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "which", lambda name: None if name == missing else f"/usr/bin/{name}")
    with pytest.raises(SetupError) as caught:
        command.main(["build"])
    install = "apt-get install -y debootstrap debian-archive-keyring podman runc"
    assert str(caught.value) == f"missing: {missing}. Run: {install}"


def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="debootstrap needs root: sudo goldenfleece matrix build"):
        build.check_host(("debootstrap",))


# ---------------------------------------------------------------- the command


def test_what_is_built_is_not_built_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the real root of a suite, beside the real archive."""
    before = roots.require("trixie")
    assert command.main(["build", "--suite", "trixie"]) == 0
    about = before.about
    assert capsys.readouterr().out == f"trixie: QEMU {about.qemu} ({about.package}) is there\n"
    assert roots.require("trixie") == before


def test_a_package_that_moved_is_built_anew(
    cache: Path, debootstrap: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script(debootstrap, "exit 1")
    old = cache / "roots" / "trixie"
    (old / "etc").mkdir(parents=True)
    roots.describe(old, roots.About("trixie", "1:10.0.0-1", "10.0.0", 1, 1))
    monkeypatch.setattr("scenarios.matrix.mirror.newest", lambda *words: "1:10.0.1-1")
    with pytest.raises(SetupError, match="status 1"):
        command.main(["build", "--suite", "trixie", "--roots-only", "--mirror", "http://nowhere/debian/"])
    assert capsys.readouterr().out == (
        f"building trixie from http://nowhere/debian in {cache}/roots: about 40 s and 400 MiB\n"
    )


def test_what_nobody_can_say_to_be_old_is_kept(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = cache / "roots" / "trixie"
    (old / "etc").mkdir(parents=True)
    roots.describe(old, roots.About("trixie", "1:10.0.0-1", "10.0.0", 1, 1))
    words = ["build", "--suite", "trixie", "--roots-only", "--mirror", "file:///nowhere"]
    assert command.main(words) == 0
    said = capsys.readouterr()
    assert said.out == "trixie: QEMU 10.0.0 (1:10.0.0-1) is there\n"
    assert said.err.startswith("trixie: kept as it is: file:///nowhere/dists/trixie/")


def test_list_and_remove(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cache / "roots" / "bullseye"
    (path / "etc").mkdir(parents=True)
    about = roots.About("bullseye", "1:5.2-1", "5.2.0", int(time.time()) - 3 * 86400, 180 << 20)
    roots.describe(path, about)
    assert json.loads((path / "etc/goldenfleece.json").read_text())["qemu"] == "5.2.0"
    assert command.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["suite", "QEMU", "size", "age", "package"]
    assert lines[1].split() == ["bullseye", "5.2.0", "180", "MiB", "3", "days", "1:5.2-1"]
    assert lines[2].split() == ["bookworm", "7.2", "-", "-", "not", "built"]
    assert lines[-1] == f"in {cache}/roots"
    assert build.remove("bullseye")
    assert not build.remove("bullseye")
    assert roots.find("bullseye") is None


def test_an_unknown_suite() -> None:
    with pytest.raises(SetupError, match="no suite woody; known: bullseye, bookworm, trixie, sid"):
        command.main(["build", "--suite", "woody"])


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert roots.cache_directory({roots.CACHE_VARIABLE: "/a/b"}) == Path("/a/b")
    assert roots.cache_directory({"XDG_CACHE_HOME": "/x"}) == Path("/x/goldenfleece")
    monkeypatch.setenv("HOME", "/home/somebody")
    for nothing in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert roots.cache_directory(nothing) == Path("/home/somebody/.cache/goldenfleece")
