"""KEY=VALUE,... option text as a tree: objects, lists and strings (util/keyval.c, 7.2).

    parse("driver=qcow2,file.driver=file,file.filename=a,,b") ==
        {"driver": "qcow2", "file": {"driver": "file", "filename": "a,b"}}

`Schema.convert_keyval` then turns the strings into what a QAPI type says.
"""

from __future__ import annotations

from simulator.qapi.errors import ArgumentError
from simulator.qapi.integers import to_index
from simulator.wire.qdict import in_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LONGEST_FRAGMENT = 127
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALNUM = frozenset(_LETTERS + "0123456789")
_LETTERS_SET = frozenset(_LETTERS)


def parse(text: str, implied_key: str | None = None) -> dict[str, Any]:
    """The tree. With `implied_key` the first "KEY=" may be left out.

    Raises ArgumentError in QEMU's words; "help" or "?" among the options is one ("Help is not
    available for this option"), so callers that offer help look with `wants_help` first.
    """
    tree, help_wanted = _parse_pairs(text, implied_key)
    if help_wanted:
        raise ArgumentError("Help is not available for this option")
    listified = _listify(tree, "")
    assert listified is tree
    return tree


def wants_help(text: str, implied_key: str | None = None) -> bool:
    """Whether "help" or "?" is among the options. Raises ArgumentError as `parse` does."""
    return _parse_pairs(text, implied_key)[1]


def _parse_pairs(text: str, implied_key: str | None) -> tuple[dict[str, Any], bool]:
    tree: dict[str, Any] = {}
    at, help_wanted = 0, False
    while at < len(text):
        at, is_help = _parse_one(tree, text, at, implied_key)
        help_wanted |= is_help
        implied_key = None
    return tree, help_wanted


def _parse_one(tree: dict[str, Any], text: str, start: int, implied_key: str | None) -> tuple[int, bool]:
    """Put the pair at `start` into the tree; where the next begins, and whether this one asks for help."""
    end = _first_of(text, "=,", start)
    if end > start and text[end : end + 1] != "=":
        word = text[start:end]
        if word in ("help", "?"):
            return _after_comma(text, end), True
        if implied_key is not None:
            _store(tree, [implied_key], word, implied_key)
            return _after_comma(text, end), False
    fragments, end = _split_key(text, start, end)
    key = text[start:end]
    if text[end : end + 1] != "=":
        raise ArgumentError(f"Expected '=' after parameter '{key}'")
    value, end = split_value(text, end + 1)
    _store(tree, fragments, value, key)
    return _after_comma(text, end), False


def _split_key(text: str, start: int, key_end: int) -> tuple[list[str], int]:
    """The dotted key's fragments, and where the last one ended."""
    fragments: list[str] = []
    at = start
    while True:
        index = to_index(text[at:key_end]) if at != start else None
        length = index[1] if index is not None else _name_length(text[at:key_end])
        end = at + length
        if not length or (end < key_end and text[end] != "."):
            raise ArgumentError(f"Invalid parameter '{text[start:key_end]}'")
        if length > _LONGEST_FRAGMENT:
            whole = at == start and end == key_end
            raise ArgumentError(f"Parameter{'' if whole else ' fragment'} '{text[at:end]}' is too long")
        fragments.append(text[at:end])
        if text[end : end + 1] != ".":
            return fragments, end
        at = end + 1


def _name_length(text: str) -> int:
    """Length of the QAPI name that `text` begins with, 0 if none (qapi/qapi-util.c:120, 7.2)."""
    at = 0
    if text[:1] == "_":  # a vendor's own: __RFQDN_name
        if text[1:2] != "_":
            return 0
        at = 2
        while text[at : at + 1] and (text[at] in _ALNUM or text[at] in "-."):
            at += 1
        if text[at : at + 1] != "_":
            return 0
        at += 1
    if text[at : at + 1] not in _LETTERS_SET:
        return 0
    while text[at : at + 1] and (text[at] in _ALNUM or text[at] in "-_"):
        at += 1
    return at


def _store(tree: dict[str, Any], fragments: list[str], value: str, key: str) -> None:
    at = -1
    for fragment in fragments[:-1]:
        at += len(fragment) + 1
        tree = tree.setdefault(fragment, {})
        if not isinstance(tree, dict):
            raise ArgumentError(f"Parameters '{key[:at]}.*' used inconsistently")
    if not isinstance(tree.get(fragments[-1], ""), str):
        raise ArgumentError(f"Parameters '{key}.*' used inconsistently")
    tree[fragments[-1]] = value


def _listify(tree: dict[str, Any], prefix: str) -> dict[str, Any] | list[Any]:
    """Objects whose keys are all list indexes become lists, innermost first. `prefix` ends in a dot."""
    indexes = members = 0
    for key in in_order(tree):
        indexes += _is_index(key)
        members += not _is_index(key)
        if isinstance(tree[key], dict):
            tree[key] = _listify(tree[key], f"{prefix}{key}.")
    if indexes and members:
        raise ArgumentError(f"Parameters '{prefix}*' used inconsistently")
    if not indexes:
        return tree
    elements: dict[int, Any] = {}
    for key in in_order(tree):
        index = to_index(key)
        assert index is not None
        elements[index[0]] = tree[key]
    for index_wanted in range(min(len(tree) + 1, max(elements) + 1)):
        if index_wanted not in elements or index_wanted >= len(tree):
            raise ArgumentError(f"Parameter '{prefix}{index_wanted}' missing")
    return [elements[index] for index in sorted(elements)]


def _is_index(key: str) -> bool:
    index = to_index(key)
    return index is not None and index[1] == len(key)


def split_value(text: str, start: int) -> tuple[str, int]:
    """The value that begins at `start`, with ",," for a comma, and where it ends (at a comma or the end)."""
    pieces: list[str] = []
    while True:
        end = text.find(",", start)
        if end < 0:
            pieces.append(text[start:])
            return "".join(pieces), len(text)
        if text[end + 1 : end + 2] != ",":
            pieces.append(text[start:end])
            return "".join(pieces), end
        pieces.append(text[start : end + 1])
        start = end + 2


def _first_of(text: str, wanted: str, start: int) -> int:
    found = [at for at in (text.find(char, start) for char in wanted) if at >= 0]
    return min(found, default=len(text))


def _after_comma(text: str, end: int) -> int:
    return end + 1 if text[end : end + 1] == "," else end
