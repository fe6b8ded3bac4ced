"""Command lines of the real executables and of the simulator's: the same words on the same streams, the
same status."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from both_programs import (
    DAEMON,
    DAEMON_MONITOR,
    NONE,
    PC,
    SYSTEM,
    SYSTEM_MONITOR,
    Running,
    program_path,
    real,
)
from command_lines import ON_DAEMON, ON_NONE, ON_PC


def shape(text: str, path: str) -> str:
    """Program name and numbers of the package made alike."""
    text = text.replace(path, "PROGRAM")
    text = re.sub(r"^Copyright.*$|^Simulated by.*$", "(whose)", text, flags=re.MULTILINE)
    return re.sub(r"'?/dev/fdset/\d+'?", "FDSET", text)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    for name in ("disk.raw", "other.raw"):
        (place / name).write_bytes(bytes(1 << 20))
    subprocess.run([real("qemu-img"), "create", "-q", "-f", "qcow2", place / "disk.qcow2", "1M"], check=True)
    return place


def outcome(
    program: str, is_real: bool, base: tuple[str, ...], options: tuple[str, ...], images: Path
) -> tuple[int, str, str, list[str]]:
    """(exit status, standard output, standard error, files left)."""
    path = program_path(program, is_real)
    monitor = SYSTEM_MONITOR if program == SYSTEM else DAEMON_MONITOR
    with tempfile.TemporaryDirectory() as directory:
        cwd = Path(directory)
        for image in images.iterdir():
            shutil.copy(image, cwd)
        with socket.socket(socket.AF_UNIX) as taken:
            taken.bind(f"{directory}/taken.sock")
            with Running([path, *base], cwd, (*monitor[:2], *options, *monitor[2:])) as running:
                running.send(b'{"execute":"qmp_capabilities"}{"execute":"quit"}')
                status = running.wait()
                stdout, stderr = running.printed()
        left = sorted({file.name for file in cwd.iterdir()} - {"stdout", "stderr"})
    return status, shape(stdout, path), shape(stderr, path), left


def compare(program: str, base: tuple[str, ...], options: tuple[str, ...], images: Path) -> None:
    wanted = outcome(program, True, base, options, images)
    assert outcome(program, False, base, options, images) == wanted


def _name(options: tuple[str, ...]) -> str:
    return " ".join(options)[:100] or "nothing"


@pytest.mark.parametrize("options", ON_NONE, ids=_name)
def test_system_emulator_without_devices(options: tuple[str, ...], images: Path) -> None:
    compare(SYSTEM, NONE, options, images)


@pytest.mark.parametrize("options", ON_PC, ids=_name)
def test_system_emulator_with_a_pc(options: tuple[str, ...], images: Path) -> None:
    compare(SYSTEM, PC, options, images)


@pytest.mark.parametrize("options", ON_DAEMON, ids=_name)
def test_storage_daemon(options: tuple[str, ...], images: Path) -> None:
    compare(DAEMON, (), options, images)
