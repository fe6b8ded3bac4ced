"""Rows on a terminal and elsewhere, and records as lines."""

from __future__ import annotations

import io

import pytest

from scenarios.gate.case import Case, Result
from scenarios.gate.evidence import LONGEST_LINE, describe, describe_all
from scenarios.gate.table import Table
from scenarios.language.steps import Scenario
from scenarios.run.history import ClientRead, GuestOp, HmpExchange, PointInTime


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


CASES = [
    Case(Scenario(name="x", path="a/long_name.yaml"), backend, "overlay", 0)
    for backend in ("sim:7.2", "qemu")
]


def result(case: Case, outcome: str) -> Result:
    return Result(
        spec=case.scenario.path,
        name="x",
        backend=case.backend,
        method=case.method,
        seed=0,
        outcome=outcome,
        seconds=1.5,
    )  # type: ignore[arg-type]


def filled(stream: io.StringIO) -> str:
    with Table(CASES, stream) as table:
        table.progress(0, CASES)
        table.row(result(CASES[0], "holds"))
        table.progress(1, CASES[1:])
        table.row(result(CASES[1], "finding"))
    table.line("the end")
    return stream.getvalue()


def test_lines_where_there_is_no_terminal() -> None:
    assert filled(io.StringIO()) == (
        "scenario     backend  method        time  verdict\n"
        "a/long_name  sim:7.2  overlay    1.500 s  holds\n"
        "a/long_name  qemu     overlay    1.500 s  finding\n"
        "the end\n"
    )


def test_colours_and_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = filled(Terminal())
    assert "a/long_name  sim:7.2  overlay    1.500 s  \x1b[32mholds\x1b[0m\n" in shown
    assert "\x1b[1;31mfinding\x1b[0m\n" in shown
    assert "0/2  a/long_name (sim:7.2 overlay), a/long_name (qemu overlay)" in shown
    assert "1/2  a/long_name (qemu overlay)" in shown
    assert shown.endswith("the end\n")


def test_records_are_lines() -> None:
    assert describe(
        GuestOp(begin=3, end=4, step="2", disk="vda", kind="write", offset=65536, length=512, pattern=17)
    ) == ("step 2: guest op disk=vda kind=write offset=64k length=512 pattern=0x11 (3-4)")
    assert describe(PointInTime(begin=5, fleece_id="monday", disks=["vda"], method="overlay")) == (
        "point in time fleece_id=monday disks=['vda'] method=overlay (5-)"
    )
    read = ClientRead(
        begin=6,
        end=9,
        fleece_id="m",
        disk="vda",
        client="own",
        offset=0,
        length=1024,
        content=[(0, 512, 17), (512, 512, b"0123456789" * 51)],
    )
    assert describe(read).endswith("content=[0+512 0x11, 512+512 3031323334353637...] (6-9)")


def test_a_long_record_is_cut() -> None:
    line = describe(HmpExchange(begin=1, end=2, line="info block", prints="x\n" * 300))
    assert len(line) <= LONGEST_LINE + 2
    assert line.startswith("hmp exchange line=info block prints=x x x ")
    assert line.endswith("... (1-2)")


def test_many_records_are_counted() -> None:
    records = [GuestOp(begin=i, end=i, disk="vda", kind="flush") for i in range(5)]
    assert describe_all(records, 3)[3:] == ["... and 2 more"]
    assert len(describe_all(records, 5)) == 5
