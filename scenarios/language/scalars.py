"""How a spec spells numbers and words: sizes ("64k"), durations ("100ms"), and YAML's plain scalars.

Plain scalars follow YAML 1.2's core schema, not 1.1: `on`, `off`, `yes` and `no` are words, as QEMU's own
options need them, and `12:30` is not a number.
"""

from __future__ import annotations

import re

SIZE_UNITS = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
DURATION_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SIZE = re.compile(r"([0-9]+)([kKMGTPE]?)")
_DURATION = re.compile(r"([0-9]+)(ns|us|ms|s|min)")

Plain = None | bool | int | float | str


def integer(text: str) -> int | None:
    """An integer as specs write it (12, -1, 0x11, 0o17), or None."""
    # Longer than any number of QEMU's: Python itself refuses to convert over 4,300 digits.
    return int(text, 0) if len(text) <= 100 and _INTEGER.fullmatch(text) else None


def size(text: str) -> int | None:
    """Bytes: a whole number, in hex too, or one with a binary unit (64k, 1M, 16T); None if it is neither."""
    match = _SIZE.fullmatch(text) if len(text) <= 100 else None
    if match and match[2]:
        return int(match[1]) * SIZE_UNITS[match[2].replace("K", "k")]
    return integer(text)


def duration(text: str) -> int | None:
    """Nanoseconds: a whole number with a unit (100ms, 45s), or a bare 0; None otherwise."""
    match = _DURATION.fullmatch(text) if len(text) <= 100 else None
    if match:
        return int(match[1]) * DURATION_UNITS[match[2]]
    return 0 if text == "0" else None


def plain(text: str) -> Plain:
    """What an unquoted scalar stands for in YAML's core schema."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    number = integer(text)
    if number is not None:
        return number
    if len(text) <= 100 and _FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit():
        return float(text)
    return text


def spell_size(bytes_: int) -> str:
    """The shortest exact spelling: 65536 -> "64k", 1000 -> "1000"."""
    for unit in ("E", "P", "T", "G", "M", "k"):
        if bytes_ and bytes_ % SIZE_UNITS[unit] == 0:
            return f"{bytes_ // SIZE_UNITS[unit]}{unit}"
    return str(bytes_)


def spell_duration(ns: int) -> str:
    """The shortest exact spelling: 100_000_000 -> "100ms", 0 -> "0s"."""
    for unit in ("s", "ms", "us"):
        if ns % DURATION_UNITS[unit] == 0:
            return f"{ns // DURATION_UNITS[unit]}{unit}"
    return f"{ns}ns"


_SAFE_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+@%=-]*( [A-Za-z0-9_./+@%=()-]+)*")
# Words that some YAML reader takes for something other than text.
_YAML_1_1_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))


def spell_text(text: str) -> str:
    """Text that reads back as the same text in YAML 1.1 and 1.2, with quotes only where they are needed."""
    if _SAFE_WORD.fullmatch(text) and text.lower() not in _YAML_1_1_WORDS:
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    if named:
        return named
    # YAML's reader refuses some printable characters, such as a byte order mark: these are escaped too.
    code = ord(character)
    if 0x20 <= code < 0x7F or 0xA0 <= code < 0x2000 or 0x2030 <= code < 0xD800:
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
