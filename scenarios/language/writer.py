"""Scenarios to YAML in the short spellings; load_text reads the same Scenario back.

What has its default is left out, so that a file says what matters; sizes, durations and bytes are written as
a person would ("64k", "100ms", 0x11). One step a line where it fits. `path` and `line` are not written.
"""

from __future__ import annotations

from typing import Any

import msgspec

from scenarios.language import steps
from scenarios.language.decode import (
    BYTE_FIELDS,
    DURATION_FIELDS,
    MAY_BE_EMPTY,
    SHORT_MEMBER,
    SIZE_FIELDS,
    UNWRITABLE,
)
from scenarios.language.scalars import spell_duration, spell_size, spell_text

WIDEST_LINE = 110
# Members that a reader looks for even where they have their default.
_ALWAYS = {(steps.Disk, "format")}


def write(scenario: steps.Scenario, comment: str = "") -> str:
    """The text of a spec file, ending with a newline; `comment` lines go on top."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    tree = _members(scenario)
    for key, value in tree.items():
        if key == "steps":
            lines.append("steps:")
            for step in value:
                lines += _step_lines(step, 1)
        elif key == "disks" and value:
            lines.append("disks:")
            lines += [f"  {spell_text(name)}: {_flow(disk)}" for name, disk in value.items()]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


class _Spelled(str):
    """Text that is YAML already: a size, a duration, a byte."""


def _tree(value: Any, name: str = "") -> Any:
    """Structs to dicts with YAML's spellings as _Spelled."""
    if isinstance(value, msgspec.Struct):
        short = SHORT_MEMBER.get(type(value))
        members = _members(value)
        if type(value) in MAY_BE_EMPTY and not members:
            return _Spelled("")
        return members[short] if short and members.keys() == {short} else members
    if isinstance(value, list):
        return [_tree(item) for item in value]
    if isinstance(value, dict):
        return {key: _tree(item) for key, item in value.items()}
    return value


def _members(struct: msgspec.Struct) -> dict[str, Any]:
    members: dict[str, Any] = {}
    left_out = UNWRITABLE.get(type(struct), frozenset())
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        is_default = type(value) is type(default) and value == default
        if field.name in left_out or (is_default and (type(struct), field.name) not in _ALWAYS):
            continue
        members[field.encode_name] = _spelled(field.name, value)
    return members


def _spelled(name: str, value: Any) -> Any:
    if type(value) is int:
        if name in SIZE_FIELDS:
            return _Spelled(spell_size(value))
        if name in DURATION_FIELDS:
            return _Spelled(spell_duration(value))
        if name in BYTE_FIELDS:
            return _Spelled(f"0x{value:02x}")
    return _tree(value, name)


def _step_lines(step: Any, indent: int) -> list[str]:
    """One step, or a lane of steps inside `together`, as list items."""
    pad = "  " * indent
    if isinstance(step, list):
        if not step:
            return [f"{pad}- []"]
        inner = [line for item in step for line in _step_lines(item, indent + 1)]
        return [f"{pad}- {inner[0].lstrip()}", *inner[1:]]
    [(verb, value)] = step.items()
    if verb in ("together", "destination") and value:
        return [f"{pad}- {verb}:", *(line for lane in value for line in _step_lines(lane, indent + 2))]
    line = f"{pad}- {verb}: {_flow(value)}".rstrip()
    if len(line) <= WIDEST_LINE or not isinstance(value, dict):
        return [line]
    return [f"{pad}- {verb}:", *_block_lines(value, indent + 2)]


def _block_lines(members: dict[str, Any], indent: int) -> list[str]:
    """A mapping over several lines, going deeper only where a line would be too wide."""
    lines: list[str] = []
    pad = "  " * indent
    for key, value in members.items():
        line = f"{pad}{spell_text(key)}: {_flow(value)}"
        if len(line) > WIDEST_LINE and isinstance(value, dict) and value:
            lines += [f"{pad}{spell_text(key)}:", *_block_lines(value, indent + 1)]
        elif len(line) > WIDEST_LINE and isinstance(value, list) and value:
            lines += [f"{pad}{spell_text(key)}:", *(f"{pad}  - {_flow(item)}" for item in value)]
        else:
            lines.append(line)
    return lines


def _flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, _Spelled):
        return str(value)
    if isinstance(value, str):
        return spell_text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{spell_text(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _flow_float(value)
    return str(value)


def _flow_float(value: float) -> str:
    """JSON has no infinities, so QMP and specs have none."""
    text = repr(value)
    if not text.lstrip("-")[0].isdigit():
        raise ValueError(f"a scenario cannot hold the number {text}")
    return text
