"""What a machine's threads were doing, in gdb's words: of one that runs and does not answer, or, from its
core, of one that died. The thread that it died in comes first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
from functools import cache
from pathlib import Path

from scenarios.backends.interface import DeadlinePassed
from scenarios.backends.processes import deadline

PACKAGE = "gdb"
_GDB_NS = 60_000_000_000
_BATCH = (
    "-nx",
    "-batch",
    "-iex",
    "set debuginfod enabled off",
    "-iex",
    "set pagination off",
    "-iex",
    "set auto-load safe-path /",
)
_ASK = ("-ex", "thread apply all backtrace")
_NOISE = ("[New LWP", "warning: ")
_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


@cache
def core_prefix() -> str:
    """What the names of core files begin with, in the directory where a program ran; "" where there will be
    none, or nobody to read them: no gdb, or the kernel hands cores to a program or another directory
    (core(5))."""
    try:
        pattern = _CORE_PATTERN.read_text().strip()
    except OSError:
        return ""
    if pattern.startswith("|") or "/" in pattern or shutil.which("gdb") is None:
        return ""
    return pattern.partition("%")[0]


def allow_core(pid: int) -> None:
    """Let that process leave a core if it dies and somebody can read it."""
    if core_prefix():
        hard = resource.prlimit(pid, resource.RLIMIT_CORE)[1]
        # It may have died by now.
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_CORE, (hard, hard))


def take_core(directory: Path, keep_in: Path) -> Path | None:
    """Move the core that lies in `directory`, if there is one, out of the way."""
    prefix = core_prefix()
    for path in sorted(directory.glob(f"{prefix}*")) if prefix else ():
        if path.is_file():
            return path.rename(keep_in / "core")
    return None


async def of_core(core: Path, program: Path, root: Path) -> str:
    """`program` and `root`: the program's file, and the root directory it saw, as this host has them."""
    with contextlib.suppress(OSError):
        return await _gdb("-iex", f"set sysroot {root}", "-ex", "backtrace", *_ASK, str(program), str(core))
    return ""


async def of_running(name: str, directory: Path, on_host: tuple[Path, Path] | None) -> str:
    """The program of that file name that runs in `directory`, in whatever namespace; "" if there is none.
    `on_host`: as in Launch.on_host."""
    found = await asyncio.to_thread(_find, name, directory)
    if found is None:
        return ""
    # gdb enters a mount namespace by itself, but not another root directory.
    files = ("-iex", f"set sysroot {on_host[1]}", str(on_host[0])) if on_host else ()
    return await _gdb(*files, *_ASK, "-p", str(found))


def _find(name: str, directory: Path) -> int | None:
    wanted = directory.stat()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # Most are another user's, or gone by now.
            with contextlib.suppress(OSError):
                place = os.stat(f"/proc/{entry}/cwd")
                is_there = (place.st_dev, place.st_ino) == (wanted.st_dev, wanted.st_ino)
                if is_there and os.path.basename(os.readlink(f"/proc/{entry}/exe")) == name:
                    return int(entry)
    return None


async def _gdb(*arguments: str) -> str:
    """Never raises: that gdb could not tell anything is told in its place."""
    gdb = shutil.which("gdb")
    if gdb is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        gdb, *_BATCH, *arguments, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": ""}, start_new_session=True,
    )  # fmt: skip
    try:
        async with deadline("gdb", _GDB_NS):
            said, _ = await process.communicate()
    except DeadlinePassed as error:
        return str(error)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = said.decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if line.strip() and not line.startswith(_NOISE))
