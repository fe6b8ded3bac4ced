"""The root file systems of QEMU versions: ``CACHE/roots/SUITE``, each with a file that says what it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import msgspec

from scenarios.backends.interface import SetupError

DESCRIPTION = Path(__file__).resolve().parents[2] / "ci" / "images" / "suites.toml"
CACHE_VARIABLE = "GOLDENFLEECE_CACHE"
_ABOUT = "etc/goldenfleece.json"


class Build(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How images are made, from ci/images/suites.toml. `remove` are paths below the root."""

    mirror: str
    variant: str
    packages: list[str]
    remove: list[str]
    seconds: int
    mebibytes: int
    steps: int


class Description(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`suites`: Debian's suite to QEMU's version there, oldest first."""

    suites: dict[str, str]
    build: Build


class About(msgspec.Struct, frozen=True):
    """What a root file system holds. `package` is the version of Debian's package, `built_s` is seconds since
    1970."""

    suite: str
    package: str
    qemu: str
    built_s: int
    size_bytes: int


class Root(msgspec.Struct, frozen=True):
    """A root file system that is ready to be used."""

    path: Path
    about: About


@cache
def description(path: Path = DESCRIPTION) -> Description:
    """Raises SetupError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Description)
    except (OSError, msgspec.DecodeError) as error:
        raise SetupError(
            f"{path}: expected the description of images that goldenfleece's source tree has: {error}"
        ) from None


def is_suite(name: str) -> bool:
    """False also where the description of images is not shipped: all names are then those of images."""
    return DESCRIPTION.exists() and name in description().suites


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """$GOLDENFLEECE_CACHE, else goldenfleece/ in the user's cache directory (XDG base directories)."""
    chosen = environment.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    base = environment.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "goldenfleece"


def roots_directory() -> Path:
    return cache_directory() / "roots"


@contextlib.contextmanager
def lock(what: str) -> Iterator[None]:
    """Only one process of this machine is inside, for each `what`. The lock is the file's, so no process can
    leave it behind."""
    folder = cache_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f"{what}.lock").open("w")
    except OSError as error:
        raise SetupError(
            f"cache directory {folder}: {error.strerror}; another one can be named by ${CACHE_VARIABLE}"
        ) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find(suite: str) -> Root | None:
    """The suite's root file system, if it was built."""
    path = roots_directory() / suite
    try:
        return Root(path, msgspec.json.decode((path / _ABOUT).read_bytes(), type=About))
    except (OSError, msgspec.DecodeError):
        return None


def require(suite: str) -> Root:
    """The suite's root file system. Raises SetupError with the command that builds it."""
    root = find(suite)
    if root is None:
        raise SetupError(
            f"no root file system of {suite} in {roots_directory()}."
            f" Run: goldenfleece matrix build --suite {suite}"
        )
    return root


def describe(path: Path, about: About) -> None:
    """Write into a root file system what it is: from then on `find` takes it for one."""
    (path / _ABOUT).write_bytes(msgspec.json.encode(about) + b"\n")
