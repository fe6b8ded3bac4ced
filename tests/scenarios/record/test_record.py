"""Recording real binaries, and refusing what is none."""

from __future__ import annotations

import filecmp
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from scenarios.record.command import main
from scenarios.record.monitor import monitor
from simulator.versions import RECORDED_DIRECTORY

QEMU = Path("/usr/bin/qemu-system-x86_64")
STORAGE_DAEMON = Path("/usr/bin/qemu-storage-daemon")

needs_binaries = pytest.mark.skipif(
    not (QEMU.exists() and STORAGE_DAEMON.exists()),
    reason="qemu-system-x86_64 and qemu-storage-daemon are needed",
)

# Answers like a QEMU for as long as it is asked; what it is, only its process tells.
SIMULATOR = """#!/usr/bin/env python3
import socket, sys, time
word = next(word for word in sys.argv if "qmp.sock" in word)
path = word.split("unix:")[-1].split("path=")[-1].split(",")[0]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
connection, _ = listener.accept()
version = b'{"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}'
connection.sendall(b'{"QMP": {"version": ' + version + b'}}\\r\\n')
time.sleep(60)
"""


def files_of(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def executable(tmp_path, text):
    path = tmp_path / "binary"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_binaries
def test_recording_twice_gives_the_same_bytes(tmp_path, capsys):
    for name in ("one", "two"):
        argv = [
            "--qemu",
            str(QEMU),
            "--storage-daemon",
            str(STORAGE_DAEMON),
            "--directory",
            str(tmp_path / name),
        ]
        assert main(argv) == 0
    files = files_of(tmp_path / "one")
    assert len(files) == 17
    assert files_of(tmp_path / "two") == files
    different = [
        name for name in files if not filecmp.cmp(tmp_path / "one" / name, tmp_path / "two" / name, False)
    ]
    assert different == []
    assert "from system" in capsys.readouterr().out


@needs_binaries
def test_the_recording_in_the_tree_is_what_the_binary_of_its_package_says(tmp_path):
    assert main(["--storage-daemon", str(STORAGE_DAEMON), "--directory", str(tmp_path)]) == 0
    [version] = tmp_path.iterdir()
    kept = Path(RECORDED_DIRECTORY, version.name, "storage-daemon")
    recorded = version / "storage-daemon"
    if (recorded / "greeting.json").read_bytes() != (kept / "greeting.json").read_bytes():
        pytest.skip("the tree holds a recording of another package")
    for name in files_of(recorded):
        assert (recorded / name).read_bytes() == (kept / name).read_bytes(), name


@needs_binaries
def test_nothing_stays_behind_when_a_recording_ends():
    with monitor(STORAGE_DAEMON, "storage-daemon", 20) as asked:
        pid, directory = asked.pid, Path(os.readlink(f"/proc/{asked.pid}/cwd"))
        assert directory.is_dir()
    assert not Path(f"/proc/{pid}").exists()
    assert not directory.exists()


def refused(capsys, path, *more):
    before = time.monotonic()
    assert main(["--qemu", str(path), *more]) == 2
    assert time.monotonic() - before < 10
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_simulator_is_refused(tmp_path, capsys):
    path = executable(tmp_path, SIMULATOR)
    said = refused(capsys, path, "--directory", str(tmp_path / "out"))
    assert "only real binaries are recorded" in said
    assert str(path) in said
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_refused(tmp_path, capsys):
    assert f"{tmp_path / 'none'}: no such file" in refused(capsys, tmp_path / "none")


def test_a_directory_is_refused(tmp_path, capsys):
    assert f"{tmp_path}: no such file" in refused(capsys, tmp_path)


def test_a_file_that_is_not_executable_is_refused(tmp_path, capsys):
    path = tmp_path / "binary"
    path.write_text("x")
    assert f"{path}: not executable" in refused(capsys, path)


def test_a_file_that_is_no_program_is_refused(tmp_path, capsys):
    assert "cannot be started: Exec format error" in refused(capsys, executable(tmp_path, "\x7fELF nonsense"))


def test_a_binary_that_dies_at_start_is_refused_with_its_standard_error(tmp_path, capsys):
    said = refused(capsys, executable(tmp_path, "#!/bin/sh\necho no such machine >&2\nexit 3\n"))
    assert "ended with status 3 at start" in said
    assert "no such machine" in said


def test_a_binary_that_never_opens_its_socket_is_refused_and_ended(tmp_path, capsys):
    path = executable(
        tmp_path, "#!/bin/sh\necho thinking >&2\necho $$ > " + str(tmp_path / "pid") + "\nexec sleep 60\n"
    )
    said = refused(capsys, path, "--timeout", "0.5")
    assert "did not open its QMP socket within 0.5 s" in said
    assert "thinking" in said
    pid = (tmp_path / "pid").read_text().strip()
    assert subprocess.run(["kill", "-0", pid], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("argv", [[], ["--zork"], ["--qemu"]])
def test_usage_errors_are_status_2(argv, capsys):
    assert main(argv) == 2
    assert "usage: goldenfleece record" in capsys.readouterr().err
