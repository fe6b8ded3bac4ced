"""Options in the older style: a flat list of NAME=VALUE (util/qemu-option.c, 7.2), as for -drive
and -chardev.

parse("if=none,id=d0,file=a,,b") has id "d0" and pairs [("if", "none"), ("file", "a,b")]
"""

from __future__ import annotations

from simulator.qapi.errors import ArgumentError
from simulator.qapi.integers import NumberError, to_size, to_uint64
from simulator.qapi.keyval import split_value
from simulator.qapi.truth import FALSE, TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
ID_HINT = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n"
SIZE_HINT = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively.\n"
)


class OptionError(ArgumentError):
    """As ArgumentError, with what else QEMU prints on the console (never over QMP): the lines of `hint`
    behind the message, and before it the `warnings` as in QemuOpts.
    """

    def __init__(self, desc: str, hint: str = "") -> None:
        super().__init__(desc)
        self.hint = hint
        self.warnings: list[str] = []


class QemuOpts:
    """One option's settings in the order given. `warnings` are what QEMU prints about old spellings:
    a warning and a line of advice in turn."""

    __slots__ = ("help_wanted", "id", "pairs", "warnings")

    def __init__(self) -> None:
        self.id: str | None = None
        self.pairs: list[tuple[str, str]] = []
        self.warnings: list[str] = []
        self.help_wanted = False

    def get(self, name: str, default: str | None = None) -> str | None:
        """The last setting of `name`."""
        for key, value in reversed(self.pairs):
            if key == name:
                return value
        return default

    def get_bool(self, name: str, default: bool) -> bool:
        text = self.get(name)
        return default if text is None else _to_bool(name, text)

    def get_number(self, name: str, default: int) -> int:
        text = self.get(name)
        return default if text is None else _to_number(name, text)

    def get_size(self, name: str, default: int) -> int:
        text = self.get(name)
        return default if text is None else _to_size(name, text)

    def to_dict(self) -> dict[str, str]:
        """All settings, "id" among them, the last of each name (qemu_opts_to_qdict)."""
        settings = {} if self.id is None else {"id": self.id}
        settings.update(self.pairs)
        return settings


def parse(
    text: str,
    first_name: str | None = None,
    kinds: Mapping[str, str] | None = None,
    warn_on_flag: bool = True,
) -> QemuOpts:
    """Read an option's text. With `first_name` the first "NAME=" may be left out.

    `kinds` names the settings there are and what each takes: "str", "bool", "num" or "size"; None:
    any, unchecked. A name without a value is a flag: "x" is x=on, "nox" is x=off. Raises
    OptionError in QEMU's words. That an id is taken already is for the caller to find, who knows
    the list.
    """
    opts = QemuOpts()
    try:
        _read(opts, text, first_name, kinds, warn_on_flag)
    except OptionError as error:
        error.warnings = opts.warnings
        raise
    return opts


def _read(
    opts: QemuOpts, text: str, first_name: str | None, kinds: Mapping[str, str] | None, warn_on_flag: bool
) -> None:
    opts.id = _find_id(text)
    if opts.id is not None and not id_is_well_formed(opts.id):
        raise OptionError("Parameter 'id' expects an identifier", ID_HINT)
    at = 0
    while at < len(text):
        name, value, at, flag = _next_pair(text, at, first_name)
        first_name = None
        if flag and name in ("help", "?"):
            opts.help_wanted = True
            if kinds is not None:
                return
        elif flag and warn_on_flag:
            prefix = "no" if value == "off" else ""
            opts.warnings.append(f"short-form boolean option '{prefix}{name}' deprecated")
            opts.warnings.append(_better_spelling(name, value))
        if name == "id":
            continue
        if kinds is not None:
            check(name, value, kinds)
        opts.pairs.append((name, value))


def _better_spelling(name: str, value: str) -> str:
    if name == "delay":
        return f"Please use nodelay={'on' if value == 'off' else 'off'} instead"
    return f"Please use {name}={value} instead"


def _find_id(text: str) -> str | None:
    at = 0
    while at < len(text):
        name, value, at, _ = _next_pair(text, at, None)
        if name == "id":
            return value
    return None


def _next_pair(text: str, start: int, first_name: str | None) -> tuple[str, str, int, bool]:
    """(name, value, where the next pair begins, whether it was a bare flag)."""
    end = start
    while end < len(text) and text[end] not in "=,":
        end += 1
    flag = False
    if text[end : end + 1] == "=":
        name = text[start:end]
        value, end = split_value(text, end + 1)
    elif first_name is not None:
        name = first_name
        value, end = split_value(text, start)
    else:
        flag = True
        name, value = text[start:end], "on"
        if name.startswith("no"):
            name, value = name[2:], "off"
    return name, value, end + 1 if text[end : end + 1] == "," else end, flag


def id_is_well_formed(name: str) -> bool:
    """util/id.c:18, 7.2."""
    return name[:1].isascii() and name[:1].isalpha() and _ID_CHARACTERS.issuperset(name)


def check(name: str, value: str, kinds: Mapping[str, str]) -> None:
    """One setting against the kinds that `parse` takes. Raises OptionError."""
    kind = kinds.get(name)
    if kind is None:
        raise OptionError(f"Invalid parameter '{name}'")
    if kind == "bool":
        _to_bool(name, value)
    elif kind == "num":
        _to_number(name, value)
    elif kind == "size":
        _to_size(name, value)


def _to_bool(name: str, text: str) -> bool:
    if text not in TRUE and text not in FALSE:
        raise OptionError(f"Parameter '{name}' expects 'on' or 'off'")
    return text in TRUE


def _to_number(name: str, text: str) -> int:
    try:
        return to_uint64(text)
    except NumberError as error:
        if error.out_of_range:
            raise OptionError(f"Value '{text}' is too large for parameter '{name}'") from None
        raise OptionError(f"Parameter '{name}' expects a number") from None


def _to_size(name: str, text: str) -> int:
    try:
        return to_size(text)
    except NumberError as error:
        if error.out_of_range:
            raise OptionError(f"Value '{text}' is out of range for parameter '{name}'") from None
        wanted = "a non-negative number below 2^64"
        raise OptionError(f"Parameter '{name}' expects {wanted}", SIZE_HINT) from None
