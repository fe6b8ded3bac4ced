"""The specs of suspended requests and of full file systems find machines that get these moments wrong."""

from __future__ import annotations

from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest

from scenarios.backends.registry import open_backend
from scenarios.explore.bugs import bug
from scenarios.language.loader import load_text
from scenarios.run.runner import CaseResult, run_case
from simulator.block.drivers.copy_before_write import CopyBeforeWrite
from simulator.block.memory_files import MemoryFile

FAULTS = Path(__file__).parents[2] / "scenarios" / "specs" / "faults"


def run(name: str, method: str, without: str = "") -> CaseResult:
    """`without`: words that are left out of the spec."""
    text = (FAULTS / f"{name}.yaml").read_text().replace(without, "")
    return run_case(load_text(text), open_backend("sim:7.2"), method, 0)


def judges(result: CaseResult) -> set[str]:
    return {verdict.judge for verdict in result.verdicts if verdict.findings}


@pytest.mark.parametrize(
    ("name", "method", "wrong"),
    [
        ("writer_while_the_old_cluster_is_read", "snapshot-access", "access-does-not-freeze"),
        ("writer_while_the_old_cluster_is_read", "overlay", "overlay-copies-without-serialising"),
        ("writer_while_the_old_cluster_is_read", "overlay", "requests-do-not-wait"),
        ("reader_while_the_new_cluster_is_written", "snapshot-access", "cbw-copies-too-late"),
        ("reader_while_the_copy_is_written", "snapshot-access", "cbw-copies-too-late"),
    ],
)
def test_a_wrong_race_is_found(name: str, method: str, wrong: str) -> None:
    assert run(name, method).outcome == "holds"
    with bug(wrong):
        result = run(name, method)
    assert result.outcome == "finding"
    assert "point_in_time" in judges(result)


@pytest.mark.parametrize("method", ["overlay", "snapshot-access"])
def test_a_full_file_system_that_says_nothing_is_found(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = MemoryFile.write

    def lose(self: MemoryFile, offset: int, payload: bytes) -> None:
        try:
            write(self, offset, payload)
        except OSError as error:
            if error.errno != ENOSPC:
                raise

    monkeypatch.setattr(MemoryFile, "write", lose)
    result = run("no_room_left_for_the_scratch_image", method, without=", error: ENOSPC")
    assert "point_in_time" in judges(result)


def test_a_copy_that_fails_unheard_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = CopyBeforeWrite._copy_before

    async def go_on(self: CopyBeforeWrite, *request: Any) -> None:
        with suppress(OSError):
            await copy(self, *request)

    monkeypatch.setattr(CopyBeforeWrite, "_copy_before", go_on)
    assert run("no_room_left_for_the_scratch_image", "snapshot-access").outcome == "finding"


def test_a_guest_that_pays_for_the_point_in_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to give up the point in time instead."""
    opened = CopyBeforeWrite.open

    async def ignore(self: CopyBeforeWrite, options: dict[str, Any]) -> None:
        kept = {name: value for name, value in options.items() if name != "on-cbw-error"}
        await opened(self, kept)

    monkeypatch.setattr(CopyBeforeWrite, "open", ignore)
    assert run("no_room_left_and_the_guest_goes_on", "snapshot-access").outcome == "finding"
