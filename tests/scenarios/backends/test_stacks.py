"""What gdb tells of real machines: of one that hangs, and of one that died. gdb must be there."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from machine_process import machine_pid

from scenarios.backends import stacks
from scenarios.backends.interface import DeadlinePassed, Session
from scenarios.backends.registry import open_backend
from scenarios.gate.evidence import describe, describe_all
from scenarios.language.loader import load_text
from scenarios.language.steps import Disk, Scenario
from scenarios.run.history import Stacks
from scenarios.run.runner import run_case

BACKENDS = ("qemu", "storage-daemon", "chroot:trixie", "container:trixie")
# What each main loop of QEMU calls, in every version (util/main-loop.c).
MAIN_LOOP = "main_loop_wait"

CRASH = """
name: a defect that ends the machine
disks: {vda: {size: 1M}}
steps:
  - qmp:
      execute: transaction
      arguments:
        actions: [{type: block-dirty-bitmap-enable, data: {node: vda, name: nobody}}]
"""


def run(backend: str, body: Any) -> None:
    opened = open_backend(backend)
    opened.probe()
    opened.run(Scenario(name="test", disks={"vda": Disk(size=1 << 20)}), 0, body)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_runs(backend: str) -> None:
    said: list[str] = []

    async def body(session: Session) -> None:
        await session.sleep(200_000_000)
        said.append(await session.stacks())
        await session.qmp("query-named-block-nodes")

    run(backend, body)
    assert MAIN_LOOP in said[0], said[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_died(backend: str) -> None:
    said: list[str] = []

    async def body(session: Session) -> None:
        # Until it has sent its last reply and sleeps in its main loop.
        await session.sleep(200_000_000)
        os.kill(machine_pid(session), signal.SIGABRT)
        status, _ = await session.wait_end(10_000_000_000)
        assert status == -signal.SIGABRT
        said.append(await session.stacks())
        assert not await session.left_behind(), "the core is not the machine's leaving"

    run(backend, body)
    assert MAIN_LOOP in said[0], said[0]
    assert "SIGABRT" in said[0]


def test_a_finding_names_the_functions_that_the_machine_died_in() -> None:
    done = run_case(load_text(CRASH), open_backend("qemu"), None, 0)
    assert done.outcome == "finding"
    assert done.history is not None
    [record] = done.history.of(Stacks)
    # block/dirty-bitmap.c and blockdev.c of 7.2: the missing bitmap is dereferenced while rolling back.
    assert "bdrv_disable_dirty_bitmap < qmp_transaction" in describe(record)
    [expectations] = [verdict for verdict in done.verdicts if verdict.judge == "expectations"]
    assert record in expectations.findings[0].evidence
    transcript = describe_all(done.history.records, 1000, 10_000)
    assert any(line.startswith("    Thread ") for line in transcript)


def test_a_run_that_takes_too_long_tells_what_the_machine_did() -> None:
    backend = open_backend("qemu")
    backend.probe()
    backend.scenario_ns = 2_000_000_000  # type: ignore[attr-defined]

    async def body(session: Session) -> None:
        await session.sleep(60_000_000_000)

    with pytest.raises(DeadlinePassed) as passed:
        backend.run(Scenario(name="test"), 0, body)
    assert MAIN_LOOP in passed.value.stacks


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [("core", "core"), ("core.%p", "core."), ("|/usr/share/apport", ""), ("/var/crash/%e", ""), ("%e", "")],
)
def test_only_cores_in_the_machine_s_directory_are_asked_for(
    pattern: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forms of core(5)."""
    (tmp_path / "pattern").write_text(f"{pattern}\n")
    monkeypatch.setattr(stacks, "_CORE_PATTERN", tmp_path / "pattern")
    assert stacks.core_prefix.__wrapped__() == prefix
