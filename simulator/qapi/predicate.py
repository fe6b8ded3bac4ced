"""Compiled yes-or-no checks: is a value exactly what a QAPI type takes, with nothing to convert?

They only ever answer for the common case. False (or a TypeError for a value that cannot be hashed)
means "look closer", not "wrong".
"""

from __future__ import annotations

from simulator.qapi.integers import bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.qapi.schema import Schema

    Check = Callable[[Any], bool]


class Compiler:
    """Makes predicates of one schema's types, each at most once, union branches when first met."""

    __slots__ = ("_made", "_schema", "anything")

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.anything: Check = lambda value: True
        self._made: dict[str, Check] = {
            "str": lambda value: type(value) is str,
            "bool": lambda value: type(value) is bool,
            "null": lambda value: value is None,
            "number": lambda value: type(value) is float or type(value) is int,
            "int": _integer("int64"),
            "any": self.anything,
        }

    def of(self, type_name: str) -> Check:
        made = self._made.get(type_name)
        if made is None:
            entry = self._schema.by_name[type_name]
            made = getattr(self, "_" + entry["meta-type"])(entry)
            self._made[type_name] = made
        return made

    def _member(self, owner: str, member: dict[str, Any]) -> Check:
        width = self._schema.integers.get(owner, {}).get(member["name"])
        if width is None:
            return self.of(member["type"])
        return _list_of(_integer(width)) if member["type"] == "[int]" else _integer(width)

    def _enum(self, entry: dict[str, Any]) -> Check:
        return frozenset(entry["values"]).__contains__

    def _array(self, entry: dict[str, Any]) -> Check:
        return _list_of(self.of(entry["element-type"]))

    def _alternate(self, entry: dict[str, Any]) -> Check:
        arms: list[Check] = []
        # A type may contain itself by way of an alternate: block devices do.
        self._made[entry["name"]] = lambda value: any(arm(value) for arm in arms)
        arms.extend(self.of(arm["type"]) for arm in entry["members"])
        if len(arms) == 2:
            first, second = arms
            return lambda value: first(value) or second(value)
        return self._made[entry["name"]]

    def _object(self, entry: dict[str, Any]) -> Check:
        if "variants" in entry:
            return self._union(entry)
        checks: dict[str, Check] = {}
        mandatory = _mandatory(entry)
        check = _fields(checks, mandatory)
        self._made[entry["name"]] = check
        checks.update((member["name"], self._member(entry["name"], member)) for member in entry["members"])
        return check

    def _union(self, entry: dict[str, Any]) -> Check:
        tag = entry["tag"]
        cases = self._tag_values(entry)
        branches: dict[str, Check] = {}

        def check(value: Any) -> bool:
            if type(value) is not dict or tag not in value:
                return False
            case = value[tag]
            branch = branches.get(case)
            if branch is None:
                if case not in cases:
                    return False
                branch = branches[case] = self._branch(entry, case)
            return branch(value)

        return check

    def _tag_values(self, union: dict[str, Any]) -> frozenset[str]:
        tag_type = next(member["type"] for member in union["members"] if member["name"] == union["tag"])
        return frozenset(self._schema.by_name[tag_type]["values"])

    def _branch(self, union: dict[str, Any], case: str) -> Check:
        """Members of the union itself and of the branch, as one flat object."""
        owners = [union]
        for variant in union["variants"]:
            if variant["case"] == case:
                owners.append(self._schema.by_name[variant["type"]])
        if any("variants" in owner for owner in owners[1:]):
            return lambda value: False
        checks: dict[str, Check] = {}
        mandatory: tuple[str, ...] = ()
        for owner in owners:
            mandatory += _mandatory(owner)
            checks.update(
                (member["name"], self._member(owner["name"], member)) for member in owner["members"]
            )
        return _fields(checks, mandatory)


def _mandatory(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(member["name"] for member in entry["members"] if "default" not in member)


def _fields(checks: dict[str, Check], mandatory: tuple[str, ...]) -> Check:
    find = checks.get

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for name, held in value.items():
            accepts = find(name)
            if accepts is None or not accepts(held):
                return False
        for name in mandatory:  # noqa: SIM110 (a generator costs more than the whole check)
            if name not in value:
                return False
        return True

    return check


def _list_of(element: Check) -> Check:
    return lambda value: type(value) is list and all(map(element, value))


def _integer(width: str) -> Check:
    low, high = bounds(width)
    return lambda value: type(value) is int and low <= value <= high
