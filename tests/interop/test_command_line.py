"""Command lines of the real executables and of the simulator's: the same words on the same streams, the
same status, on every version.

What the real ones made of them is in recorded_command_lines/VERSION.jsonl, a line each; `--rewrite` (without
-n) asks them anew, those of the other versions in their root file systems.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from both_programs import DAEMON, DAEMON_MONITOR, NONE, PC, SYSTEM, SYSTEM_MONITOR, Running, real
from command_lines import ON_DAEMON, ON_NONE, ON_PC

from scenarios.backends.chroot import ChrootLauncher
from scenarios.matrix import roots
from simulator.serve.emulator import write_emulator

RECORDED = Path(__file__).parent / "recorded_command_lines"
INSTALLED = "7.2"
SUITES = {version: suite for suite, version in roots.description().suites.items()}
BASES: dict[str, tuple[str, Sequence[str]]] = {
    "none": (SYSTEM, NONE),
    "pc": (SYSTEM, PC),
    "daemon": (DAEMON, ()),
}
CASES = [
    (base, options)
    for base, lines in (("none", ON_NONE), ("pc", ON_PC), ("daemon", ON_DAEMON))
    for options in lines
]
PIECE = 50
PIECES = range(0, len(CASES), PIECE)

Case = tuple[str, tuple[str, ...]]
# Exit status, standard output, standard error, files left.
Outcome = list[Any]


def shape(text: str, path: str) -> str:
    """Program name and numbers of the package made alike."""
    text = text.replace(path, "PROGRAM")
    text = re.sub(r"^Copyright.*$|^Simulated by.*$", "(whose)", text, flags=re.MULTILINE)
    return re.sub(r"'?/dev/fdset/\d+'?", "FDSET", text)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    for name in ("disk.raw", "other.raw"):
        (place / name).write_bytes(bytes(1 << 20))
    subprocess.run([real("qemu-img"), "create", "-q", "-f", "qcow2", place / "disk.qcow2", "1M"], check=True)
    return place


def outcome(argv: Sequence[str], path: str, case: Case, place: Path, images: Path) -> Outcome:
    """Of `argv`, which starts the program at `path`, in `place`/machine."""
    base, options = case
    program, first = BASES[base]
    monitor = SYSTEM_MONITOR if program == SYSTEM else DAEMON_MONITOR
    cwd = place / "machine"
    shutil.copytree(images, cwd)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(cwd / "taken.sock"))
        with Running([*argv, *first], cwd, (*monitor[:2], *options, *monitor[2:])) as running:
            running.send(b'{"execute":"qmp_capabilities"}{"execute":"quit"}')
            status = running.wait()
            stdout, stderr = running.printed()
    left = sorted({file.name for file in cwd.iterdir()} - {"stdout", "stderr"})
    return [status, shape(stdout, path), shape(stderr, path), left]


def outcomes(version: str, of: str, cases: Sequence[Case], images: Path) -> Iterator[tuple[Case, Outcome]]:
    """`of`: "installed", "suite", or the directory of the simulator's executables."""
    for case in cases:
        program = BASES[case[0]][0]
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            if of == "suite":
                path = f"/usr/bin/{program}"
                argv = [*ChrootLauncher(SUITES[version]).prefix(place), path]
            else:
                path = real(program) if of == "installed" else f"{of}/{program}"
                argv = [path]
            yield case, outcome(argv, path, case, place, images)


@pytest.fixture(scope="session")
def recorded(request: pytest.FixtureRequest, images: Path) -> dict[str, dict[Case, Outcome]]:
    """By version."""
    found: dict[str, dict[Case, Outcome]] = {}
    for version in SUITES:
        file = RECORDED / f"{version}.jsonl"
        if request.config.getoption("rewrite"):
            lines = [
                json.dumps([*case, *made], ensure_ascii=False)
                for case, made in outcomes(version, "suite", CASES, images)
            ]
            file.write_text("\n".join(lines) + "\n")
        read = [json.loads(line) for line in file.read_text().splitlines()]
        found[version] = {(base, tuple(options)): made for base, options, *made in read}
    return found


def expect_recorded(
    made: Iterator[tuple[Case, Outcome]], version: str, recorded: dict[str, dict[Case, Outcome]]
) -> None:
    different = []
    for case, found in made:
        wanted = recorded[version].get(case, "nothing is recorded: run this test with --rewrite")
        if found != wanted:
            different.append(f"{case}:\n  {version}: {wanted}\n  here: {found}")
    assert not different, "\n".join(different)


@pytest.fixture(scope="session")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("emulators")
    place.chmod(0o755)
    for version in SUITES:
        write_emulator(str(place / version), version)
    return place


@pytest.mark.parametrize("first", PIECES)
@pytest.mark.parametrize("version", SUITES)
def test_simulator(
    version: str, first: int, recorded: dict[str, dict[Case, Outcome]], emulators: Path, images: Path
) -> None:
    cases = CASES[first : first + PIECE]
    expect_recorded(outcomes(version, str(emulators / version), cases, images), version, recorded)


@pytest.mark.parametrize("first", PIECES)
def test_the_installed_qemu_is_as_recorded(
    first: int, recorded: dict[str, dict[Case, Outcome]], images: Path
) -> None:
    cases = CASES[first : first + PIECE]
    expect_recorded(outcomes(INSTALLED, "installed", cases, images), INSTALLED, recorded)
