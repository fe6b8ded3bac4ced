"""Sources of sessions: what is said to a machine, step by step, and nothing of what it answers.

scenarios/sessions/THEME.yaml maps names to sessions:

    a name:
      disks: {vda: {size: 1M}}        # as in a scenario; none if left out
      attach: device                  # a guest stands on each disk; none if left out
      negotiate: false                # qmp_capabilities is left to the steps; true if left out
      steps:
        - query-jobs                                  # a command without arguments
        - blockdev-add: {driver: null-co, ...}        # with arguments
        - send: {execute: query-jobs, id: 1}          # the whole request object
        - raw: "{'execute': 'query-jobs'}\\r\\n"      # bytes, each character one
        - hmp: info block                             # over human-monitor-command
        - guest: {disk: vda, write: [0, 64k, 0x11]}   # also zero, discard, verify, flush: true
        - nbd: {export: e, read: [0, 64k]}            # also map, info, write, zero, discard, flush, list, raw
        - wait: {event: BLOCK_JOB_READY}              # until it has come, with these members of data, if any
        - sleep: 10ms
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from scenarios.backends.interface import SetupError
from scenarios.language.loader import load_plain
from scenarios.language.problems import SpecError
from scenarios.language.scalars import duration, size
from scenarios.language.steps import Disk, Scenario

SESSIONS = Path(__file__).resolve().parents[1] / "sessions"
VERBS = ("send", "raw", "hmp", "guest", "nbd", "wait", "sleep")
# When an event comes is no matter of the session: what it brings belongs to the step that caused it.
PART_OF_THE_STEP_BEFORE = ("wait", "sleep")
_DATA_VERBS = frozenset(("read", "write", "zero", "discard", "verify"))


class DiskSource(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """As in a scenario."""

    size: int | str = "1M"
    format: Literal["raw", "qcow2"] = "qcow2"
    cluster: int | str | None = None


class _Source(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    steps: list[str | dict[str, Any]]
    disks: dict[str, DiskSource] = {}
    attach: Literal["device", "drive", "none"] = "none"
    negotiate: bool = True


class Step(msgspec.Struct, frozen=True):
    """`verb` is one of VERBS; `what` its value, numbers of bytes and nanoseconds as numbers."""

    verb: str
    what: Any

    @property
    def text(self) -> str:
        """As a recording tells it."""
        if self.verb == "send":
            return json.dumps(self.what)
        return f"{self.verb}: {json.dumps(self.what)}"


class SessionSource(msgspec.Struct, frozen=True):
    """`name` is THEME/NAME. `digest` changes with everything that is said."""

    name: str
    scenario: Scenario
    negotiate: bool
    steps: list[Step]
    digest: str


def load_all(path: Path = SESSIONS) -> list[SessionSource]:
    """All sessions of a folder, or of one file, in the order of the files. Raises SetupError naming what is
    wrong."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise SetupError(f"{path}: expected *.yaml files with sessions")
    return [source for file in files for source in load_file(file)]


def load_file(path: Path) -> list[SessionSource]:
    """Raises SetupError."""
    try:
        plain = load_plain(path)
        sources = msgspec.convert(plain, dict[str, _Source])
    except (OSError, SpecError, msgspec.ValidationError) as error:
        raise SetupError(f"{path}: {error}") from None
    return [_session(path, name, source, plain[name]) for name, source in sources.items()]


def _session(path: Path, name: str, source: _Source, plain: Any) -> SessionSource:
    where = f"{path.stem}/{name}"
    disks = {disk: _disk(where, given) for disk, given in source.disks.items()}
    return SessionSource(
        name=where,
        scenario=Scenario(name=where, disks=disks, attach=source.attach),
        negotiate=source.negotiate,
        steps=[_step(f"{where}: step {number}", step) for number, step in enumerate(source.steps, 1)],
        digest=hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16],
    )


def _disk(where: str, given: DiskSource) -> Disk:
    cluster = None if given.cluster is None else _bytes(where, given.cluster)
    return Disk(size=_bytes(where, given.size), format=given.format, cluster=cluster)


def _step(where: str, step: str | dict[str, Any]) -> Step:
    if isinstance(step, str):
        return Step("send", {"execute": step})
    if len(step) != 1:
        raise SetupError(f"{where}: expected one command or verb, got {', '.join(step) or 'nothing'}")
    [(verb, what)] = step.items()
    if verb not in VERBS:
        return Step("send", {"execute": verb, "arguments": what})
    if verb == "sleep":
        ns = duration(str(what))
        if ns is None:
            raise SetupError(f"{where}: sleep: expected a duration such as 10ms, got {what!r}")
        return Step(verb, ns)
    if verb in ("guest", "nbd"):
        return Step(verb, {key: _request(where, key, value) for key, value in what.items()})
    return Step(verb, what)


def _request(where: str, key: str, value: Any) -> Any:
    """[offset, length] or [offset, length, pattern] of a request, as numbers."""
    return [_bytes(where, each) for each in value] if key in _DATA_VERBS else value


def _bytes(where: str, value: int | str) -> int:
    found = value if isinstance(value, int) else size(value)
    if found is None:
        raise SetupError(f"{where}: expected a number of bytes such as 64k, got {value!r}")
    return found


def cut_to(source: SessionSource, steps: list[Step]) -> SessionSource:
    """The same with these steps only."""
    return SessionSource(source.name, source.scenario, source.negotiate, steps, "")


def written(source: SessionSource, name: str) -> str:
    """As a file of sessions has it."""
    lines = [f"{name}:"]
    if source.scenario.disks:
        disks = {disk: _members(given) for disk, given in source.scenario.disks.items()}
        lines.append(f"  disks: {json.dumps(disks)}")
    lines += [f"  attach: {source.scenario.attach}", "  steps:"]
    return "\n".join([*lines, *(f"    - {_source_of(step)}" for step in source.steps)])


def _members(disk: Disk) -> dict[str, Any]:
    return {"size": disk.size, "format": disk.format, **({"cluster": disk.cluster} if disk.cluster else {})}


def _source_of(step: Step) -> str:
    if step.verb == "sleep":
        return f"sleep: {step.what}ns"
    said = step.what
    if step.verb == "send" and set(said) == {"execute", "arguments"} and said["execute"] not in VERBS:
        return json.dumps({said["execute"]: said["arguments"]})
    return json.dumps({step.verb: said})
