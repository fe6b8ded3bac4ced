"""The human monitor's command lines: words, quoted strings and options
(monitor/hmp.c:monitor_parse_arguments, 7.2)."""

from __future__ import annotations

from simulator.monitor.hmp.expression import ExpressionError, evaluate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.qapi.qemu_opts import QemuOpts

_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_EXPECTED = {"s": "string", "S": "string", "O": "string", "F": "filename", "B": "block device name"}
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

    `types` is as in hmp-commands.hx: "force:-f,device:B,name:s?" and so on. -x is a flag, -xs one with a
    value, B, F and s are strings that are asked for in different words, S is the rest of the line, O options
    and may be nothing, o a size in MiB or with a unit, i, l and M numbers (of 32 and 64 bits, and in MiB), b
    on or off, / how a number is written; ? makes optional. Raises HmpError.
    """
    name = command.rpartition(" ")[2]
    try:
        return _parsed(name, types, text)
    except HmpError as error:
        raise HmpError(f'{error}\nTry "help {typed}" for more information', error.aside) from None


def _parsed(name: str, types: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pairs = [pair.split(":") for pair in types.split(",")] if types else []
    for position, (key, kind) in enumerate(pairs):
        text = text.lstrip()
        if kind[0] == "-":
            later = [each for _, each in pairs[position + 1 :]]
            value, text = _flag(name, kind, later, text)
        elif not text and (kind[-1] == "?" or kind == "O"):
            continue
        elif kind[-1] == ".":
            # Another number only behind a dot.
            if not text.startswith("."):
                continue
            value, text = _number(name, kind, text[1:].lstrip())
        else:
            value, text = _value(name, kind, text)
        if value is not None:
            found[key] = value
    if text.strip():
        raise HmpError(f"{name}: extraneous characters at the end of line")
    return found


def _flag(name: str, kind: str, later: list[str], text: str) -> tuple[Any, str]:
    if not text.startswith("-"):
        return None, text
    if text[1:2] != kind[1]:
        if f"-{text[1:2]}" not in [each[:2] for each in later]:
            raise HmpError(f"{name}: unsupported option -{text[1:2]}")
        return None, text
    if kind[2:] != "s":
        return True, text[2:]
    try:
        return next_word(text[2:])
    except NoWord as problem:
        raise HmpError(f"{name}: value expected for -{kind[1]}", str(problem)) from None


def _value(name: str, kind: str, text: str) -> tuple[Any, str]:
    letter = kind[0]
    if letter == "o":
        return _size(text)
    if letter in "ilM":
        return _number(name, letter, text)
    if letter == "b":
        word, rest = _word_of(text)
        if word not in ("on", "off"):
            raise HmpError("Expected 'on' or 'off'")
        return word == "on", rest
    if letter == "/":
        return _format(text)
    if letter == "S" and text:
        return text, ""
    try:
        return next_word(text)
    except NoWord as problem:
        raise HmpError(f"{name}: {_EXPECTED[letter]} expected", str(problem)) from None


def _word_of(text: str) -> tuple[str, str]:
    word = text.split(None, 1)[0] if text else ""
    return word, text[len(word) :]


def _number(name: str, kind: str, text: str) -> tuple[int, str]:
    try:
        value, rest = evaluate(text)
    except ExpressionError as error:
        raise HmpError(str(error)) from None
    if kind[0] == "i" and value >> 32 & 0xFFFFFFFF:
        raise HmpError(f"'{name}' has failed: integer is for 32-bit values")
    if kind[0] == "M":
        if value < 0:
            raise HmpError("enter a positive value")
        value <<= 20
    return value, rest


def _format(text: str) -> tuple[str, str]:
    """/COUNT and letters: the one that says how a number is written, "x" unless told."""
    if not text.startswith("/"):
        return "x", text
    word, rest = _word_of(text)
    letters = word[1:].lstrip("0123456789")
    shown = [each for each in letters if each in "oduxic"]
    wrong = next((each for each in letters if each not in "oduxicbhwgL"), "")
    if wrong:
        raise HmpError(f"invalid char in format: '{wrong}'")
    return shown[-1] if shown else "x", rest


def _size(text: str) -> tuple[int, str]:
    word = _word_of(text)[0]
    digits, shift = word, 20
    if word[-1:].lower() in _SIZE_UNITS:
        digits, shift = word[:-1], _SIZE_UNITS[word[-1].lower()]
    whole, _, fraction = digits.partition(".")
    if not whole.isdigit() or not (fraction or "0").isdigit():
        raise HmpError("invalid size")
    part = int(fraction or "0") * (1 << shift) // 10 ** len(fraction)
    return (int(whole) << shift) + part, text[len(word) :]


def told_of_flags(machine: Machine, opts: QemuOpts) -> list[str]:
    """What a command's option text is warned of (opts_do_parse warns whoever is at the monitor)."""
    if not machine.version.command_line.flags_warn:
        return []
    lines = iter(opts.warnings)
    return [f"warning: {text}\n{advice}\n" for text, advice in zip(lines, lines, strict=True)]
