"""What the README shows is true: its scenario loads, its error message is the one that is printed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from scenarios.language.loader import SpecError, load_text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(first: str) -> str:
    """The indented block of the README that begins with this line."""
    lines = README.split(f"    {first}\n")[1].split("\n")
    block = [first]
    for line in lines:
        if line and not line.startswith("    "):
            break
        block.append(line[4:])
    return "\n".join(block)


def test_the_scenario_loads() -> None:
    scenario = load_text(shown("name: two clients fleece one disk from different points in time"))
    assert [step.verb for step in scenario.steps] == [
        "guest",
        "fleece",
        "guest",
        "fleece",
        "together",
        "end",
        "end",
    ]


def test_the_error_message_is_the_one_that_is_printed() -> None:
    wrong = shown("name: two clients fleece one disk from different points in time").replace("64k", "64q", 1)
    with pytest.raises(SpecError) as caught:
        load_text(wrong, "two.yaml")
    assert f"    {caught.value.problems[0]}\n" in README


def test_the_two_commands_can_be_started() -> None:
    for name in ("ci/gate", "ci/test", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name


def test_the_files_to_copy_are_there() -> None:
    """Every path in CONTRIBUTING.md and README.md that is no placeholder exists."""
    text = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(
        re.findall(r"[`(\s]((?:scenarios|simulator|tests|ci)/[a-z0-9_./]+|[A-Z]+\.md)(?=[`)\s;,])", text)
    )
    assert len(paths) > 15
    assert sorted(path for path in paths if not path.endswith("...") and not (ROOT / path).exists()) == []
