"""File systems of little room in a run's directory: a tmpfs is mounted on each of its rooms.

They are mounted before the machine starts: what is mounted later is not seen in a container or behind chroot.
What says where something is mounted is the kernel (/proc/self/mountinfo), so that whoever finds a run
directory whose runner was killed can take it all away.
"""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache
from pathlib import Path

from scenarios.backends.interface import SetupError
from scenarios.language.steps import Scenario
from scenarios.language.walk import walk

# <sys/mount.h>
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_DETACH = 2
# proc(5): in mountinfo, space, tab, line end and backslash are octal numbers.
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNT_POINT = 4


def rooms_of(scenario: Scenario) -> dict[str, int]:
    """Names of directories, and the bytes that their files may take."""
    fleeces = [step.fleece for step in walk(scenario.steps) if step.fleece is not None]
    return {fleece.room_name: fleece.room for fleece in fleeces if fleece.room is not None}


def can_mount(folder: Path) -> bool:
    """Found by trying, in `folder`, of which nothing is left."""
    try:
        make_room(folder / "probe.room", 4096)
        return True
    except SetupError:
        return False
    finally:
        unmount_below(folder / "probe.room")
        (folder / "probe.room").rmdir()


def make_room(path: Path, size_bytes: int) -> None:
    """A new directory with a file system of that size. Raises SetupError."""
    path.mkdir()
    try:
        _mount(path, size_bytes)
    except OSError as error:
        raise SetupError(
            f"{path}: expected to mount a tmpfs of {size_bytes} bytes: {error.strerror}. Run it as root"
        ) from error


def unmount_below(path: Path) -> None:
    """Everything that is mounted on `path` or in it, even if somebody still uses it. What cannot be unmounted
    stays."""
    for mounted in reversed(mounted_below(path)):
        _libc().umount2(os.fsencode(mounted), _DETACH)


def mounted_below(path: Path) -> list[Path]:
    """Mount points at `path` and in it, in the order in which they were mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        points = [_OCTAL.sub(_character, line.split()[_MOUNT_POINT]) for line in lines]
    real = path.resolve()
    return [point for point in map(Path, points) if point == real or real in point.parents]


def _character(octal: re.Match[str]) -> str:
    return chr(int(octal[1], 8))


def _mount(path: Path, size_bytes: int) -> None:
    options = f"size={size_bytes},mode=755".encode()
    flags = _NOSUID | _NODEV | _NOEXEC
    if _libc().mount(b"goldenfleece", os.fsencode(path), b"tmpfs", flags, options) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mount.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p
    ]  # fmt: skip
    library.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
    return library
