"""Spec files to Scenarios, and back to plain objects for the JSON Schema. Errors name file, line and step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenarios.language.check import Checker
from scenarios.language.decode import BROKEN, Decoder
from scenarios.language.problems import Problem, Problems, SpecError
from scenarios.language.steps import Scenario
from scenarios.language.tree import read_tree, to_plain


def load_file(path: str | Path) -> Scenario:
    """The Scenario of one YAML file, its `path` as given and each step with its `line`.

    Raises SpecError with everything that is wrong with the file, also for one that cannot be read.
    """
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise SpecError([Problem(str(path), 1, "", f"cannot be read: {error.strerror}")]) from None
    return load_text(source, str(path))


def load_text(source: bytes | str, path: str = "<text>", keep_places: bool = True) -> Scenario:
    """As load_file. Without `keep_places`, `path` and `line` stay empty, as where a program made it."""
    root = read_tree(source.encode() if isinstance(source, str) else source, path)
    problems = Problems(path)
    decoder = Decoder(problems, keep_places)
    members = decoder.members(root)
    if members is not BROKEN:
        known = {name: value for name, value in members.items() if value is not BROKEN}
        disks: dict[str, Any] = dict.fromkeys(decoder.disk_names)
        disks.update(decoder.good_disks)
        # A member that is left out has its default; one that is broken stays unknown.
        defaults: dict[str, Any] = {"methods": [], "steps": []}
        Checker(problems, decoder.broken).scenario({**_unless(defaults, members), **known}, disks)
    problems.raise_if_any()
    return Scenario(**members, path=path if keep_places else "")


def _unless(defaults: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if name not in members}


def load_plain(path: str | Path) -> Any:
    """A spec file as plain objects, as an editor with the JSON Schema sees it. Raises SpecError, OSError."""
    return to_plain(read_tree(Path(path).read_bytes(), str(path)))


def find_specs(path: str | Path) -> list[Path]:
    """Spec files under a folder (all *.yaml, sorted by path), or the file itself. Raises
    FileNotFoundError."""
    start = Path(path)
    if start.is_dir():
        return sorted(found for found in start.rglob("*.yaml") if found.is_file())
    if not start.exists():
        raise FileNotFoundError(f"{start}: no such file or folder")
    return [start]


__all__ = ["Scenario", "SpecError", "find_specs", "load_file", "load_plain", "load_text"]
