"""External programs that scenarios call: found in PATH, whose Debian packages are known."""

from __future__ import annotations

import shutil

from scenarios.backends.interface import SetupError

# Debian's package for each program.
PACKAGES = {
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "nbdcopy": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "nbdkit": "nbdkit",
}


def find_tool(name: str) -> str:
    """Its path. Raises SetupError naming the package that has it."""
    found = shutil.which(name)
    if found is None:
        package = PACKAGES.get(name)
        advice = f"; Debian has it in {package}: apt-get install {package}" if package else ""
        raise SetupError(f"{name}: not found in PATH{advice}")
    return found
