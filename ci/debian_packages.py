"""Programs that are Debian's to bring: what is missing, and apt-get for it as root. Standard library only.

    python3 ci/debian_packages.py clients | images | tests

Exit status 2, with the command to run, if something is missing and cannot be installed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import setup_environment as setup  # beside this file

# Programs (or, with a slash, files), and the Debian package of each.
CLIENTS = {
    "nbdcopy": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "qemu-img": "qemu-utils",
    "nbdkit": "nbdkit",
}
TESTS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-storage-daemon": "qemu-system-common",
    **CLIENTS,
    "cpio": "cpio",
    "gdb": "gdb",
    "openssl": "openssl",
    "/usr/lib/python3/dist-packages/nbd.py": "python3-libnbd",
}
# What `goldenfleece matrix build` and containers need.
IMAGES = {
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "podman": "podman",
    "runc": "runc",
}
# qemu-system-x86 brings it along.
_BROUGHT = {"qemu-system-common": "qemu-system-x86"}


def need(programs: dict[str, str]) -> None:
    """Install what is missing of `programs`, or exit with status 2 and the command to run."""
    packages = _missing(programs)
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        lacking = ", ".join(name for name in programs if not _is_there(name))
        setup.fail(f"missing: {lacking}. Run: sudo apt-get install -y {' '.join(packages)}")
    setup.apt_install(packages)
    still = _missing(programs)
    if still:
        lacking = ", ".join(name for name in programs if not _is_there(name))
        setup.fail(f"still missing: {lacking} (of Debian's {', '.join(still)})")


def _missing(programs: dict[str, str]) -> list[str]:
    """The packages to ask apt-get for."""
    found = [package for name, package in programs.items() if not _is_there(name)]
    return list(dict.fromkeys(_BROUGHT.get(package, package) for package in found))


def _is_there(name: str) -> bool:
    return Path(name).exists() if name.startswith("/") else shutil.which(name, path=_path()) is not None


def _path() -> str:
    """Where programs are, with those that only root runs."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


if __name__ == "__main__":
    need({"clients": CLIENTS, "images": IMAGES, "tests": TESTS}[sys.argv[1]])
