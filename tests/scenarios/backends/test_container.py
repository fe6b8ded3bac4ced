"""What only containers have: an engine, images, and ways to die that no child process has."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scenarios.backends.container import ContainerLauncher
from scenarios.backends.interface import MachineGone, Session, SetupError
from scenarios.backends.registry import open_backend
from scenarios.backends.run_directory import RunDirectory, owner
from scenarios.language.steps import Disk, Scenario
from scenarios.matrix import engine as engines
from scenarios.matrix import roots

SECOND = 1_000_000_000
SUITE = "trixie"


def containers(labelled: str) -> list[Any]:
    """Of all states, by their label."""
    with engines.engine().client() as client:
        return list(client.containers.list(all=True, filters={"label": labelled}))


def own_containers() -> list[Any]:
    return containers(f"{engines.OWNER_LABEL}={owner()}")


def run(body: Any, **scenario: Any) -> None:
    scenario.setdefault("disks", {"vda": Disk(size=1 << 20)})
    open_backend(f"container:{SUITE}").run(Scenario(name="test", **scenario), 0, body)


def test_start_to_greeting_takes_at_most_600_ms() -> None:
    took_s: list[float] = []
    backend = open_backend(f"container:{SUITE}")
    backend.probe()

    async def body(session: Session) -> None:
        took_s.append(time.monotonic() - began)

    for _ in range(5):
        began = time.monotonic()
        backend.run(Scenario(name="test", disks={"vda": Disk(size=1 << 20, format="raw")}), 0, body)
    # The best of some: what else the host does is not the container's.
    assert min(took_s) <= 0.6, took_s


@pytest.mark.parametrize("failure", [AssertionError, KeyboardInterrupt, None])
def test_a_container_survives_no_run(failure: type[BaseException] | None) -> None:
    async def body(session: Session) -> None:
        assert len(own_containers()) == 1
        if failure is not None:
            raise failure

    if failure is None:
        run(body)
    else:
        with pytest.raises(failure):
            run(body)
    assert own_containers() == []


def test_a_container_that_is_killed_is_told_with_its_log() -> None:
    async def body(session: Session) -> None:
        (container,) = own_containers()
        # The first process can be killed from outside only; what it last said is the container's log.
        await asyncio.to_thread(container.exec_run, ["sh", "-c", "echo last words >/proc/1/fd/2"])
        await asyncio.to_thread(container.kill)
        with pytest.raises(MachineGone) as caught:
            await session.qmp("query-status")
        said = str(caught.value)
        assert "qemu-system-x86_64 killed by SIGKILL" in said
        assert f"container {container.short_id} of localhost/goldenfleece-{SUITE}:" in said
        assert "ended with status 137; its log: last words" in said

    run(body)
    assert own_containers() == []


def test_the_image_has_its_own_tools_and_no_network() -> None:
    async def body(session: Session) -> None:
        status, out, _ = await session.tool(["qemu-img", "--version"])
        assert status == 0
        assert out.startswith(f"qemu-img version {roots.require(SUITE).about.qemu} ".encode())
        # NBD clients are the host's: Debian's images have none.
        assert (await session.tool(["nbdinfo", "--version"]))[0] == 0
        (container,) = own_containers()
        said = container.exec_run(["sh", "-c", "cd /sys/class/net && echo *"]).output.split()
        assert said == [b"lo"]
        limits = container.exec_run(["sh", "-c", "ulimit -n"]).output
        assert limits == b"1024\n"

    run(body)


def test_what_a_program_leaves_running_is_told_and_killed() -> None:
    async def body() -> None:
        with RunDirectory() as place:
            launch = ContainerLauncher(SUITE).open(place)
            try:
                words = ["sh", "-c", "echo out; echo err >&2; sleep 60 & sleep 0.2; exit 3"]
                output: list[bytes] = []
                program = await launch.start_own_tool(words, output.append)
                assert await asyncio.wait_for(program.wait(), 20) == 3
                assert [name for _, name in program.survivors] == ["sleep"]
                assert (b"".join(output), program.stderr) == (b"out\n", "err\n")
                (container,) = own_containers()
                left = container.exec_run(["sh", "-c", "cat /proc/[0-9]*/stat | grep sleep"]).output.decode()
                assert all(line.split()[2] == "Z" for line in left.splitlines()), left
            finally:
                await launch.close()

    asyncio.run(body())


def test_a_program_that_the_image_does_not_have() -> None:
    from scenarios.backends.qemu import QemuBackend

    backend = QemuBackend("x", "qemu-system-none", ContainerLauncher(SUITE))
    with pytest.raises(SetupError, match=r"qemu-system-none: ended before it answered: .* status 127; "):
        backend.probe()
    assert own_containers() == []


# ---------------------------------------------------------------- images and engines


@pytest.fixture
def no_engine_yet() -> Iterator[None]:
    """An engine is looked for anew, and the one of the other tests goes on to be theirs."""
    cached, engines.engine = engines.engine, engines.engine.__wrapped__
    yield
    engines.engine = cached


def test_an_image_that_is_not_there_is_not_pulled() -> None:
    with pytest.raises(SetupError, match=r"no image nobody/has:it at unix://.*; nothing is pulled"):
        open_backend("container:nobody/has:it")
    with pytest.raises(SetupError, match="expected container:IMAGE"):
        open_backend("container:")


def test_any_local_image_can_be_named() -> None:
    tag = engines.image(engines.engine(), SUITE)
    backend = open_backend(f"container:{tag}+storage-daemon")
    assert "machine" not in backend.probe()[0]
    assert backend.version == "10.0"


def test_a_suite_that_is_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(roots.CACHE_VARIABLE, str(tmp_path))
    for kind in ("container", "chroot"):
        with pytest.raises(SetupError, match=f"Run: goldenfleece matrix build --suite {SUITE}"):
            open_backend(f"{kind}:{SUITE}")


@pytest.mark.usefixtures("no_engine_yet")
def test_an_engine_that_was_asked_for_and_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(SetupError, match=r"container engine at unix://.*/nobody\.sock: expected an answer"):
        engines.engine()


@pytest.mark.usefixtures("no_engine_yet")
def test_the_engine_that_docker_host_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    running = open_engine_url()
    monkeypatch.setenv("DOCKER_HOST", running)
    assert engines.engine().url == running


def open_engine_url() -> str:
    code = "from scenarios.matrix.engine import engine; print(engine().url, flush=True); input()"
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    _OWNERS.append(owner)
    assert owner.stdout is not None
    return owner.stdout.readline().strip()


_OWNERS: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def owners_end() -> Iterator[None]:
    yield
    while _OWNERS:
        owner = _OWNERS.pop()
        if owner.returncode is None:
            owner.communicate("\n", timeout=20)
        assert owner.returncode == 0


def test_the_service_ends_with_the_program_that_started_it() -> None:
    path = Path(open_engine_url().removeprefix("unix://"))
    assert path.is_socket()
    _OWNERS[0].communicate("\n", timeout=20)
    assert not path.parent.exists()


@pytest.mark.usefixtures("no_engine_yet")
@pytest.mark.parametrize("missing", ["podman", "runc"])
def test_what_is_missing_is_told_with_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engines, "_find", lambda environment: None)
    monkeypatch.setattr(engines, "_which", lambda name: "" if name == missing else shutil.which(name))
    with pytest.raises(SetupError, match=f"{missing} is missing. Run: apt-get install -y podman runc"):
        engines.engine()
