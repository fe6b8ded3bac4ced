"""The human monitor's command lines: words, quoted strings and options
(monitor/hmp.c:monitor_parse_arguments, 7.2)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_EXPECTED = {"s": "string", "S": "string", "F": "filename", "B": "block device name"}
_SIZE_UNITS = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


class HmpError(Exception):
    """A line that cannot be run; str() is what the monitor prints, without the line end. `aside` is what
    QEMU prints on its standard output, where the monitor does not see it."""

    def __init__(self, message: str, aside: str = "") -> None:
        super().__init__(message)
        self.aside = aside


class NoWord(Exception):
    """There is no word; str() is what QEMU prints on its standard output about it, if anything."""


def next_word(text: str) -> tuple[str, str]:
    """The first word of `text` (quoted strings taken apart) and all that follows it. Raises NoWord."""
    text = text.lstrip()
    if not text:
        raise NoWord
    if not text.startswith('"'):
        end = next((position for position, letter in enumerate(text) if letter.isspace()), len(text))
        return text[:end], text[end:]
    letters: list[str] = []
    position = 1
    while position < len(text):
        letter = text[position]
        if letter == '"':
            return "".join(letters), text[position + 1 :]
        if letter == "\\":
            position += 1
            escaped = text[position : position + 1]
            if escaped not in _ESCAPES:
                raise NoWord(f"unsupported escape code: '\\{escaped}'\n")
            letter = _ESCAPES[escaped]
        letters.append(letter)
        position += 1
    raise NoWord("unterminated string\n")


def parse_arguments(command: str, types: str, text: str, typed: str) -> dict[str, Any]:
    """A command's arguments by name. `command` is its full name, such as "info block", `typed` what stands in
    the line for it.

    `types` is as in hmp-commands.hx: "force:-f,device:B,name:s?" and so on. -x is a flag, B, F and s are
    strings that are asked for in different words, S is the rest of the line, o a size in MiB or with a
    unit, l a number; ? makes optional. Raises HmpError.
    """
    name = command.rpartition(" ")[2]
    hint = f'\nTry "help {typed}" for more information'
    found: dict[str, Any] = {}
    pairs = [pair.split(":") for pair in types.split(",")] if types else []
    for position, (key, kind) in enumerate(pairs):
        text = text.lstrip()
        if kind[0] == "-":
            if not text.startswith("-"):
                continue
            if text[1:2] == kind[1]:
                found[key] = True
                text = text[2:]
            elif f"-{text[1:2]}" not in [later for _, later in pairs[position + 1 :]]:
                raise HmpError(f"{name}: unsupported option -{text[1:2]}{hint}")
        elif not text and kind.endswith("?"):
            continue
        elif kind[0] == "o":
            found[key], text = _size(text, hint)
        elif kind[0] == "l":
            found[key], text = _number(text, hint)
        elif kind[0] == "S" and text:
            found[key], text = text, ""
        else:
            try:
                found[key], text = next_word(text)
            except NoWord as problem:
                raise HmpError(f"{name}: {_EXPECTED[kind[0]]} expected{hint}", str(problem)) from None
    if text.strip():
        raise HmpError(f"{name}: extraneous characters at the end of line{hint}")
    return found


def _number(text: str, hint: str) -> tuple[int, str]:
    """A number as C writes it. QEMU takes whole expressions; these are not."""
    if not text[:1].isdigit():
        problem = f"invalid char '{text[0]}' in expression" if text else "unexpected end of expression"
        raise HmpError(f"{problem}{hint}")
    base, start = (16, 2) if text[:2].lower() == "0x" else (8 if text[0] == "0" else 10, 0)
    allowed = "0123456789abcdef"[:base]
    end = start
    while text[end : end + 1].lower() in tuple(allowed):
        end += 1
    return int(text[start:end] or "0", base), text[end:]


def _size(text: str, hint: str) -> tuple[int, str]:
    word = text.split(None, 1)[0] if text else ""
    digits, shift = word, 20
    if word[-1:].lower() in _SIZE_UNITS:
        digits, shift = word[:-1], _SIZE_UNITS[word[-1].lower()]
    whole, _, fraction = digits.partition(".")
    if not whole.isdigit() or not (fraction or "0").isdigit():
        raise HmpError(f"invalid size{hint}")
    part = int(fraction or "0") * (1 << shift) // 10 ** len(fraction)
    return (int(whole) << shift) + part, text[len(word) :]
