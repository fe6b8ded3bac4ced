"""What introspection hides about arguments, found by asking the binary itself.

query-qmp-schema calls every integer "int" and gives no names of alternates, yet both show in how
arguments are refused. So each integer member of each command gets numbers that only some widths
take, and each alternate a value that it cannot take. Every question also carries a member that no
command has, so no command is ever carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Entry = dict[str, Any]
Ask = Callable[[str, dict[str, Any]], str]

NO_SUCH_MEMBER = "goldenfleece-has-no-such-member"
_NOT_32_BITS = 1 << 62
_NOT_63_BITS = (1 << 64) - 1
_WRONG_KINDS: tuple[tuple[str, Any], ...] = (("bool", True), ("num", 0), ("array", []), ("null", None))


class Place(NamedTuple):
    """A member that some arguments lead to: of type `owner`, reached by `wrap`, which takes the
    member's value.
    """

    owner: str
    member: str
    type_name: str
    wrap: Callable[[Any], Any]


class Types:
    """A schema's types, and the smallest values that they accept."""

    def __init__(self, entries: list[Entry], as_text: bool = False) -> None:
        """`as_text`: values for the command line, where everything is a string and no list can be empty."""
        self.by_name: dict[str, Entry] = {entry["name"]: entry for entry in entries}
        self._as_text = as_text

    def smallest(self, type_name: str) -> Any:
        entry = self.by_name[type_name]
        meta = entry["meta-type"]
        if meta == "enum":
            return entry["values"][0]
        if meta == "array":
            return [self.smallest(entry["element-type"])] if self._as_text else []
        if meta == "alternate":
            arms = [arm["type"] for arm in entry["members"]]
            return self.smallest("str" if "str" in arms else arms[-1])
        if meta == "object":
            return self.smallest_object(entry, entry["variants"][0]["case"] if "variants" in entry else None)
        if self._as_text:
            return {"str": "x", "bool": "on"}.get(type_name, "0")
        return {"str": "x", "int": 0, "number": 0, "bool": False, "null": None, "any": 0}[type_name]

    def smallest_object(self, entry: Entry, case: str | None) -> dict[str, Any]:
        made = {m["name"]: self.smallest(m["type"]) for m in entry["members"] if "default" not in m}
        if case is not None:
            made[entry["tag"]] = case
            branch = self.branch(entry, case)
            inner = branch["variants"][0]["case"] if "variants" in branch else None
            made.update(self.smallest_object(branch, inner))
        return made

    def branch(self, entry: Entry, case: str) -> Entry:
        names = (variant["type"] for variant in entry["variants"] if variant["case"] == case)
        return self.by_name[next(names)]

    def places(self, type_name: str) -> Iterator[Place]:
        """Every member of every object that values of this type can hold, each object type once."""
        seen: set[str] = set()
        queue: list[tuple[str, Callable[[Any], Any]]] = [(type_name, lambda value: value)]
        while queue:
            name, wrap = queue.pop(0)
            entry = self.by_name[name]
            if name in seen:
                continue
            seen.add(name)
            if entry["meta-type"] == "array":
                queue.append((entry["element-type"], _wrapped_in_list(wrap)))
            elif entry["meta-type"] == "alternate":
                queue.extend((arm["type"], wrap) for arm in entry["members"])
            elif entry["meta-type"] == "object":
                for place in self._members(entry, wrap):
                    yield place
                    queue.append((place.type_name, place.wrap))

    def _members(self, entry: Entry, wrap: Callable[[Any], Any]) -> Iterator[Place]:
        variants = entry.get("variants", ())
        first_case = variants[0]["case"] if variants else None
        yield from self._members_of(entry, entry, first_case, wrap)
        for variant in variants:
            yield from self._members_of(self.by_name[variant["type"]], entry, variant["case"], wrap)

    def _members_of(
        self, owner: Entry, whole: Entry, case: str | None, wrap: Callable[[Any], Any]
    ) -> Iterator[Place]:
        for member in owner["members"]:
            name = member["name"]

            def set_member(value: Any, name: str = name) -> Any:
                return wrap({**self.smallest_object(whole, case), name: value})

            yield Place(owner["name"], name, member["type"], set_member)


