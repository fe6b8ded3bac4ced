"""Findings that are known defects of certain versions of QEMU (ci/known_differences.toml): told, and no
failure."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

PATH = Path(__file__).resolve().parents[2] / "ci" / "known_differences.toml"


class Known(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One defect: on these `versions` (major.minor) these `specs` (labels) show a finding of `judge` with
    `method`."""

    id: str
    versions: list[str]
    method: str
    judge: str
    specs: list[str]
    reason: str
    source: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    known: list[Known] = []


class KnownFileError(Exception):
    """The list cannot be read; str() names the file and what was expected."""


@cache
def load(path: Path = PATH) -> tuple[Known, ...]:
    """All entries; none where the list is not shipped. Raises KnownFileError."""
    try:
        return tuple(msgspec.toml.decode(path.read_bytes(), type=_File).known)
    except FileNotFoundError:
        return ()
    except msgspec.DecodeError as error:
        raise KnownFileError(f"{path}: {error}") from None


def entry_for(label: str, method: str, version: str) -> Known | None:
    """The entry that covers a case, if any. `version` as Backend.version."""
    for known in load():
        if label in known.specs and method == known.method and version in known.versions:
            return known
    return None
