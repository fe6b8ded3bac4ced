"""What a machine can do, in words that a spec's `needs` can ask for, found by probing and never by
version number.

Words with a colon are looked up in the reply to query-qmp-schema:

    command:NAME             a command
    event:NAME               an event
    action:NAME              an action of `transaction`
    driver:NAME              a driver of `blockdev-add`
    argument:COMMAND.ARG     an argument; ARG may go on with dots into what it holds, in any branch of a union
    value:COMMAND.ARG=VALUE  a value that an argument (dots as above) takes; enums have no names in
    introspection

Words without one are what a backend says of itself: SESSION_FEATURES.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from scenarios.language.steps import Fault, Scenario, Step, StorageFault
from scenarios.language.walk import walk
from scenarios.run.points import Eras

SESSION_FEATURES = {
    "certificates": "certificates for TLS can be made (openssl)",
    "fuse": "the machine can mount FUSE file systems that other programs reach (root, /dev/fuse)",
    "hmp": "a human monitor",
    "linux": "a processor that can run a Linux guest",
    "machine": "virtual CPUs, devices and drives",
    "mounts": "the runner may mount file systems, as root may",
    "moves": "a running guest's disk can be put on another node",
    "processes": "external programs can reach it",
    "real": "it is not the simulator",
    "shell": "the machine can run commands of the host, such as exec:cat as a guest's way out",
    "simulator": "it is the simulator",
    "storage-server": "a disk's storage can be put behind an NBD server that is at fault (nbdkit)",
}
_PATTERNS = {
    "command": re.compile(r"[A-Za-z0-9_-]+"),
    "event": re.compile(r"[A-Z0-9_]+"),
    "action": re.compile(r"[A-Za-z0-9_-]+"),
    "driver": re.compile(r"[A-Za-z0-9_-]+"),
    "argument": re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+"),
    "value": re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+=.+"),
}

METHOD_NEEDS = {
    "overlay": (
        "action:blockdev-backup",
        "argument:blockdev-backup.filter-node-name",
        "command:block-export-add",
        "command:blockdev-create",
        "driver:qcow2",
    ),
    "snapshot-access": (
        "driver:copy-before-write",
        "driver:snapshot-access",
        "command:blockdev-reopen",
        "command:block-export-add",
        "command:blockdev-create",
    ),
}
_FAULT_NEEDS = ("driver:blkdebug", "command:blockdev-reopen")
_RATE_NEEDS = ("driver:throttle", "command:blockdev-reopen")
_SERVED_FAULT_NEEDS = ("storage-server", "driver:nbd", "command:blockdev-reopen")
_BITMAP_NEEDS = ("action:block-dirty-bitmap-merge", "argument:block-export-add.bitmaps")


def known(feature: str) -> bool:
    """Whether a feature is spelt as one; that says nothing about any machine."""
    kind, colon, rest = feature.partition(":")
    if not colon:
        return feature in SESSION_FEATURES
    return kind in _PATTERNS and _PATTERNS[kind].fullmatch(rest) is not None


class Features:
    """Features of one machine: what its session says, and what its introspection (may be empty) tells."""

    def __init__(self, session: Iterable[str], introspection: list[dict[str, Any]]) -> None:
        self._session = frozenset(session)
        self._by_name = {entry["name"]: entry for entry in introspection}
        self._answers: dict[str, bool] = {}

    def has(self, feature: str) -> bool:
        if feature not in self._answers:
            self._answers[feature] = self._look(feature)
        return self._answers[feature]

    def missing(self, features: Iterable[str]) -> list[str]:
        return [feature for feature in dict.fromkeys(features) if not self.has(feature)]

    def _look(self, feature: str) -> bool:
        kind, colon, rest = feature.partition(":")
        if not colon:
            return feature in self._session
        if kind in ("command", "event"):
            entry = self._by_name.get(rest)
            return entry is not None and entry["meta-type"] == kind
        if kind == "action":
            return rest in self._values("transaction.actions.type")
        if kind == "driver":
            return rest in self._values("blockdev-add.driver")
        if kind == "argument":
            return bool(self._types(rest))
        path, _, value = rest.rpartition("=")
        return value in self._values(path)

    def _values(self, path: str) -> list[str]:
        """All values of the enums that an argument may be of; "true" and "false" of a boolean."""
        values: list[str] = []
        for name in self._flat(self._types(path)):
            entry = self._by_name[name]
            if entry["meta-type"] == "enum":
                values += entry["values"]
            elif name == "bool":
                values += ["true", "false"]
        return values

    def _types(self, path: str) -> list[str]:
        """Types of the argument at COMMAND.ARG.ARG..., in whatever branches it exists."""
        command, *members = path.split(".")
        entry = self._by_name.get(command)
        if entry is None or entry["meta-type"] != "command":
            return []
        types: list[str] = [entry["arg-type"]]
        for member in members:
            types = [found for name in self._flat(types) for found in self._members(name, member)]
        return types

    def _flat(self, types: list[str]) -> list[str]:
        """Without arrays and alternates: what these hold."""
        flat: list[str] = []
        for name in dict.fromkeys(types):
            entry = self._by_name[name]
            if entry["meta-type"] == "array":
                flat += self._flat([entry["element-type"]])
            elif entry["meta-type"] == "alternate":
                flat += self._flat([arm["type"] for arm in entry["members"]])
            else:
                flat.append(name)
        return flat

    def _members(self, name: str, member: str) -> list[str]:
        entry = self._by_name[name]
        if entry["meta-type"] != "object":
            return []
        found = [each["type"] for each in entry["members"] if each["name"] == member]
        for case in entry.get("variants", ()):
            found += self._members(case["type"], member)
        return found


def needs(scenario: Scenario, method: str | None) -> list[str]:
    """All that a scenario needs when it is run with a method: its own `needs`, and what its steps imply."""
    wanted = list(scenario.needs)
    if method:
        wanted += METHOD_NEEDS[method]
    if scenario.attach == "drive" or scenario.incoming or scenario.destination is not None:
        wanted.append("machine")
    if scenario.certificates:
        wanted.append("certificates")
    if scenario.guest == "linux":
        wanted.append("linux")
    if scenario.attach != "none" and method == "overlay" and Eras(scenario).stack_up():
        wanted.append("moves")
    for step in walk(scenario.steps):
        wanted += _needs_of(step, method)
    return list(dict.fromkeys(wanted))


def _fault_needs(fault: StorageFault) -> list[str]:
    """Of a fault that is put below an image."""
    if isinstance(fault, Fault) and fault.is_served:
        return list(_SERVED_FAULT_NEEDS)
    if fault.rate is not None:
        return list(_RATE_NEEDS)
    return [*_FAULT_NEEDS, *(["hmp"] if fault.suspend is not None else [])]


def _needs_of(step: Step, method: str | None) -> list[str]:
    if step.hmp is not None:
        return ["hmp"]
    if step.qemu_img is not None or (step.copy is not None and step.copy.client != "own"):
        return ["processes"]
    if step.map is not None:
        return ["processes"] if step.map.client != "own" else []
    if step.fleece is not None:
        fleece = step.fleece
        wanted = _fault_needs(fleece.fault) if fleece.fault is not None else []
        wanted += _BITMAP_NEEDS if fleece.bitmap is not None else ()
        wanted += ("mounts",) if fleece.room is not None else ()
        if fleece.on_cbw_error is not None and method:
            command = "blockdev-backup" if method == "overlay" else "blockdev-add"
            wanted.append(f"argument:{command}.on-cbw-error")
        return wanted
    if step.fault is not None:
        is_put_in = step.fault.disk is not None and not step.fault.mend
        return _fault_needs(step.fault) if is_put_in else []
    if step.qmp is not None and step.qmp.error is None:
        return [f"command:{step.qmp.execute}"]
    if step.event is not None:
        return [f"event:{step.event.name}"]
    return []
