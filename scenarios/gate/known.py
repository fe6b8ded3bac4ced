"""Findings that are known defects of certain versions of QEMU (ci/known_differences.toml): told, and no
failure."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec

PATH = Path(__file__).resolve().parents[2] / "ci" / "known_differences.toml"


class Known(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One defect: on these `versions` (major.minor) these `specs` (labels), run with `method` ("" for
    none), show findings of `judges` and of no other. `only_on`: the backends that show it, by what stands
    before the colon in their names, or by a "+..." at their end, where not all of that version do, as when
    the simulator does not crash with QEMU. `sometimes`: the machine's own timing decides whether it shows, so
    a run that holds does not tell that it is fixed."""

    id: str
    versions: list[str]
    method: str
    judges: list[str]
    specs: list[str]
    reason: str
    source: str
    only_on: list[str] = []
    sometimes: bool = False


class KnownSession(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One difference that stays: in these recorded `sessions` (THEME/NAME) the simulator of these `versions`
    does not answer as they did."""

    id: str
    versions: list[str]
    sessions: list[str]
    reason: str
    source: str


class KnownKind(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A defect that sessions which are drawn show on these `versions`: `kind` and `said` are regular
    expressions, found in what is unlike and in the fewest steps that show it."""

    id: str
    versions: list[str]
    kind: str
    said: str
    reason: str
    source: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    known: list[Known] = []
    session: list[KnownSession] = []
    drawn: list[KnownKind] = []


class KnownFileError(Exception):
    """The list cannot be read; str() names the file and what was expected."""


def load(path: Path = PATH) -> tuple[Known, ...]:
    """All findings; none where the list is not shipped. Raises KnownFileError."""
    return tuple(_read(path).known)


def sessions(path: Path = PATH) -> tuple[KnownSession, ...]:
    """All differences in recorded sessions, likewise."""
    return tuple(_read(path).session)


@cache
def _read(path: Path) -> _File:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return _File()
    except msgspec.DecodeError as error:
        raise KnownFileError(f"{path}: {error}") from None


def entry_for_session(session: str, version: str) -> KnownSession | None:
    """The entry that covers a session of a version, if any."""
    covers = (each for each in sessions() if session in each.sessions and version in each.versions)
    return next(covers, None)


def kinds(path: Path = PATH) -> tuple[KnownKind, ...]:
    """All defects that drawn sessions show, likewise."""
    return tuple(_read(path).drawn)


def entry_for_kind(kind: str, said: str, version: str) -> KnownKind | None:
    """The entry that covers a difference in a drawn session, if any."""
    covers = (
        each
        for each in kinds()
        if version in each.versions and re.search(each.kind, kind) and re.search(each.said, said)
    )
    return next(covers, None)


def entry_for(label: str, method: str, backend: str, version: str) -> Known | None:
    """The entry that covers a case, if any. `backend` is its name, `version` as Backend.version."""
    for known in load():
        if label not in known.specs or method != known.method or version not in known.versions:
            continue
        if not known.only_on or any(_is_meant(backend, each) for each in known.only_on):
            return known
    return None


def _is_meant(backend: str, kind: str) -> bool:
    return backend.endswith(kind) if kind.startswith("+") else backend.partition(":")[0] == kind
