"""The human monitor's command lines: words, quoted strings and options (monitor/hmp.c monitor_parse_arguments, 7.2)."""

from __future__ import annotations

_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


class HmpError(Exception):
    """A line that cannot be run; str() is what the monitor prints, without the line end."""


def next_word(text: str) -> tuple[str, str]:
    """The first word of `text` (quoted strings taken apart) and what follows it. Raises HmpError."""
    text = text.lstrip()
    if not text.startswith('"'):
        word, _, rest = text.partition(" ")
        return word, rest.lstrip()
    letters: list[str] = []
    position = 1
    while position < len(text):
        letter = text[position]
        if letter == '"':
            return "".join(letters), text[position + 1 :].lstrip()
        if letter == "\\":
            position += 1
            escaped = text[position : position + 1]
            if escaped not in _ESCAPES:
                raise HmpError(f"unsupported escape code: '\\{escaped}'")
            letter = _ESCAPES[escaped]
        letters.append(letter)
        position += 1
    raise HmpError("unterminated string")


def words_of(text: str) -> list[str]:
    """All words of a line. Raises HmpError."""
    words = []
    text = text.strip()
    while text:
        word, text = next_word(text)
        words.append(word)
    return words


def take_flags(words: list[str], letters: str) -> tuple[str, list[str]]:
    """Leading options such as -n or -fn: (letters given, the other words). Raises HmpError on an unknown one."""
    given = ""
    rest = list(words)
    while rest and len(rest[0]) > 1 and rest[0][0] == "-":
        for letter in rest.pop(0)[1:]:
            if letter not in letters:
                raise HmpError(f"unsupported option -{letter}")
            given += letter
    return given, rest
