"""The versions of QEMU that the simulator answers as.

To add one: record its binaries (`goldenfleece record`). That is a version already: what the recording
does not tell is as in the version before it. To tell it, copy `v11_1.py`, list what differs from its base,
each with its source, and name the module here.
"""

from __future__ import annotations

import os

from simulator.versions import from_recording, rfc_2013, v5_2, v7_2, v10_0, v11_1
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
    """All versions, in the order of their modules above; then those that were recorded and have none."""
    return [*_MODULES, *_only_recorded()]


def _only_recorded() -> list[str]:
    found = os.listdir(RECORDED_DIRECTORY)
    return sorted(
        (name for name in found if name not in _MODULES and from_recording.number(name)),
        key=from_recording.number,
    )


def load(name: str) -> Version:
    """The version, made once and shared. Raises UnknownVersion."""
    version = _loaded.get(name)
    if version is None:
        if name in _MODULES:
            module = _MODULES[name]
            version = Version(name, _facts(module), module.RECORDED, module.SCHEMA_EDITS, _reworded(module))
        elif name in _only_recorded():
            version = _recorded_version(name)
        else:
            raise UnknownVersion(f"unknown version {name!r}; known are {', '.join(names())}")
        _loaded[name] = version
    return version


def _recorded_version(name: str) -> Version:
    """What the recording tells, and the rest as in the version before it."""
    # Here because it is slow to import, and versions with a module need none of it.
    from json import loads

    base = _MODULES[from_recording.base_of(name, _MODULES)]
    with open(os.path.join(RECORDED_DIRECTORY, name, from_recording.GREETING), encoding="utf-8") as file:
        greeting = loads(file.read())
    schema = Version(base.NAME, _facts(base), name, ()).recorded("system", "schema")
    facts = from_recording.facts_of(base.NAME, _facts(base), greeting, schema)
    return Version(name, facts, name, (), _reworded(base))


def untold(name: str) -> list[str]:
    """The facts of a version that its recording does not tell and no module does: they are another
    version's."""
    return from_recording.untold(load(name).facts)


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


__all__ = ["BINARIES", "RECORDED_DIRECTORY", "UnknownVersion", "Version", "load", "names", "untold"]
