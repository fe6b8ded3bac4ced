"""`qemu:DIRECTORY`: the programs of a directory that QEMU was built in, as its developers have it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scenarios.backends.interface import Session, SetupError
from scenarios.backends.registry import open_backend
from scenarios.language.steps import Disk, Scenario

# Where QEMU's build (Meson, since 5.2) puts each program.
PLACES = {
    "qemu-system-x86_64": "qemu-system-x86_64",
    "qemu-img": "qemu-img",
    "qemu-storage-daemon": "storage-daemon/qemu-storage-daemon",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The installed programs in the places of a build; qemu-img notes its calls, which tells it from the
    host's."""
    for name, place in PLACES.items():
        path = tmp_path / "build" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        real = shutil.which(name)
        assert real is not None
        if name == "qemu-img":
            path.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/calls\nexec {real} "$@"\n')
            path.chmod(0o755)
        else:
            path.symlink_to(real)
    return tmp_path / "build"


@pytest.mark.parametrize("kind", ["qemu", "storage-daemon"])
def test_all_programs_are_the_trees_own(kind: str, tree: Path) -> None:
    backend = open_backend(f"{kind}:{tree}")

    async def body(session: Session) -> None:
        assert (await session.tool(["qemu-img", "--version"]))[0] == 0
        # Of other projects' programs the tree has none.
        assert (await session.tool(["nbdinfo", "--version"]))[0] == 0
        await session.qmp("quit")
        await session.wait_end(10**10)
        assert (await session.final_image("vda"))[2] == 0

    backend.run(Scenario(name="test", disks={"vda": Disk(size=1 << 20)}), 0, body)
    calls = (tree.parent / "calls").read_text().split()
    assert sorted(calls) == ["--version", "check", "convert", "create"]


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("qemu", "qemu-system-x86_64"),
        ("qemu", "qemu-img"),
        ("storage-daemon", "qemu-storage-daemon"),
        ("storage-daemon", "qemu-img"),
    ],
)
def test_what_a_directory_lacks_is_told_with_where_it_was_looked_for(
    kind: str, missing: str, tree: Path
) -> None:
    (tree / PLACES[missing]).unlink()
    with pytest.raises(SetupError) as caught:
        open_backend(f"{kind}:{tree}")
    assert str(caught.value) == (
        f"{tree}: expected a directory that QEMU was built in; there is no {missing} in it (looked for"
        f" {tree}/{missing}, {tree}/storage-daemon/{missing}, {tree}/x86_64-softmmu/{missing})."
        f" Build it there: ninja {missing}"
    )
