"""A gate that is killed in its middle leaves nothing that the next one does not remove."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scenarios.backends.run_directory import owner_is_gone
from scenarios.matrix import engine as engines

ROOT = Path(__file__).parents[3]
SPECS = ROOT / "scenarios/specs"
DEADLINE_S = 60.0


def gate(*words: str) -> list[str]:
    return [sys.executable, "-m", "scenarios.cli", "gate", *words]


def until(what: Callable[[], object], why: str) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < give_up, why
        time.sleep(0.01)


def processes_of(temporary: Path) -> list[str]:
    """Command lines of all processes, but for this one, that name the directory or stand in it."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                place = os.readlink(process / "cwd")
            except OSError:
                continue
            if str(temporary) in line or place.startswith(str(temporary)):
                found.append(line)
    return found


def mounts_of(temporary: Path) -> list[str]:
    """In any mount namespace of this machine."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                lines = (process / "mounts").read_text(errors="replace").splitlines()
            except OSError:
                continue
            found += [line for line in lines if str(temporary) in line]
    return found


def orphaned_containers() -> list[str]:
    with engines.engine().client() as client:
        listed = client.containers.list(all=True, filters={"label": engines.OWNER_LABEL})
    return [each.short_id for each in listed if owner_is_gone(each.labels[engines.OWNER_LABEL])]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path, for the sake of the sockets below it."""
    with tempfile.TemporaryDirectory(prefix="gf-kill-", dir="/tmp") as path:
        yield Path(path)


@pytest.mark.parametrize("backend", ["container:trixie", "chroot:trixie"])
def test_after_a_kill_in_the_middle(backend: str, tmp_path: Path, temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(
        gate("--backend", backend, str(SPECS / "basic"), str(SPECS / "ending")),
        env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: list(temporary.glob("goldenfleece-*/machine/nbd.sock")), "no machine came to fleecing")
    first.send_signal(signal.SIGKILL)
    first.wait()
    until(lambda: not processes_of(temporary), "processes outlive the gate and its workers' cases")

    second = subprocess.run(
        gate("--backend", backend, str(SPECS / "basic/one_disk.yaml")),
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert second.returncode == 0, second.stdout + second.stderr
    assert "HOLDS" in second.stdout
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []
    assert mounts_of(temporary) == []
    assert orphaned_containers() == []


def test_what_a_killed_run_leaves_is_reaped_and_told() -> None:
    """The container of a run that died before it could remove it, and whose engine goes on. It has a label of
    its own, so that no other test's engine can find it first."""
    label = f"goldenfleece.test{os.getpid()}"
    names = (
        "from scenarios.backends import container\n"
        "from scenarios.matrix import engine\n"
        f"engine.OWNER_LABEL = container.OWNER_LABEL = {label!r}\n"
    )
    die = (
        "import os, signal\n"
        "from scenarios.language.steps import Scenario\n"
        "async def body(session):\n"
        "    print(container.owner().split()[0], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "backend = container.open_backend('container:trixie', 'trixie')\n"
        "backend.run(Scenario(name='x', attach='none'), 0, body)\n"
    )
    killed = run_code(names + die)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = run_code(names + "engine.engine()")
    assert found.returncode == 0
    pid = killed.stdout.strip()
    assert re.fullmatch(
        rf"goldenfleece: removed container \w+, left by process {pid}, which is gone\n", found.stderr
    )
    assert run_code(names + "engine.engine()").stderr == ""


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_HOST": engines.engine().url, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
