"""`sim-process:VERSION[+storage-daemon]`: the simulator as an executable, driven exactly as real QEMU is."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path

from scenarios.backends import qemu, storage_daemon
from scenarios.backends.interface import Backend, SetupError
from scenarios.backends.qemu import QemuBackend
from scenarios.backends.run_directory import RunDirectory
from scenarios.backends.storage_daemon import StorageDaemonBackend

PREFIX = "sim-process"
FORM = "sim-process:VERSION[+storage-daemon]"


@cache
def _emulator_directory(version: str) -> Path:
    """Executables that answer as that version; written once, removed when the program ends, or when the next
    one finds that it could not."""
    from simulator.serve.emulator import write_emulator

    place = RunDirectory()
    atexit.register(place.__exit__, None, None, None)
    directory = place.path / "emulator"
    try:
        write_emulator(str(directory), version)
    except (ValueError, OSError) as error:
        raise SetupError(f"sim-process:{version}: {error}") from error
    return directory


def _program(version: str, name: str) -> str:
    return str(_emulator_directory(version) / name)


class SimulatedQemuBackend(QemuBackend):
    @property
    def features(self) -> frozenset[str]:
        return super().features - {"linux", "real"}


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