def _wrapped_in_list(wrap: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: wrap([value])


def probe(entries: list[Entry], ask: Ask) -> dict[str, Any]:
    """Widths of integer members, names of alternates, and the commands that take any arguments.

    `ask(command, arguments)` gives the text of the refusal, "" if there was none. Widths are keyed by the
    masked type and the member; int64 is left out.
    """
    types = Types(entries)
    integers: dict[str, dict[str, str]] = {}
    alternates: dict[str, str] = {}
    unchecked: list[str] = []
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        if entry["meta-type"] != "command":
            continue
        name = entry["name"]
        smallest = types.smallest(entry["arg-type"])
        if "unexpected" not in ask(name, {**smallest, NO_SUCH_MEMBER: 0}):
            unchecked.append(name)
            continue
        for place in types.places(entry["arg-type"]):
            if (place.owner, place.member) in seen:
                continue
            seen.add((place.owner, place.member))

            def refusal(value: Any, place: Place = place, name: str = name) -> str:
                return ask(name, {**place.wrap(value), NO_SUCH_MEMBER: 0})

            _probe_member(types, place, refusal, integers, alternates)
    return {
        "alternates": dict(sorted(alternates.items())),
        "integers": {owner: dict(sorted(widths.items())) for owner, widths in sorted(integers.items())},
        "unchecked": unchecked,
    }


def _probe_member(
    types: Types,
    place: Place,
    refusal: Callable[[Any], str],
    integers: dict[str, dict[str, str]],
    alternates: dict[str, str],
) -> None:
    entry = types.by_name[place.type_name]
    if entry["meta-type"] == "array" and entry["element-type"] != "int":
        inner = place._replace(type_name=entry["element-type"])
        _probe_member(types, inner, lambda value: refusal([value]), integers, alternates)
    elif place.type_name in ("int", "[int]"):
        width = _width(lambda number: refusal(number if place.type_name == "int" else [number]))
        if width != "int64":
            integers.setdefault(place.owner, {})[place.member] = width
    elif entry["meta-type"] == "alternate" and place.type_name not in alternates:
        kinds = [_kind(types, arm["type"]) for arm in entry["members"]]
        wrong = next(value for kind, value in _WRONG_KINDS if kind not in kinds)
        alternates[place.type_name] = refusal(wrong).rsplit("expected: ", 1)[-1]


def _kind(types: Types, type_name: str) -> str:
    meta: str = types.by_name[type_name]["meta-type"]
    if meta == "builtin":
        return {"int": "num", "number": "num"}.get(type_name, type_name)
    return "str" if meta == "enum" else meta


def _width(refusal: Callable[[int], str]) -> str:
    text = refusal(_NOT_32_BITS)
    if text.endswith("_t"):
        return text.rsplit(" ", 1)[-1].removesuffix("_t")
    return "uint64" if "unexpected" in refusal(_NOT_63_BITS) else "int64"


def probe_sizes(
    entries: list[Entry],
    integers: dict[str, dict[str, str]],
    roots: dict[str, str],
    complain: Callable[[str, str], str],
) -> list[str]:
    """Tell sizes ("64k") from plain 64-bit numbers: only the command line shows the difference.

    `roots` maps a command whose arguments an option takes to that option; `complain(option, text)`
    gives what the binary prints. Changes `integers` in place; returns the members that the command
    line could not reach.
    """
    types = Types(entries, as_text=True)
    unreached: list[str] = []
    done: set[tuple[str, str]] = set()
    for command, option in roots.items():
        if command not in types.by_name:
            continue
        for place in types.places(types.by_name[command]["arg-type"]):
            key = (place.owner, place.member)
            if key in done or integers.get(place.owner, {}).get(place.member) != "uint64":
                continue
            done.add(key)
            value = "1k" if place.type_name == "int" else ["1k"]
            text = keyval_text({**place.wrap(value), NO_SUCH_MEMBER: "0"})
            said = complain(option, text)
            if f"'{NO_SUCH_MEMBER}' is unexpected" in said:
                integers[place.owner][place.member] = "size"
            elif "expects integer" not in said:
                unreached.append(f"{option} {text}: {said.strip()}")
    return unreached


def keyval_text(tree: dict[str, Any]) -> str:
    """A tree of strings as KEY=VALUE,... text."""
    return ",".join(f"{key}={value.replace(',', ',,')}" for key, value in _leaves("", tree))


def _leaves(prefix: str, node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else key, inner)
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from _leaves(f"{prefix}.{index}", inner)
    else:
        yield prefix, node
