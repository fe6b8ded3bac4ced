"""`sim-process:VERSION[+storage-daemon]`: the simulator as an executable, driven exactly as real QEMU is."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scenarios.backends import qemu, storage_daemon
from scenarios.backends.interface import Backend, SetupError
from scenarios.backends.qemu import QemuBackend
from scenarios.backends.storage_daemon import StorageDaemonBackend

PREFIX = "sim-process"
FORM = "sim-process:VERSION[+storage-daemon]"


@cache
def _emulator_directory(version: str) -> TemporaryDirectory[str]:
    """Executables that answer as that version; written once, removed when the program ends."""
    from simulator.serve.emulator import write_emulator

    directory = TemporaryDirectory(prefix="goldenfleece-emulator-")
    try:
        write_emulator(Path(directory.name), version)
    except ValueError as error:
        directory.cleanup()
        raise SetupError(f"sim-process:{version}: {error}") from error
    return directory


def _program(version: str, name: str) -> str:
    return str(Path(_emulator_directory(version).name) / name)


class SimulatedQemuBackend(QemuBackend):
    @property
    def features(self) -> frozenset[str]:
        return super().features - {"real"}


class SimulatedStorageDaemonBackend(StorageDaemonBackend):
    @property
    def features(self) -> frozenset[str]:
        return super().features - {"real"}


def open_backend(name: str, argument: str) -> Backend:
    """`argument`: "7.2", or "7.2+storage-daemon". Raises SetupError."""
    version, plus, program = argument.partition("+")
    if not version or (plus and program != storage_daemon.PREFIX):
        raise SetupError(
            f"{name}: expected {FORM}, such as sim-process:7.2 or sim-process:7.2+storage-daemon"
        )
    if plus:
        return SimulatedStorageDaemonBackend(name, _program(version, storage_daemon.PROGRAM))
    return SimulatedQemuBackend(name, _program(version, qemu.PROGRAM))
