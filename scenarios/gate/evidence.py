"""Records of a run as short lines for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from scenarios.language.scalars import spell_size
from scenarios.run.history import Record, Stacks

LONGEST_LINE = 160
MOST_STACK_LINES = 400
MOST_FRAMES = 6
# A frame whose function has a name: "#0  0x0000561ae2dc762f in bdrv_disable_dirty_bitmap () from ...".
_FRAME = re.compile(r"^#\d+ +(?:0x[0-9a-f]+ in )?([A-Za-z_][\w:~]*) \(", re.MULTILINE)
_BYTES = frozenset(("offset", "length", "size"))
_HIDDEN = frozenset(("begin", "end", "time_ns", "step", "text"))


def describe(record: Record, longest: int = LONGEST_LINE) -> str:
    """One line: "step 4: guest op disk=vda kind=write offset=0 length=64k pattern=0x11 (12-13)", cut after
    `longest` characters."""
    kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(record).__name__).lower()
    where = f"step {record.step}: " if record.step else ""
    members = " ".join(_member(field, getattr(record, field.name)) for field in _shown(record))
    if isinstance(record, Stacks):
        members = " < ".join(_FRAME.findall(record.text)[:MOST_FRAMES])
    when = f"({record.begin}-{'' if record.end is None else record.end})"
    room = longest - len(where) - len(kind) - len(when)
    if len(members) > room:
        members = members[: room - 3] + "..."
    return f"{where}{kind} {members} {when}"


def describe_all(records: Sequence[Record], at_most: int, longest: int = LONGEST_LINE) -> list[str]:
    """One line a record, and one that counts what was left out. Where lines may be long, stacks are told in
    full."""
    lines: list[str] = []
    for record in records[:at_most]:
        lines.append(describe(record, longest))
        if isinstance(record, Stacks) and longest > LONGEST_LINE:
            lines += [f"    {line}" for line in record.text.splitlines()[:MOST_STACK_LINES]]
    if len(records) > at_most:
        lines.append(f"... and {len(records) - at_most} more")
    return lines


def _shown(record: Record) -> list[msgspec.structs.FieldInfo]:
    """Members that differ from their default."""
    shown = []
    for field in msgspec.structs.fields(record):
        factory = field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        if field.name not in _HIDDEN and getattr(record, field.name) != default:
            shown.append(field)
    return shown


def _member(field: msgspec.structs.FieldInfo, value: Any) -> str:
    if field.name in _BYTES and type(value) is int:
        text = spell_size(value)
    elif field.name == "pattern":
        text = f"0x{value:02x}"
    elif field.name == "content":
        text = _content(value)
    elif isinstance(value, str):
        text = " ".join(value.split())
    else:
        text = str(value)
    return f"{field.name}={text}"


def _content(runs: Sequence[Any]) -> str:
    """[0+64k 0x11, 64k+64k 0x00]; bytes that are not uniform are cut short."""
    words = []
    for offset, length, value in runs[:6]:
        byte = (
            f"0x{value:02x}"
            if isinstance(value, int)
            else value[:8].hex() + ("..." if len(value) > 8 else "")
        )
        words.append(f"{spell_size(offset)}+{spell_size(length)} {byte}")
    return "[" + ", ".join(words) + (", ..." if len(runs) > 6 else "") + "]"
