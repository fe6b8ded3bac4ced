"""What a version answered in a session, made of several takes: what they differ in is what truly varies.

A recording is a file of JSON lines. The first says what was recorded: {"session", "qemu", "takes", "digest"};
each other is a step:

    {"step": TEXT, "expect": [MESSAGE, ...]}                      in this order in every take
    {"step": TEXT, "always": [...], "sometimes": [...]}           a set: in every take, and in some of them

A number that was not the same in every take stands as {"$varies": [those that were seen]}: any number is
accepted. A version that answers all of a session as the one before it has only its greeting and
{"same_as": VERSION, "qemu", "digest"}: its own digest, since the other may be recorded anew before it. Old
recordings have none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from scenarios.backends.interface import SetupError
from scenarios.conformance.session import PART_OF_THE_STEP_BEFORE, SessionSource

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
VARIES = "$varies"

Message = dict[str, Any]
Take = list[list[Message]]


class Expected(msgspec.Struct, omit_defaults=True):
    """One step. `expect` is None where the takes do not agree on an order."""

    step: str
    expect: list[Message] | None = None
    always: list[Message] = []
    sometimes: list[Message] = []


class Recording(msgspec.Struct):
    """`qemu` is the version in full, such as "10.0.13", `digest` that of the session's source."""

    session: str
    qemu: str
    takes: int
    digest: str
    steps: list[Expected]


def canonical(value: Any) -> str:
    """Equal for equal values, whatever the order of an object's members."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def merge(source: SessionSource, qemu: str, takes: Sequence[Take]) -> Recording:
    """Raises SetupError where takes ended at different steps: then nothing can be said."""
    lengths = {len(take) for take in takes}
    if len(lengths) != 1:
        raise SetupError(f"{source.name}: takes ended after {sorted(lengths)} steps: it cannot be recorded")
    said = [step.text for step in source.steps if step.verb not in PART_OF_THE_STEP_BEFORE]
    texts = ["greeting", *said]
    steps = [_merge_step(text, observed) for text, *observed in zip(texts, *takes, strict=False)]
    return Recording(source.name, qemu, len(takes), source.digest, steps)


def _merge_step(text: str, observed: Sequence[list[Message]]) -> Expected:
    first = observed[0]
    if all(len(messages) == len(first) for messages in observed):
        aligned = [_merge_values(list(each)) for each in zip(*observed, strict=True)]
        if None not in aligned:
            return Expected(text, aligned)
    counts = [Counter(map(canonical, messages)) for messages in observed]
    least, most = counts[0], counts[0]
    for count in counts[1:]:
        least, most = least & count, most | count
    return Expected(text, None, _told(least), _told(most - least))


def _told(messages: Counter[str]) -> list[Message]:
    return [json.loads(message) for message in sorted(messages.elements())]


def _merge_values(values: list[Any]) -> Any:
    """One value for all takes' values; None if they differ in more than numbers."""
    first = values[0]
    if all(canonical(value) == canonical(first) for value in values):
        return first
    if any(type(value) is not type(first) for value in values):
        return None
    if isinstance(first, dict):
        if any(value.keys() != first.keys() for value in values):
            return None
        merged = {key: _merge_values([value[key] for value in values]) for key in first}
        return None if None in merged.values() else merged
    if isinstance(first, list):
        if any(len(value) != len(first) for value in values):
            return None
        items = [_merge_values(list(each)) for each in zip(*values, strict=True)]
        return None if None in items else items
    return {VARIES: sorted(set(values))} if type(first) in (int, float) else None


# -- files


def versions(directory: Path = RECORDED) -> Iterator[str]:
    """Those of which there are recordings, in no order."""
    if directory.is_dir():
        yield from (path.name for path in directory.iterdir() if path.is_dir())


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def path_of(session: str, version: str, directory: Path = RECORDED) -> Path:
    return directory / version / f"{session.replace(' ', '-')}.jsonl"


def save(recording: Recording, version: str, before: str | None, directory: Path = RECORDED) -> Path:
    """`before`: the version that it may be the same as. Returns the file."""
    path = path_of(recording.session, version, directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    if before is not None and _says_the_same(recording, before, directory):
        greeting = msgspec.json.encode(recording.steps[0]).decode()
        same = {"same_as": before, "qemu": recording.qemu, "digest": recording.digest}
        path.write_text(f"{json.dumps(same)}\n{greeting}\n")
        return path
    head = {name: getattr(recording, name) for name in ("session", "qemu", "takes", "digest")}
    lines = [json.dumps(head), *(msgspec.json.encode(step).decode() for step in recording.steps)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _says_the_same(recording: Recording, before: str, directory: Path) -> bool:
    other = load(recording.session, before, directory)
    if other is None or other.digest != recording.digest or len(other.steps) != len(recording.steps):
        return False
    # What the greeting says of the version is that version's own.
    return list(map(msgspec.json.encode, other.steps[1:])) == list(
        map(msgspec.json.encode, recording.steps[1:])
    )


def load(session: str, version: str, directory: Path = RECORDED) -> Recording | None:
    """None if it was not recorded. Raises SetupError for a file that is none of ours."""
    path = path_of(session, version, directory)
    try:
        head, *lines = path.read_text().splitlines()
    except FileNotFoundError:
        return None
    try:
        described = json.loads(head)
        steps = [msgspec.json.decode(line, type=Expected) for line in lines]
        if "same_as" in described:
            same = load(session, described["same_as"], directory)
            if same is None:
                raise ValueError(f"the same as {described['same_as']}, which has no recording")
            digest = described.get("digest", same.digest)
            return Recording(session, described["qemu"], same.takes, digest, [*steps, *same.steps[1:]])
        return Recording(**described, steps=steps)
    except (ValueError, TypeError, msgspec.DecodeError) as error:
        raise SetupError(f"{path}: expected a recording: {error}") from None
