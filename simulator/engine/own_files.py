"""What the program reads of its own after it has started: modules and recordings.

QEMU has all of itself in memory. The simulator reads some of itself when it is first asked for, and a client
may by then have made it open all the files it may: so one descriptor is kept back for that.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader, PathFinder, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_kept: list[int] = []


def keep_a_descriptor() -> None:
    """From now on our own files are read by a descriptor that nothing else gets. For a program of its own:
    in a process that others use too, one is always left."""
    _keep()
    sys.meta_path[sys.meta_path.index(PathFinder)] = _Finder


def _keep() -> None:
    with suppress(OSError):  # The limit may have been lowered meanwhile.
        _kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


class OneMoreDescriptor:
    """A context in which there is a descriptor for a file of our own."""

    def __enter__(self) -> None:
        self._had = bool(_kept)
        if self._had:
            os.close(_kept.pop())

    def __exit__(self, *raised: object) -> None:
        if self._had:
            _keep()


class _Finder:
    """PathFinder, with loaders that read by the descriptor kept."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        with OneMoreDescriptor():
            spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _SourceLoader(spec.loader.name, spec.loader.path)
        elif spec is not None and type(spec.loader) is ExtensionFileLoader:
            spec.loader = _ExtensionLoader(spec.loader.name, spec.loader.path)
        return spec


class _SourceLoader(SourceFileLoader):
    def get_data(self, path: str) -> bytes:
        with OneMoreDescriptor():
            return super().get_data(path)


class _ExtensionLoader(ExtensionFileLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        with OneMoreDescriptor():
            return super().create_module(spec)
