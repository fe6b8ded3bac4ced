"""A machine's process, as this host sees it."""

from __future__ import annotations

from pathlib import Path

from scenarios.backends.asyncio_session import AsyncioSession
from scenarios.backends.interface import Session
from scenarios.backends.processes import Child


def machine_pid(session: Session) -> int:
    """A container's process is no child of ours, but what it runs names the run directory."""
    assert isinstance(session, AsyncioSession)
    if isinstance(session._child, Child):
        return session._child.pid
    found = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and is_machine_of(path, session.directory.parent)
    ]
    assert len(found) == 1, found
    return found[0]


def is_machine_of(process: Path, run_directory: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    name = Path(words[0].decode(errors="replace")).name
    return name.startswith("qemu-") and any(bytes(run_directory) in word for word in words)
