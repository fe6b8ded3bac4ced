"""The machines that properties are tried on: the simulator always, real QEMU where it is installed."""

from __future__ import annotations

import shutil

import pytest

_PROGRAMS = {"storage-daemon": "qemu-storage-daemon", "qemu": "qemu-system-x86_64"}


@pytest.fixture(params=["sim:7.2", *_PROGRAMS])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend."""
    name: str = request.param
    program = _PROGRAMS.get(name)
    if program is not None and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return name


@pytest.fixture
def share(backend: str) -> float:
    """How much of the simulator's number of examples this backend gets: real machines are slower."""
    return {"sim:7.2": 1.0, "storage-daemon": 0.15, "qemu": 0.08}[backend]
