"""What only chroots have: names of suites, and mounts that nobody else sees."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from machine_process import machine_pid

from scenarios.backends.chroot import ChrootLauncher
from scenarios.backends.interface import Session, SetupError
from scenarios.backends.registry import open_backend
from scenarios.language.steps import Disk, Scenario
from scenarios.matrix import roots


def test_a_name_that_is_no_suite() -> None:
    for name in ("chroot:", "chroot:woody", "chroot:+storage-daemon"):
        with pytest.raises(SetupError, match="SUITE being one of bullseye, bookworm, trixie, sid"):
            open_backend(name)


def test_the_machine_sees_the_suite_and_the_run_and_nothing_else() -> None:
    async def body(session: Session) -> None:
        pid = machine_pid(session)
        mounts = Path(f"/proc/{pid}/mounts").read_text()
        assert str(session.directory.parent) in mounts
        assert str(session.directory.parent) not in Path("/proc/self/mounts").read_text()
        inside = Path(f"/proc/{pid}/root")
        assert json.loads((inside / "etc/goldenfleece.json").read_text())["suite"] == "trixie"
        assert not (inside / "root").exists()
        assert (inside / f"{session.directory}/vda.qcow2").exists()
        with pytest.raises(OSError, match="Read-only file system"):
            (inside / "usr/written").touch()
        status, out, _ = await session.tool(["qemu-img", "--version"])
        assert status == 0
        assert out.startswith(f"qemu-img version {roots.require('trixie').about.qemu} ".encode())

    backend = open_backend("chroot:trixie")
    backend.run(Scenario(name="test", disks={"vda": Disk(size=1 << 20)}), 0, body)
    assert "goldenfleece-" not in Path("/proc/self/mounts").read_text()


def test_without_root_bubblewrap_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    words = ChrootLauncher("trixie").prefix(tmp_path)
    assert words[:2] == ["/usr/bin/bwrap", "--die-with-parent"]
    assert " ".join(words).endswith(f"--bind {tmp_path} {tmp_path} --chdir {tmp_path}/machine --")
    monkeypatch.setattr("shutil.which", lambda name: None if name == "bwrap" else f"/usr/bin/{name}")
    words = ChrootLauncher("trixie").prefix(tmp_path)
    assert words[:4] == ["/usr/bin/unshare", "--user", "--map-root-user", "--mount"]


def test_a_root_that_lacks_a_program() -> None:
    with pytest.raises(SetupError, match="roots/trixie: expected qemu-nothing in it, looked in /usr/bin, "):
        ChrootLauncher("trixie").find("qemu-nothing")
