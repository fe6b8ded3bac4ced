"""QEMU's own image-fleecing test, as its test runner would start it, beside our specs of the same five cases.

It comes with the source package of the installed QEMU, which is kept in the cache; nothing of it is part of
this project. Debian builds QEMU without the accelerator that the test asks for, so a script stands between
them that names another one, and does not let the processor run, as our machines do not either.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from scenarios.gate.case import SPECS, load_specs, plan
from scenarios.gate.work import end_shared, run_shared
from scenarios.linux_guest.build import cache_directory

CASES = 5
_TEST = "tests/qemu-iotests/tests/image-fleecing"
_PARTS = ("tests/qemu-iotests", "python")
_STEP_S = 900

_INSTEAD_OF_QEMU = """#!/bin/sh
for word do
    shift
    [ "$word" = qtest ] && word=tcg,tb-size=4
    set -- "$@" "$word"
done
exec {program} "$@" -S
"""
# Without the time that the interpreter and the imports take.
_TIMED = """
import io, runpy, sys, time
import iotests
began = time.perf_counter()
runpy.run_path(sys.argv[1], run_name="__main__")
print(time.perf_counter() - began, file=sys.stderr)
"""


class MissingError(Exception):
    """What the comparison needs is not there; str() says how to get it."""


class QemuTest:
    """`source`: QEMU's unpacked source; `program`: the system emulator; `directory`: for its images."""

    def __init__(self, source: Path, program: str, directory: Path) -> None:
        self._test = source / _TEST
        if not self._test.exists():
            raise MissingError(f"{source}: expected QEMU's source, there is no {_TEST} in it")
        self._expected = self._test.with_name(self._test.name + ".out").read_text()
        place = directory / "iotest"
        place.mkdir()
        wrapper = place / "qemu"
        wrapper.write_text(_INSTEAD_OF_QEMU.format(program=program))
        wrapper.chmod(0o755)
        self._place = place
        self._environment = {**os.environ, **_variables(source, wrapper, place)}

    def run(self) -> None:
        """The whole command. Raises AssertionError if it does not print what it should."""
        self._run([sys.executable, str(self._test)])

    def run_inside(self) -> float:
        """Seconds from when the interpreter and its modules are there."""
        return float(self._run([sys.executable, "-c", _TIMED, str(self._test)]).split()[-1])

    def _run(self, argv: list[str]) -> str:
        done = subprocess.run(
            argv,
            cwd=self._place,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0 or done.stdout != self._expected:
            raise AssertionError(f"QEMU's test failed with status {done.returncode}: {done.stderr[-2000:]}")
        return done.stderr


def _variables(source: Path, program: Path, place: Path) -> dict[str, str]:
    """What tests/qemu-iotests/testenv.py sets for qcow2 images on files."""
    tools = {
        f"{name}_PROG": shutil.which(tool) or tool
        for name, tool in (
            ("QEMU_IMG", "qemu-img"),
            ("QEMU_IO", "qemu-io"),
            ("QEMU_NBD", "qemu-nbd"),
            ("QSD", "qemu-storage-daemon"),
        )
    }
    return tools | {
        "QEMU_PROG": str(program),
        "QEMU_OPTIONS": "-nodefaults -display none -machine pc",
        "QEMU_DEFAULT_MACHINE": "pc",
        "QEMU_IO_OPTIONS": "--cache writeback --aio threads -f qcow2",
        "QEMU_IO_OPTIONS_NO_FMT": "--cache writeback --aio threads",
        "PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(str(source / part) for part in _PARTS),
        "IMGFMT": "qcow2",
        "IMGPROTO": "file",
        "IMGOPTS": "",
        "CACHEMODE": "writeback",
        "CACHEMODE_IS_DEFAULT": "true",
        "AIOMODE": "threads",
        "TEST_DIR": str(place),
        "SOCK_DIR": str(place),
        "OUTPUT_DIR": str(place),
        "SAMPLE_IMG_DIR": str(source / "tests/qemu-iotests/sample_images"),
        "LANG": "C",
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def specs_command(program: str) -> Callable[[], None]:
    """The whole command that runs our five, in as many processes as it takes by itself."""
    argv = [sys.executable, "-m", "scenarios.cli", "run", str(SPECS / "image_fleecing")]

    def run() -> None:
        done = subprocess.run(
            [*argv, "--backend", f"qemu:{program}"], capture_output=True, text=True, timeout=120, check=False
        )
        if f"holds in all {CASES} runs" not in done.stdout:
            raise AssertionError(f"our specs failed: {done.stdout}{done.stderr}")

    return run


def specs_inside(program: str) -> Callable[[], None]:
    """Our five, one after the other in this process, whose machine runs from the first time on."""
    cases = plan(load_specs([SPECS / "image_fleecing"]), [f"qemu:{program}"], [], 0)

    def run() -> None:
        outcomes = [run_shared(case).outcome for case in cases]
        if outcomes != ["holds"] * CASES:
            raise AssertionError(f"our specs: {outcomes}")

    return run


def end() -> None:
    """The machine of `specs_inside`."""
    wrong = end_shared()
    if wrong:
        raise AssertionError("; ".join(wrong))


def source(given: Path | None) -> Path:
    """QEMU's source: that directory, or the cached one of the installed version, fetched where there is none
    yet. Raises MissingError."""
    if given is not None:
        return given
    version = _say(["dpkg-query", "-W", "-f", "${source:Version}", "qemu-system-x86"])
    kept = cache_directory() / "qemu-source" / version.replace(":", "%")
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as name:
            _fetch(Path(name), version)
            (Path(name) / "source").rename(kept)
    return kept


def _fetch(work: Path, version: str) -> None:
    """By apt-get, with state of its own: the machine's package lists stay as they are."""
    print(f"fetching the source of QEMU {version} (once)", file=sys.stderr, flush=True)
    suite = _say(["sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"])
    (work / "sources.list").write_text(
        f"deb-src http://deb.debian.org/debian {suite} main\n"
        f"deb-src http://deb.debian.org/debian {suite}-updates main\n"
        f"deb-src http://deb.debian.org/debian-security {suite}-security main\n"
    )
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    work.chmod(0o755)
    apt = ["apt-get", "-qq"]
    for option in (
        f"Dir::Etc::sourcelist={work}/sources.list",
        "Dir::Etc::sourceparts=/dev/null",
        f"Dir::State::lists={work}/lists",
        f"Dir::Cache={work}/cache",
        "APT::Sandbox::User=root",
    ):
        apt += ["-o", option]
    _say([*apt, "update"], work)
    _say([*apt, "source", "--download-only", f"qemu={version}"], work)
    (work / "source").mkdir()
    (archive,) = work.glob("qemu_*.orig.tar.*")
    parts = [f"*/{part}" for part in _PARTS]
    _say(["tar", "-xf", str(archive), "-C", "source", "--strip-components=1", "--wildcards", *parts], work)


def _say(argv: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=_STEP_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or ""
        raise MissingError(
            f"QEMU's source cannot be fetched: {error} {said.strip()}"
            " (or give one that is unpacked: --qemu-source DIRECTORY)"
        ) from None
    return done.stdout.strip()
