"""Makes root file systems of Debian suites with debootstrap. What is half made is never found by anybody, and
goes whatever happens: at the latest when the next build begins."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from scenarios.backends.interface import SetupError
from scenarios.backends.processes import death_wrapper
from scenarios.matrix import mirror, roots

INSTALL = "apt-get install -y debootstrap debian-archive-keyring podman runc"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ADMIN = ("/usr/sbin", "/sbin")
_LAST_LINES = 15
# Called with each line of debootstrap's.
Told = Callable[[str], None]


def check_host(programs: tuple[str, ...]) -> None:
    """Raises SetupError with the command that brings what is missing."""
    lacking = [name for name in programs if not which(name)]
    if "debootstrap" in programs and not KEYRING.exists():
        lacking.append(str(KEYRING))
    if lacking:
        raise SetupError(f"missing: {', '.join(lacking)}. Run: {INSTALL}")
    if os.geteuid() != 0:
        raise SetupError("debootstrap needs root: sudo goldenfleece matrix build")


def which(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_ADMIN)))


def is_newest(root: roots.Root, archive: str) -> bool:
    """Whether a build would bring the same package of QEMU again. Raises SetupError."""
    package = roots.description().build.packages[0]
    return mirror.newest(archive, root.about.suite, package) == root.about.package


def build(suite: str, archive: str, told: Told) -> roots.Root:
    """Make the suite's root file system, in place of the one that is there. Raises SetupError."""
    with roots.lock("roots"):
        folder = roots.roots_directory()
        folder.mkdir(parents=True, exist_ok=True)
        # Nobody else is here: what such a name has was left by a build that was killed.
        for left in folder.glob(".*.partial"):
            _remove(left)
        partial = folder / f".{suite}.partial"
        _check_space(folder)
        try:
            _run(_debootstrap(suite, archive, partial), told)
            about = _inspect(suite, partial)
            _replace(folder / suite, partial, about)
        except OSError as error:
            raise SetupError(f"{suite}: cannot be built in {folder}: {error}") from None
        finally:
            _remove(partial)
    return roots.require(suite)


def remove(suite: str) -> bool:
    """Remove the suite's root file system; whether there was one."""
    path = roots.roots_directory() / suite
    with roots.lock("roots"):
        there = path.exists()
        if there:
            _remove(path)
    return there


def _check_space(folder: Path) -> None:
    # While it is built, packages lie beside what is in them.
    free, needed = shutil.disk_usage(folder).free >> 20, roots.description().build.mebibytes * 3 // 2
    if free < needed:
        raise SetupError(f"{folder}: about {needed} MiB are needed for a build, {free} MiB are free")


def _debootstrap(suite: str, archive: str, target: Path) -> list[str]:
    """In a mount and a process namespace of its own: what it mounts and starts ends with it."""
    how = roots.description().build
    return [
        *death_wrapper(), which("unshare") or "unshare",
        "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--",
        which("debootstrap") or "debootstrap", f"--variant={how.variant}", "--merged-usr",
        "--force-check-gpg", f"--keyring={KEYRING}", f"--include={','.join(how.packages)}",
        suite, str(target), archive,
    ]  # fmt: skip


def _run(command: list[str], told: Told) -> None:
    """Raises SetupError with the command and its last lines."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    variables = mirror.environment()
    variables["PATH"] = os.pathsep.join((variables.get("PATH", ""), *_ADMIN))
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=variables,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            last.append(line.rstrip())
            told(last[-1])
        status = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    if status != 0:
        shown = " ".join(command[command.index("--", len(death_wrapper())) + 1 :])
        said = "".join(f"\n  {each}" for each in last)
        raise SetupError(f"{shown}: status {status}; its last lines:{said}")


def _inspect(suite: str, root: Path) -> roots.About:
    """Ask what has been built which QEMU it is, and take away what QEMU does not need. Raises SetupError."""
    how = roots.description().build
    package = _ask_inside(root, "dpkg-query", "-W", "-f", "${Version}", how.packages[0])
    said = _ask_inside(root, "qemu-img", "--version")
    version = re.search(r"version (\d+\.\d+(\.\d+)?)", said)
    if version is None:
        raise SetupError(f"{root}: expected qemu-img to say its version, it said {said!r}")
    for each in how.remove:
        _remove(root / each)
    measured = subprocess.run(["du", "-s", "-B1", str(root)], capture_output=True, check=True)
    size_bytes = int(measured.stdout.split()[0])
    return roots.About(suite, package.strip(), version[1], int(time.time()), size_bytes)


def _ask_inside(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["unshare", f"--root={root}", *command], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)} in {root}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _replace(path: Path, new: Path, about: roots.About) -> None:
    """Programs that run from the old one go on: what they have open is theirs."""
    roots.describe(new, about)
    with contextlib.ExitStack() as at_end:
        if path.exists():
            old = path.with_name(f".{path.name}.old.partial")
            path.rename(old)
            at_end.callback(_remove, old)
        new.rename(path)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextlib.contextmanager
def as_interrupt(number: int) -> Iterator[None]:
    """Have a signal end what is inside as Ctrl-C does, so that it is cleaned up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)
