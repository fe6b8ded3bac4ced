"""Arguments of qemu-img: getopt's rules, sizes, and -o lists."""

from __future__ import annotations

from simulator.image_tool.bench import ToolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SUFFIXES = "bkmgtpe"


class UsageError(Exception):
    """The arguments make no command; str() goes after "qemu-img: " and a hint at --help follows."""


class Arguments:
    """Parsed arguments: `flags` by name, with the last value of those that take one; `given`, the long ones
    with their values as they came; all values of -o; the rest."""

    def __init__(self) -> None:
        self.flags: dict[str, str] = {}
        self.given: list[tuple[str, str]] = []
        self.lists: list[str] = []
        self.rest: list[str] = []

    def has(self, name: str) -> bool:
        return name in self.flags

    def get(self, name: str) -> str | None:
        return self.flags.get(name)


def parse(argv: Sequence[str], short: str, long: str = "") -> Arguments:
    """`short` as for getopt ("f:q"); `long` names separated by blanks ("output: shrink"), a colon for those
    with a value. Options may stand after other arguments. Raises UsageError."""
    found = Arguments()
    takes_value = {name.rstrip(":"): name.endswith(":") for name in long.split()}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            found.rest += words
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name not in takes_value:
                raise UsageError(f"unrecognized option '{word}'")
            if takes_value[name] and not equals:
                value = _next(words, f"option '--{name}' requires an argument")
            found.flags[name] = value
            found.given.append((name, value))
        elif word.startswith("-") and len(word) > 1:
            _parse_short(found, word[1:], words, short)
        else:
            found.rest.append(word)
    return found


def _parse_short(found: Arguments, letters: str, words: list[str], short: str) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        at = short.find(letter)
        if at < 0 or letter == ":":
            raise UsageError(f"unrecognized option '-{letter}'")
        value = ""
        if short[at + 1 : at + 2] == ":":
            value = letters or _next(words, f"option requires an argument -- '{letter}'")
            letters = ""
        if letter == "o":
            found.lists.append(value)
        found.flags[letter] = value


def _next(words: list[str], problem: str) -> str:
    if not words:
        raise UsageError(problem)
    return words.pop(0)


def size_of(text: str) -> int | None:
    """Bytes of a size such as 64M, 1.5G or 4096; None if it is none (cvtnum)."""
    number, factor = text.strip(), 1
    if number and number[-1].lower() in _SUFFIXES:
        factor = 1 << 10 * _SUFFIXES.index(number[-1].lower())
        number = number[:-1]
    whole, point, fraction = number.partition(".")
    if not whole.isascii() or not whole.isdigit() or (point and not fraction.isdigit()):
        return None
    size = int(whole) * factor
    if point:
        size += int(fraction) * factor // 10 ** len(fraction)
    return size if size < 1 << 63 else None


def image_options(lists: list[str], known: tuple[str, ...], path: str) -> dict[str, str]:
    """All -o lists as one dict; a comma in a value is written twice. Raises ToolError for an unknown name."""
    options: dict[str, str] = {}
    for text in lists:
        for entry in text.replace(",,", "\0").split(","):
            name, equals, value = entry.replace("\0", ",").partition("=")
            if name not in known:
                raise ToolError(f"{path}: Invalid parameter '{name}'")
            options[name] = value if equals else "on"
    return options
