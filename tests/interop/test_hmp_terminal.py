"""The human monitor as a person uses it: at a terminal, with a prompt, an echo and line editing. What is
shown is the same, byte by byte."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pexpect
import pexpect.fdpexpect
import pytest
from both_programs import NONE, PC, SYSTEM, program_path, start


def terminal(is_real: bool) -> str:
    """All that a person at a terminal is shown."""
    options = [*NONE, "-name", "me", "-monitor", "stdio"]
    child = pexpect.spawn(program_path(SYSTEM, is_real), options, timeout=10, echo=True, encoding="utf-8")
    shown = ""
    try:
        child.expect_exact("(qemu) ")
        shown += child.before
        for typed in ("info status", "info name", "", "nope x", "infp\x7fo version"):
            child.send(typed + "\n")
            child.expect_exact("\n(qemu) ")
            shown += child.before
        child.send("quit\n")
        child.expect(pexpect.EOF)
        shown += child.before
        child.wait()
        assert child.exitstatus == 0
    finally:
        child.close(force=True)
    return shown


def test_a_monitor_at_a_terminal() -> None:
    assert terminal(False) == terminal(True)


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_a_monitor_on_a_line_of_its_own(is_real: bool, tmp_path: Path) -> None:
    """-monitor pty says on standard output or error where it is."""
    with start(SYSTEM, is_real, tmp_path, ("-monitor", "pty")) as running:
        running.negotiate()
        told = "".join(running.printed())
        found = re.search(r"char device redirected to (/dev/pts/\d+) \(label compat_monitor0\)", told)
        assert found, told
        with open(found[1], "r+b", buffering=0) as line:
            child = pexpect.fdpexpect.fdspawn(line.fileno(), timeout=10)
            line.write(b"info status\r")
            child.expect_exact(b"VM status: running")
            child.expect_exact(b"(qemu) ")


# A disk is exported, read, backed up slowly, and taken away again; what a person types by mistake is told.
DIALOGUE = """
info block
drive_add 0 if=none,id=d,file=disk.raw,format=raw,discard=unmap
info block
info block -v d
nbd_server_start unix:n.sock
nbd_server_start unix:n.sock
nbd_server_add d
nbd_server_add d
nbd_server_add -w d other
nbd_server_add nobody
! nbdinfo --list nbd+unix:///?socket=n.sock
qemu-io d "write -P 17 0 64k"
! nbdcopy nbd+unix:///d?socket=n.sock read.raw
drive_backup d nowhere/backup.qcow2 qcow2
drive_backup -f d backup.raw raw
? No active jobs
drive_backup -f d another.qcow2 qcow2
? No active jobs
block_job_set_speed d 1
drive_del d
block_job_pause d
block_job_resume d
block_job_cancel d
info block-jobs
block_job_cancel d
nbd_server_remove d
nbd_server_remove d
nbd_server_remove -f other
nbd_server_stop
drive_del d
info block
""".strip().splitlines()


def person(is_real: bool, place: Path) -> tuple[list[str], dict[str, bytes]]:
    """What is shown for each line of the dialogue, and what the files hold then."""
    place.mkdir()
    (place / "disk.raw").write_bytes(b"\x01" * (1 << 20))
    child = pexpect.spawn(
        program_path(SYSTEM, is_real),
        [*PC, "-monitor", "stdio"],
        cwd=str(place),
        timeout=10,
        encoding="utf-8",
    )
    shown = []
    try:
        child.expect_exact("(qemu) ")
        for typed in DIALOGUE:
            if typed.startswith("!"):
                done = subprocess.run(
                    typed[1:].split(), cwd=place, capture_output=True, text=True, timeout=20, check=False
                )
                shown.append(f"{typed}: {done.returncode}: {done.stdout}")
                continue
            if typed.startswith("? "):
                _until(child, typed[2:])
                continue
            child.send(typed + "\n")
            child.expect_exact("\n(qemu) ")
            shown.append(_timeless(child.before))
        child.send("quit\n")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
    finally:
        child.close(force=True)
    files = {path.name: path.read_bytes() for path in place.iterdir() if path.name != "backup.raw"}
    return shown, files


def _until(child: pexpect.spawn, wanted: str) -> None:
    """Asks for the jobs until they are as wanted."""
    until = time.monotonic() + 10
    while True:
        child.send("info block-jobs\n")
        child.expect_exact("\n(qemu) ")
        if wanted in child.before:
            return
        assert time.monotonic() < until, f"waited 10 s for {wanted!r}; info block-jobs: {child.before!r}"
        time.sleep(0.05)


def _timeless(shown: str) -> str:
    """Without what depends on how fast a machine is, and how often its terminal redraws the line."""
    shown = re.sub(r"Completed \d+ of", "Completed N of", shown)
    shown = re.sub(r"\(\d+ ops/sec.*|\d+ bytes in [\d.]+|[\d.]+ sec.*|[\d.]+ .iB/sec.*", "", shown)
    return re.sub(r"#block\d+", "#blockN", re.sub(r".*\x1b\[K|\x1b\[D", "", shown))


def test_a_person_backs_up_and_exports_a_disk(tmp_path: Path) -> None:
    wanted, files = person(True, tmp_path / "real")
    ours, our_files = person(False, tmp_path / "simulated")
    assert ours == wanted
    assert our_files == files
    assert files["read.raw"] == b"\x11" * (64 << 10) + b"\x01" * ((1 << 20) - (64 << 10))
    assert "Unknown" not in wanted[0], "the dialogue reached the monitor"
