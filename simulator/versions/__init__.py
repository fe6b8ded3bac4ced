"""The versions of QEMU that the simulator answers as.

To add one: record its binaries (`goldenfleece record`), copy `rfc_2013.py` and list what differs
from its base, each with its source, and name the module here.
"""

from __future__ import annotations

from simulator.versions import rfc_2013, v5_2, v7_2, v10_0, v11_1
from simulator.versions.version import BINARIES, RECORDED_DIRECTORY, Version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.versions.version import Fact

_MODULES: dict[str, Any] = {module.NAME: module for module in (v5_2, v7_2, v10_0, v11_1, rfc_2013)}
_loaded: dict[str, Version] = {}


class UnknownVersion(ValueError):
    """A version that nobody recorded; the message names those there are."""


def names() -> list[str]:
    """All versions, in the order of their modules above."""
    return list(_MODULES)


def load(name: str) -> Version:
    """The version, made once and shared. Raises UnknownVersion."""
    version = _loaded.get(name)
    if version is None:
        if name not in _MODULES:
            raise UnknownVersion(f"unknown version {name!r}; known are {', '.join(_MODULES)}")
        module = _MODULES[name]
        version = Version(name, _facts(module), module.RECORDED, module.SCHEMA_EDITS, _reworded(module))
        _loaded[name] = version
    return version


def _facts(module: Any) -> dict[str, Fact]:
    """The base's facts with the module's own on top; one that the base does not have is an error."""
    own = {fact[0]: fact for fact in module.FACTS}
    if module.BASE is None:
        return own
    facts = _facts(_MODULES[module.BASE])
    for name in own:
        if name not in facts:
            raise KeyError(f"{module.NAME}: {name} is no fact of {module.BASE}")
    return {**facts, **own}


def _reworded(module: Any) -> tuple[tuple[str, str, str], ...]:
    """The module's own first, so that what a base says otherwise can be said otherwise again."""
    if module.BASE is None:
        return tuple(module.REWORDED)
    return (*module.REWORDED, *_reworded(_MODULES[module.BASE]))


__all__ = ["BINARIES", "RECORDED_DIRECTORY", "UnknownVersion", "Version", "load", "names"]
