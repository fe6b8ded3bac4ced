"""The kernel and the first file system of a Linux guest, made from Debian's packages in a few seconds.

Kept in a cache, by what they are made of; made anew when that changes, or when the cache is removed.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from scenarios.backends.interface import SetupError
from scenarios.linux_guest.archive import Archive
from scenarios.linux_guest.modules import load_order

KERNEL_PACKAGE = "linux-image-cloud-amd64"
_BUSYBOX_PACKAGE = "busybox-static"
# Programs of this machine that go into the guest with their libraries: busybox has no such requests.
_PROGRAMS = ("blkdiscard", "fallocate")
_STEP_S = 300
# Counts up when the same inputs give something else.
_RECIPE = "1"


class GuestFiles(NamedTuple):
    """What -kernel and -initrd take."""

    kernel: Path
    first_files: Path


def cache_directory() -> Path:
    """GOLDENFLEECE_CACHE, else goldenfleece in the user's cache directory."""
    given = os.environ.get("GOLDENFLEECE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goldenfleece"


def guest_files() -> GuestFiles:
    """From the cache, or made now by whoever comes first. Raises SetupError."""
    init = resources.files("scenarios.linux_guest").joinpath("init.sh").read_bytes()
    name = hashlib.sha256(_RECIPE.encode() + init).hexdigest()[:16]
    cache = cache_directory() / "linux-guest"
    made = cache / name
    files = GuestFiles(made / "vmlinuz", made / "first-files.gz")
    if made.is_dir():
        return files
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache):
            if not made.is_dir():
                _make(cache, made, init)
    except OSError as error:
        raise SetupError(f"{cache}: cannot keep a Linux guest's kernel there: {error}") from error
    return files


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(cache: Path, made: Path, init: bytes) -> None:
    """In a directory beside it that gets its name when all is there, so that nothing half-made is found."""
    print(
        "goldenfleece: making the Linux guest (once; some seconds, 30 MB to fetch)",
        file=sys.stderr,
        flush=True,
    )
    for stale in cache.glob("making-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as name:
        work = Path(name)
        root = _unpacked_packages(work)
        ready = work / "ready"
        ready.mkdir()
        kernels = sorted((root / "boot").glob("vmlinuz-*"))
        if not kernels:
            raise SetupError(f"{KERNEL_PACKAGE}: expected a file boot/vmlinuz-VERSION in it, there is none")
        shutil.copyfile(kernels[-1], ready / "vmlinuz")
        (ready / "first-files.gz").write_bytes(gzip.compress(_first_files(root, init), 1, mtime=0))
        ready.rename(made)


def _first_files(root: Path, init: bytes) -> bytes:
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp"):
        archive.directory(name)
    archive.device("dev/console", 5, 1)
    archive.file("init", init, executable=True)
    archive.file("bin/busybox", _file_of(root, "busybox").read_bytes(), executable=True)
    modules = load_order(root)
    for name, content in modules:
        archive.file(f"modules/{name}", content)
    archive.file("modules/order", "".join(f"{name}\n" for name, _ in modules).encode())
    libraries: dict[Path, None] = {}
    for program in _PROGRAMS:
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")
        if path is None:
            raise SetupError(f"{program}: not found in PATH; Debian has it in util-linux")
        archive.file(f"sbin/{program}", Path(path).read_bytes(), executable=True)
        libraries |= dict.fromkeys(_libraries(path))
    for library in libraries:
        archive.file(str(library).lstrip("/"), library.read_bytes(), executable=True)
    return archive.finish()


def _file_of(root: Path, name: str) -> Path:
    for path in sorted(root.rglob(name)):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise SetupError(f"{_BUSYBOX_PACKAGE}: expected a program {name} in it, there is none")


def _libraries(program: str) -> list[Path]:
    """Absolute paths of the shared libraries of a program, the loader included."""
    words = _run(["ldd", program]).split()
    return [Path(word) for word in words if word.startswith("/")]


def _unpacked_packages(work: Path) -> Path:
    """The directory with the kernel's and busybox's files. Nothing is installed."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise SetupError(f"{program}: not found in PATH; a Linux guest is made from Debian's packages")
    fetched = work / "packages"
    fetched.mkdir()
    # The unprivileged user that apt-get fetches with must be able to write there.
    fetched.chmod(0o777)
    work.chmod(0o755)
    _run(["apt-get", "download", "--quiet", _kernel_package(), _BUSYBOX_PACKAGE], fetched)
    root = work / "root"
    for package in sorted(fetched.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(root)])
    return root


def _kernel_package() -> str:
    """The package that holds the newest kernel: KERNEL_PACKAGE only depends on it."""
    for _ in range(2):
        for line in _run(["apt-cache", "depends", KERNEL_PACKAGE], may_fail=True).splitlines():
            kind, _, name = line.strip().partition(": ")
            if kind == "Depends" and name.startswith("linux-image-"):
                return name
        if os.geteuid() != 0:
            break
        _run(["apt-get", "update", "--quiet"])
    raise SetupError(f"{KERNEL_PACKAGE}: apt does not know this package. Run: sudo apt-get update")


def _run(argv: list[str], folder: Path | None = None, may_fail: bool = False) -> str:
    """Its standard output. Raises SetupError with its last words."""
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_STEP_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"{' '.join(argv)}: not done after {_STEP_S} s") from None
    if done.returncode != 0 and not may_fail:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise SetupError(f"{' '.join(argv)}: exit status {done.returncode}: {last}")
    return done.stdout
