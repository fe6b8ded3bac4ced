"""`goldenfleece matrix build | list | remove`: images of QEMU versions."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from scenarios.backends.interface import SetupError
from scenarios.matrix import build as builder
from scenarios.matrix import mirror, roots


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="goldenfleece matrix", description="Root file systems and container images of QEMU versions."
    )
    parser.add_argument(
        "--cache", metavar="DIR",
        help=f"where root file systems are kept (default: ${roots.CACHE_VARIABLE}, else the user's cache)",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="build | list | remove")
    build = commands.add_parser("build", help="make them with debootstrap, where the package is newer")
    build.add_argument("--suite", action="append", metavar="SUITE", help="may be repeated (default: all)")
    build.add_argument("--mirror", metavar="URL", help="of Debian's archive (default: apt's)")
    build.add_argument(
        "--roots-only", action="store_true", help="make no container images: for chroot:SUITE alone"
    )
    commands.add_parser("list", help="what is there")
    remove = commands.add_parser("remove", help="remove root file systems and images")
    remove.add_argument("suite", nargs="*", metavar="SUITE", help="default: all")
    options = parser.parse_args(argv)
    if options.cache:
        os.environ[roots.CACHE_VARIABLE] = options.cache
    if options.command == "build":
        with builder.as_interrupt(signal.SIGTERM):
            return _build(_suites(options.suite), options.mirror, options.roots_only)
    return _list() if options.command == "list" else _remove(_suites(options.suite))


def _suites(wanted: Sequence[str] | None) -> list[str]:
    known = list(roots.description().suites)
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise SetupError(f"no suite {', '.join(unknown)}; known: {', '.join(known)}")
    return list(dict.fromkeys(wanted or known))


# ---------------------------------------------------------------- build


def _build(suites: list[str], archive: str | None, roots_only: bool) -> int:
    builder.check_host(("debootstrap", "unshare") + (() if roots_only else ("podman", "runc")))
    how = roots.description().build
    archive = (archive or mirror.mirror(how.mirror)).rstrip("/")
    wanted = []
    for suite in suites:
        root = roots.find(suite)
        if root is not None and _is_newest(root, archive):
            print(f"{suite}: QEMU {root.about.qemu} ({root.about.package}) is there", flush=True)
        else:
            wanted.append(suite)
    if wanted:
        print(
            f"building {', '.join(wanted)} from {archive} in {roots.roots_directory()}:"
            f" about {how.seconds * len(wanted)} s and {how.mebibytes * len(wanted)} MiB",
            flush=True,
        )
    for suite in wanted:
        began = time.monotonic()
        with _Shown(suite, how.steps) as shown:
            about = builder.build(suite, archive, shown.line).about
        print(
            f"{suite}: QEMU {about.qemu} ({about.package}), {about.size_bytes >> 20} MiB,"
            f" {time.monotonic() - began:.0f} s",
            flush=True,
        )
    if not roots_only:
        _import(suites)
    return 0


def _is_newest(root: roots.Root, archive: str) -> bool:
    """What is there stays where nobody can say whether there is a newer one."""
    try:
        return builder.is_newest(root, archive)
    except SetupError as error:
        print(f"{root.about.suite}: kept as it is: {error}", file=sys.stderr, flush=True)
        return True


def _import(suites: list[str]) -> None:
    from scenarios.matrix.engine import engine, image

    for suite in suites:
        image(engine(), suite)


class _Shown:
    """Progress of one build: a bar on a terminal, elsewhere a line whenever debootstrap does something else.
    It tells no number of steps before it begins, so theirs is an estimate."""

    def __init__(self, suite: str, steps: int) -> None:
        self._suite, self._doing = suite, ""
        console = Console()
        columns = (
            TextColumn("{task.fields[suite]}"), BarColumn(), TimeElapsedColumn(),
            TextColumn("{task.description}", table_column=None),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("", total=steps, suite=suite) if self._bar else None

    def __enter__(self) -> _Shown:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def line(self, text: str) -> None:
        text = text.removeprefix("I: ")
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, description=text[:60])
            return
        doing = text.split(" ", 1)[0]
        # Fetching and checking alternate, one package after the other.
        if doing != self._doing and doing in ("Retrieving", "Extracting", "Unpacking", "Configuring"):
            self._doing = doing
            print(f"{self._suite}: {doing.lower()} packages", flush=True)


# ---------------------------------------------------------------- list, remove


def _list() -> int:
    print(f"{'suite':<10}{'QEMU':<10}{'size':>9}  {'age':>8}  package")
    for suite, version in roots.description().suites.items():
        root = roots.find(suite)
        if root is None:
            print(f"{suite:<10}{version:<10}{'-':>9}  {'-':>8}  not built")
            continue
        about = root.about
        age = _age(time.time() - about.built_s)
        print(f"{suite:<10}{about.qemu:<10}{about.size_bytes >> 20:>5} MiB  {age:>8}  {about.package}")
    print(f"in {roots.roots_directory()}")
    return 0


def _age(seconds: float) -> str:
    for unit, length_s in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _remove(suites: list[str]) -> int:
    from scenarios.matrix.engine import engine, remove_images

    for suite in suites:
        if builder.remove(suite):
            print(f"removed {roots.roots_directory() / suite}")
    try:
        where = engine()
    except SetupError:
        # Without an engine there are no images.
        return 0
    for suite in suites:
        for tag in remove_images(where, suite):
            print(f"removed image {tag}")
    return 0
