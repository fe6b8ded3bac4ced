"""`chroot:SUITE[+storage-daemon]`: QEMU of a Debian suite in its own root file system, with no
container engine.

Each program gets a mount namespace of its own, in which a small root is put together: the suite's /usr and
/etc, the host's /dev, /proc, and the run directory at its own path. It has the program's process id and goes
with the program, so no mount can be left behind.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from scenarios.backends.interface import Backend, SetupError
from scenarios.backends.launcher import HostLaunch, Launch, Launcher
from scenarios.backends.qemu import QemuBackend
from scenarios.backends.run_directory import RunDirectory
from scenarios.backends.storage_daemon import StorageDaemonBackend
from scenarios.matrix import roots

PREFIX = "chroot"
FORM = "chroot:SUITE[+storage-daemon]"
_STORAGE_DAEMON = "+storage-daemon"

# $1 the suite's root, $2 the run directory, $3 where to put the new root together; then the program.
_ENTER = """
set -e
suite=$1 place=$2 new=$3
shift 3
mount -t tmpfs -o size=1m,mode=755 tmpfs "$new"
mkdir -p "$new/usr" "$new/etc" "$new/dev" "$new/proc" "$new/tmp" "$new/run" "$new$place"
cp -P "$suite/bin" "$suite/sbin" "$suite"/lib* "$new"
mount --bind -o ro "$suite/usr" "$new/usr"
mount --bind -o ro "$suite/etc" "$new/etc"
mount --rbind /dev "$new/dev"
mount --rbind /proc "$new/proc"
mount --bind "$place" "$new$place"
for room in "$place"/machine/*.room; do
    if [ -d "$room" ]; then mount --bind "$room" "$new$room"; fi
done
exec unshare --root="$new" --wd="$place/machine" -- "$@"
"""
_USER_PATHS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin")


class ChrootLauncher(Launcher):
    """Raises SetupError where the root is not built, or what starts programs in it is missing."""

    def __init__(self, suite: str) -> None:
        self._root = roots.require(suite)
        self._suite = suite
        self._bubblewrap = None if os.geteuid() == 0 else shutil.which("bwrap")
        self._unshare = shutil.which("unshare") or ""
        if not self._unshare and not self._bubblewrap:
            raise SetupError("unshare: not found in PATH. Run: apt-get install -y util-linux")

    def find(self, name: str) -> str:
        for folder in _USER_PATHS:
            if (self._root.path / folder[1:] / name).is_file():
                return f"{folder}/{name}"
        raise SetupError(f"{self._root.path}: expected {name} in it, looked in {', '.join(_USER_PATHS)}")

    def open(self, place: RunDirectory) -> Launch:
        tools_of = f"{PREFIX}:{self._suite} {self._root.about.package}"
        return HostLaunch(place, tools_of, self.find, self.prefix(place.path), self._root.path)

    def prefix(self, place: Path) -> list[str]:
        """The command that what is to be started is appended to; `place` is a run directory's path."""
        root = self._root.path
        if self._bubblewrap:
            links = [path for path in root.iterdir() if path.is_symlink()]
            made = [word for path in links for word in ("--symlink", os.readlink(path), f"/{path.name}")]
            return [
                self._bubblewrap, "--die-with-parent", "--ro-bind", f"{root}/usr", "/usr",
                "--ro-bind", f"{root}/etc", "/etc", *made, "--dev", "/dev", "--proc", "/proc",
                "--tmpfs", "/tmp", "--bind", str(place), str(place), "--chdir", f"{place}/machine", "--",
            ]  # fmt: skip
        new = place / "root"
        new.mkdir(exist_ok=True)
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        namespace = [self._unshare, *user, "--mount", "--propagation", "private", "--"]
        return [*namespace, "/bin/sh", "-c", _ENTER, "chroot", str(root), str(place), str(new)]


def split_program(argument: str) -> tuple[str, bool]:
    """What comes before "+storage-daemon", and whether that is there."""
    return argument.removesuffix(_STORAGE_DAEMON), argument.endswith(_STORAGE_DAEMON)


def open_backend(name: str, argument: str) -> Backend:
    """`argument`: "trixie", or "trixie+storage-daemon". Raises SetupError."""
    suite, is_daemon = split_program(argument)
    if not roots.is_suite(suite):
        known = ", ".join(roots.description().suites)
        raise SetupError(f"{name}: expected {FORM}, SUITE being one of {known}")
    launcher = ChrootLauncher(suite)
    if is_daemon:
        return StorageDaemonBackend(name, launcher=launcher)
    return QemuBackend(name, launcher=launcher)
