"""Backends by name. A backend is a file here with PREFIX, FORM (how its name is written) and
open_backend(name, argument); ``storage-daemon`` is found in storage_daemon.py, ``libvirt+sim`` in
libvirt_sim.py. Nothing to register."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
from pathlib import Path
from types import ModuleType

from scenarios.backends.interface import Backend, SetupError


def open_backend(name: str) -> Backend:
    """The backend of that name, such as "qemu", "storage-daemon:/opt/qsd" or "sim:7.2". Nothing is started
    yet.

    Raises SetupError, which lists the known forms if there is no such backend.
    """
    prefix, _, argument = name.partition(":")
    module_name = re.sub(r"[^a-z0-9]", "_", prefix)
    if module_name in _module_names():
        module = _import(module_name)
        if getattr(module, "PREFIX", None) == prefix:
            backend: Backend = module.open_backend(name, argument)
            return backend
    raise SetupError(f"no backend {name!r}; known: {', '.join(forms())}")


def forms() -> list[str]:
    """How names of the backends are written, sorted. Read from the files: importing all of them takes too
    long."""
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")]
    return sorted(form[1] for text in texts if (form := re.search(r'^FORM = "(.+)"$', text, re.MULTILINE)))


def find_real() -> list[str]:
    """Names of the backends whose real program is in PATH."""
    modules = [_import(name) for name in ("qemu", "storage_daemon")]
    return [module.PREFIX for module in modules if shutil.which(module.PROGRAM)]


def _module_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))


def _import(module_name: str) -> ModuleType:
    return importlib.import_module(f"scenarios.backends.{module_name}")
