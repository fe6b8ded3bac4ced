"""Whether what a machine answered is what was recorded, and where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from scenarios.conformance.recording import VARIES, Expected, Message, Recording, canonical

LONGEST_LINE = 240


class Difference(NamedTuple):
    """`step` counts from 1, 0 is the greeting; `where` says what differs first. `wanted`, `got` are lines."""

    session: str
    step: int
    said: str
    where: str
    wanted: list[str]
    got: list[str]

    def __str__(self) -> str:
        lines = [f"{self.session}: step {self.step}, {self.said}: {self.where}"]
        lines += [f"  - {_cut(line)}" for line in self.wanted]
        lines += [f"  + {_cut(line)}" for line in self.got]
        return "\n".join(lines)


def _cut(line: str) -> str:
    """Where it differs has been told before."""
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


def first_difference(recording: Recording, observed: Sequence[list[Message]]) -> Difference | None:
    """None if all of it is equal."""
    for difference in differences(recording, observed):
        return difference
    return None


def differences(recording: Recording, observed: Sequence[list[Message]]) -> list[Difference]:
    """One for each step that differs."""
    found = []
    for number, expected in enumerate(recording.steps):
        got = observed[number] if number < len(observed) else [{"never": "the machine had ended"}]
        where = difference_of(expected, got)
        if where:
            found.append(_difference(recording.session, number, expected, where, got))
    return found


def _difference(session: str, number: int, expected: Expected, where: str, got: list[Message]) -> Difference:
    if expected.expect is not None:
        wanted = [canonical(message) for message in expected.expect]
    else:
        wanted = [f"in any order: {canonical(message)}" for message in expected.always]
        wanted += [f"perhaps: {canonical(message)}" for message in expected.sometimes]
    return Difference(session, number, expected.step, where, wanted, [canonical(message) for message in got])


def difference_of(expected: Expected, got: Sequence[Message]) -> str:
    """What differs first, in words; "" for nothing."""
    if expected.expect is not None:
        for index, wanted in enumerate(expected.expect):
            if index == len(got):
                return f"message {index + 1} did not come"
            where = unlike(wanted, got[index], "$")
            if where:
                return f"message {index + 1}, {where}"
        surplus = len(got) > len(expected.expect)
        return f"message {len(expected.expect) + 1} is one too many" if surplus else ""
    left = Counter(map(canonical, got))
    for message in expected.always:
        if not left[canonical(message)]:
            return f"did not come, in any order: {canonical(message)}"
        left[canonical(message)] -= 1
    unseen = +left - Counter(map(canonical, expected.sometimes))
    return f"never came in any take: {next(iter(unseen))}" if unseen else ""


def unlike(wanted: Any, got: Any, path: str) -> str:
    """Where two values differ first, from `path` on; "" where they do not."""
    if isinstance(wanted, dict) and set(wanted) == {VARIES}:
        is_same_kind = isinstance(got, int | float) and not isinstance(got, bool)
        return "" if is_same_kind else f"{path}: wanted a number, got {canonical(got)}"
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in wanted:
            if key not in got:
                return f"{path}.{key}: missing"
        for key in got:
            if key not in wanted:
                return f"{path}.{key}: unexpected"
        parts = (unlike(wanted[key], got[key], f"{path}.{key}") for key in wanted)
        return next(filter(None, parts), "")
    if isinstance(wanted, list) and isinstance(got, list):
        for index, (one, other) in enumerate(zip(wanted, got, strict=False)):
            where = unlike(one, other, f"{path}[{index}]")
            if where:
                return where
        return "" if len(wanted) == len(got) else f"{path}: wanted {len(wanted)} items, got {len(got)}"
    if type(wanted) is type(got) and wanted == got:
        return ""
    return f"{path}: wanted {canonical(wanted)}, got {canonical(got)}"


def spread(recording: Recording) -> bool:
    """Whether anything in it varies."""
    steps = recording.steps
    return any(step.expect is None or VARIES.encode() in msgspec.json.encode(step) for step in steps)
