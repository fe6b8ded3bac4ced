"""Directories of runs: gone after the run, and cleared away for those who could not do it themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenarios.backends import run_directory
from scenarios.backends.interface import SetupError
from scenarios.backends.rooms import can_mount, make_room, mounted_below
from scenarios.backends.run_directory import (
    DIRECTORY_PREFIX,
    RunDirectory,
    group_members,
    process_start_time,
    reap_stale,
)


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of a short name that RunDirectory uses instead of /tmp."""
    path = Path(tempfile.mkdtemp(prefix="gf"))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    shutil.rmtree(path)


def stale_directory(base: Path, owner: str | None, children: str = "") -> Path:
    path = base / f"{DIRECTORY_PREFIX}{len(os.listdir(base))}"
    path.mkdir()
    if owner is not None:
        (path / "owner").write_text(owner)
    (path / "children").write_text(children)
    return path


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


@pytest.fixture
def needs_mounts(base: Path) -> None:
    if not can_mount(base):
        pytest.skip("mounting a file system needs root")


def test_rooms_have_their_size_and_go_with_the_run(base: Path, needs_mounts: None) -> None:
    with RunDirectory() as place:
        make_room(place.machine / "a b.room", 8192)
        make_room(place.machine / "c.room", 4096)
        with pytest.raises(OSError, match="No space left"):
            (place.machine / "c.room" / "file").write_bytes(bytes(4097))
        (place.machine / "a b.room" / "file").write_bytes(bytes(8192))
        assert mounted_below(base) == [place.machine / "a b.room", place.machine / "c.room"]
    assert mounted_below(base) == []
    assert os.listdir(base) == []


def test_rooms_of_a_runner_that_was_killed_are_cleared_away(base: Path, needs_mounts: None) -> None:
    runner = f"""
import tempfile, time
tempfile.tempdir = {str(base)!r}
from scenarios.backends.rooms import make_room
from scenarios.backends.run_directory import RunDirectory
place = RunDirectory()
make_room(place.machine / "a.room", 4096)
print(place.path, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", runner], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        path = Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    with open(path / "machine" / "a.room" / "in use", "wb"):
        assert mounted_below(base) == [path / "machine" / "a.room"]
        assert reap_stale(base) == [path]
    assert mounted_below(base) == []
    assert os.listdir(base) == []


def test_gone_after_the_run(base: Path) -> None:
    with RunDirectory() as place:
        (place.machine / "vda.qcow2").write_bytes(b"x")
        assert place.path.parent == base
    assert os.listdir(base) == []


def test_gone_after_an_exception(base: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunDirectory():
        raise ZeroDivisionError
    assert os.listdir(base) == []


def test_a_live_owner_keeps_its_directory(base: Path) -> None:
    with RunDirectory() as place:
        assert reap_stale(base) == []
        assert place.machine.is_dir()


def test_an_owner_that_ended_loses_it(base: Path) -> None:
    path = stale_directory(base, f"{ended_process()} 12345 {namespace()}\n")
    assert reap_stale(base) == [path]
    assert os.listdir(base) == []


def test_an_owner_whose_process_id_is_somebody_elses_now_loses_it(base: Path) -> None:
    path = stale_directory(base, f"{os.getpid()} 1 {namespace()}\n")
    assert reap_stale(base) == [path]


def test_an_owner_in_another_container_keeps_it(base: Path) -> None:
    stale_directory(base, f"{ended_process()} 12345 pid:[1]\n")
    assert reap_stale(base) == []


def test_without_an_owner_only_an_old_one_goes(base: Path) -> None:
    path = stale_directory(base, None)
    assert reap_stale(base) == []
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    assert reap_stale(base) == [path]


def test_children_of_a_dead_owner_are_killed_by_their_group(base: Path) -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    start = process_start_time(child.pid)
    stale_directory(base, f"{ended_process()} 12345 {namespace()}\n", f"{child.pid} {start}\n")
    reap_stale(base)
    assert child.wait(10) == -9
    until = time.monotonic() + 10
    while group_members(child.pid) and time.monotonic() < until:
        time.sleep(0.002)
    assert group_members(child.pid) == []


def test_a_newer_process_of_a_childs_id_is_left_alone(base: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        stale_directory(base, f"{ended_process()} 12345 {namespace()}\n", f"{bystander.pid} 1\n")
        assert len(reap_stale(base)) == 1
        assert bystander.poll() is None
        assert process_start_time(bystander.pid) is not None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_link_is_not_followed(base: Path) -> None:
    elsewhere = Path(tempfile.mkdtemp(dir=base, prefix="precious"))
    (elsewhere / "owner").write_text(f"{ended_process()} 12345 {namespace()}\n")
    (base / f"{DIRECTORY_PREFIX}link").symlink_to(elsewhere)
    assert reap_stale(base) == []
    assert (elsewhere / "owner").exists()


def test_a_path_too_long_for_sockets_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 80)
    with pytest.raises(SetupError, match=r"too long for unix sockets.*TMPDIR"):
        RunDirectory()


def test_the_first_run_of_a_program_clears_up(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale_directory(base, f"{ended_process()} 12345 {namespace()}\n")
    monkeypatch.setattr(run_directory, "_reaped", False)
    with RunDirectory() as place:
        assert os.listdir(base) == [place.path.name]
