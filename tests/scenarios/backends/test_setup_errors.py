"""Machines that cannot work: every one is a SetupError in time, with what the program said."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scenarios.backends.asyncio_backend import AsyncioBackend
from scenarios.backends.interface import Session, SetupError
from scenarios.backends.qemu import QemuBackend
from scenarios.backends.registry import find_real, forms, open_backend
from scenarios.backends.storage_daemon import StorageDaemonBackend
from scenarios.language.steps import Disk, Scenario

KINDS: list[type[AsyncioBackend]] = [QemuBackend, StorageDaemonBackend]


async def never(session: Session) -> None:
    raise AssertionError("the machine was taken for started")


def fake(tmp_path: Path, script: str) -> str:
    path = tmp_path / "fake-qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def refusal(backend: AsyncioBackend, **scenario: object) -> tuple[str, float]:
    began = time.monotonic()
    with pytest.raises(SetupError) as caught:
        backend.run(Scenario(name="x", **scenario), 0, never)  # type: ignore[arg-type]
    return str(caught.value), time.monotonic() - began


@pytest.mark.parametrize("kind", KINDS)
def test_dies_at_start(kind: type[AsyncioBackend], tmp_path: Path) -> None:
    program = fake(tmp_path, "echo cannot load firmware >&2; exit 3")
    message, took_s = refusal(kind("x", program))  # type: ignore[arg-type]
    assert message.startswith(f"{program}: ended before it answered: ")
    assert message.endswith("exited with status 3; standard error: cannot load firmware")
    assert took_s < 5


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_start(kind: type[AsyncioBackend], tmp_path: Path) -> None:
    message, _ = refusal(kind("x", fake(tmp_path, "echo bad >&2; kill -ABRT $$")))  # type: ignore[arg-type]
    assert message.endswith("killed by SIGABRT; standard error: bad")


@pytest.mark.parametrize("kind", KINDS)
def test_never_opens_its_socket(kind: type[AsyncioBackend], tmp_path: Path) -> None:
    program = fake(tmp_path, f"echo $$ > {tmp_path}/pid; echo thinking >&2; sleep 60")
    backend = kind("x", program)  # type: ignore[arg-type]
    backend.start_ns = 300_000_000
    message, took_s = refusal(backend)
    assert "never spoke on its QMP socket (its QMP greeting: nothing after 0.3 s)" in message
    assert message.endswith("standard error: thinking")
    assert took_s < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_speaks_something_else(kind: type[AsyncioBackend], tmp_path: Path) -> None:
    """It answers on the socket that it was given as a mail server would."""
    script = (
        'exec python3 -c "import socket,sys,re;'
        "s=socket.socket(fileno=int(re.search(r'fd=([0-9]+)', ' '.join(sys.argv))[1]));"
        "s.send(b'220 mail ready\\r\\n');s.recv(99);sys.exit('confused')\" \"$@\""
    )
    message, took_s = refusal(kind("x", fake(tmp_path, script)))  # type: ignore[arg-type]
    assert "ended before it answered" in message
    assert took_s < 9


@pytest.mark.parametrize("kind", KINDS)
def test_dies_at_the_first_question(kind: type[AsyncioBackend], tmp_path: Path) -> None:
    """A machine that greets and negotiates, but ends when asked for its schema."""
    script = (
        'exec python3 -c "import socket,sys,re;'
        "s=socket.socket(fileno=int(re.search(r'fd=([0-9]+)', ' '.join(sys.argv))[1]));"
        's.send(b\'{\\"QMP\\": {\\"version\\": {}, \\"capabilities\\": []}}\\r\\n\');s.recv(999);'
        's.send(b\'{\\"return\\": {}}\\r\\n\');s.recv(999);sys.exit(\'no idea\')" "$@"'
    )
    backend = kind("x", fake(tmp_path, script))  # type: ignore[arg-type]
    with pytest.raises(
        SetupError, match=r"did not answer query-qmp-schema: .* status 1; standard error: no idea"
    ):
        backend.probe()


def test_a_file_of_no_executable_format(tmp_path: Path) -> None:
    """It has the permission but the kernel, or the shell that tries it after the kernel, makes nothing of
    it."""
    path = tmp_path / "qemu"
    path.write_bytes(b"\x7fELF\0 but not really")
    path.chmod(0o755)
    message, _ = refusal(QemuBackend("qemu", str(path)))
    assert message.startswith(f"{path}: ")
    assert "format" in message or "not found" in message


def test_real_qemu_refuses_its_command_line() -> None:
    """A disk that no image can be: the emulator's own words are in the message."""
    backend = StorageDaemonBackend("storage-daemon")
    message, _ = refusal(backend, disks={"1-is-no-node-name": Disk(size=1 << 20)})
    assert "Invalid node-name" in message or "Invalid node name" in message


def test_a_daemon_has_no_drives() -> None:
    message, _ = refusal(
        StorageDaemonBackend("storage-daemon"), disks={"vda": Disk(size=512)}, attach="drive"
    )
    assert "attach: drive" in message


def test_an_image_that_cannot_be_made() -> None:
    message, _ = refusal(QemuBackend("qemu"), disks={"vda": Disk(size=1 << 20, cluster=3)})
    assert "qemu-img create" in message
    assert "cluster" in message.lower()


@pytest.mark.parametrize("name", ["qemu:/nonexistent/qemu", "storage-daemon:/nonexistent/qsd"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(SetupError, match=r"/nonexistent/q.*: expected an executable file"):
        open_backend(name)


@pytest.mark.parametrize(
    ("name", "package"), [("qemu", "qemu-system-x86"), ("storage-daemon", "qemu-system-common")]
)
def test_not_installed(name: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=f"apt-get install {package}"):
        open_backend(name)
    assert find_real() == []


@pytest.mark.parametrize("name", ["qemuu", "interface", "registry:7.2", "", "../qemu", "storage_daemon"])
def test_an_unknown_name_lists_the_known_forms(name: str) -> None:
    with pytest.raises(SetupError, match="no backend") as caught:
        open_backend(name)
    for form in ("qemu[:PATH]", "storage-daemon[:PATH]", "sim-process:VERSION[+storage-daemon]"):
        assert form in str(caught.value)
        assert form in forms()


@pytest.mark.parametrize("name", ["sim-process", "sim-process:", "sim-process:7.2+nonsense"])
def test_a_simulator_process_needs_a_version(name: str) -> None:
    with pytest.raises(SetupError, match="expected sim-process:VERSION"):
        open_backend(name)


def test_both_real_backends_are_found_here() -> None:
    assert find_real() == ["qemu", "storage-daemon"]
    assert [open_backend(name).name for name in find_real()] == ["qemu", "storage-daemon"]
