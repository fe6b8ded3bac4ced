"""scenarios/coverage.toml: which behaviour is shown by which spec."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from scenarios.gate.case import SPECS

COVERAGE = Path(SPECS).parent / "coverage.toml"
BEHAVIOURS = range(1, 129)
# 20 was about effort, not about a behaviour.
UNREACHED = [number for number in range(1, 25) if number != 20]


def table() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads(COVERAGE.read_text())


def test_every_row_is_there_once() -> None:
    rows = table()
    assert [row["number"] for row in rows["behaviour"]] == list(BEHAVIOURS)
    assert [row["number"] for row in rows["unreached"]] == UNREACHED


def test_every_spec_exists() -> None:
    named = {spec for rows in table().values() for row in rows for spec in row["specs"]}
    dead = [spec for spec in sorted(named) if not (SPECS / f"{spec}.yaml").is_file()]
    assert not dead


def test_rows_say_what_they_are() -> None:
    for rows in table().values():
        for row in rows:
            assert set(row) <= {"number", "what", "where", "specs"}, row
            assert row["what"], row
            assert len(set(row["specs"])) == len(row["specs"]), row
