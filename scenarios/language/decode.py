"""A YAML tree to the language's types: keys and values checked against steps.py, all problems collected."""

from __future__ import annotations

from typing import Any

import yaml
from msgspec import inspect

from scenarios.language import scalars, steps
from scenarios.language.problems import NESTING, Place, Problems, nearest
from scenarios.language.tree import is_quoted, line_of, strange_tag

SIZE_FIELDS = frozenset(("at", "length", "size", "cluster", "target_cluster", "chunk", "rate", "room"))
DURATION_FIELDS = frozenset(("hesitate", "ns", "stop", "within", "sleep", "delay", "reconnect"))
BYTE_FIELDS = frozenset(("pattern",))

# Members that a program fills in and a file may not.
UNWRITABLE = {steps.Step: frozenset(("line",)), steps.Scenario: frozenset(("path",))}

# A scalar in the place of one of these is its one member: `end: monday` is `end: {id: monday}`.
SHORT_MEMBER: dict[type, str] = {steps.End: "id", steps.Sleep: "ns", steps.Hmp: "line", steps.Event: "name"}
# Nothing in the place of one of these takes all its defaults: `crash:`.
MAY_BE_EMPTY = frozenset((steps.Crash, steps.Destination, steps.Quit))
VERB_ALIASES = {"advance": "sleep"}

BROKEN: Any = object()


class Decoder:
    """Decodes one file.

    `broken` keeps, for a step that could not be decoded, its verb and those of its members that could.
    """

    def __init__(self, problems: Problems, keep_lines: bool) -> None:
        self.problems = problems
        self.keep_lines = keep_lines
        self.broken: dict[Place, tuple[str, dict[str, Any]]] = {}
        self.disk_names: list[str] = []
        self.good_disks: dict[str, steps.Disk] = {}

    def members(self, root: yaml.Node) -> Any:
        """Members of the Scenario by name, BROKEN for each that has a problem; BROKEN if it is no mapping.

        A broken step stands in `steps` as one without a verb, so that those around it can still be checked.
        """
        if isinstance(root, yaml.MappingNode):
            for key, value in root.value:
                if key.value == "disks" and isinstance(value, yaml.MappingNode):
                    self.disk_names = [str(name.value) for name, _ in value.value]
        return self._members(_SCENARIO, root, ())

    # ------------------------------------------------------------ by type

    def _value(self, type_: inspect.Type, node: yaml.Node, place: Place) -> Any:
        if tag := strange_tag(node):
            return self._refuse(place, node, f"the tag {tag} is not allowed in a scenario")
        if isinstance(type_, inspect.UnionType):
            return self._union(type_, node, place)
        if isinstance(type_, inspect.StructType):
            decode = self._step if type_.cls is steps.Step else self._struct
            return decode(type_, node, place)
        if isinstance(type_, inspect.ListType):
            return self._list(type_, node, place)
        if isinstance(type_, inspect.DictType):
            return self._dict(type_, node, place)
        if isinstance(type_, inspect.AnyType):
            return self._any(node, place)
        return self._scalar(type_, node, place)

    def _union(self, type_: inspect.UnionType, node: yaml.Node, place: Place) -> Any:
        choices = [choice for choice in type_.types if not isinstance(choice, inspect.NoneType)]
        may_be_empty = isinstance(choices[0], inspect.StructType) and choices[0].cls in MAY_BE_EMPTY
        if len(choices) < len(type_.types) and is_null(node) and not may_be_empty and not _is_verb(place):
            return None
        if len(choices) > 1:
            is_list = isinstance(node, yaml.SequenceNode)
            choices.sort(key=lambda choice: isinstance(choice, inspect.ListType) != is_list)
        return self._value(choices[0], node, place)

    def _list(self, type_: inspect.ListType, node: yaml.Node, place: Place) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self._refuse(place, node, f"expected a list, got {got(node)}")
        items = []
        for index, child in enumerate(node.value):
            self.problems.lines[(*place, index)] = line_of(child)
            items.append(self._value(type_.item_type, child, (*place, index)))
        return BROKEN if any(item is BROKEN for item in items) else items

    def _dict(self, type_: inspect.DictType, node: yaml.Node, place: Place) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self._refuse(place, node, f"expected a mapping, got {got(node)}")
        members = {}
        for key, child in self._pairs(node, place):
            value = self._value(type_.value_type, child, (*place, key))
            if place[-1:] == ("info",) and isinstance(value, str) and not is_quoted(child):
                size = scalars.size(value)
                value = value if size is None else size
            members[key] = value
        if place == ("disks",):
            self.good_disks = {name: value for name, value in members.items() if value is not BROKEN}
        return BROKEN if any(value is BROKEN for value in members.values()) else members

    def _any(self, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {key: self._value(_ANY, child, (*place, key)) for key, child in self._pairs(node, place)}
        if isinstance(node, yaml.SequenceNode):
            return [self._value(_ANY, child, (*place, index)) for index, child in enumerate(node.value)]
        return node.value if is_quoted(node) else scalars.plain(node.value)

    # ------------------------------------------------------------ structs

    def _struct(self, type_: inspect.StructType, node: yaml.Node, place: Place) -> Any:
        members = self._members(type_, node, place)
        if members is BROKEN or any(value is BROKEN for value in members.values()):
            if _is_verb(place) and members is not BROKEN:
                kept = {name: value for name, value in members.items() if value is not BROKEN}
                self.broken[place[:-1]] = (str(place[-1]), kept)
            return BROKEN
        return type_.cls(**members)

    def _members(self, type_: inspect.StructType, node: yaml.Node, place: Place) -> Any:
        """Python member names to values, BROKEN for each that has a problem."""
        fields = {field.encode_name: field for field in type_.fields}
        for name in UNWRITABLE.get(type_.cls, ()):
            del fields[name]
        short = SHORT_MEMBER.get(type_.cls)
        if isinstance(node, yaml.ScalarNode):
            if type_.cls in MAY_BE_EMPTY and is_null(node):
                return {}
            if short:
                return {short: self._value(fields[short].type, node, place)}
        if not isinstance(node, yaml.MappingNode):
            return self._refuse(place, node, f"expected a mapping with {', '.join(fields)}, got {got(node)}")
        members: dict[str, Any] = {}
        for key, child in self._pairs(node, place):
            if key in fields:
                members[fields[key].name] = self._value(fields[key].type, child, (*place, key))
            else:
                self.problems.add((*place, key), f"unknown key, {nearest(key, fields)}")
                members["(unknown)"] = BROKEN
        self._fill_in_disks(type_.cls, members)
        for field in fields.values():
            if field.required and field.name not in members:
                self.problems.add(place, f'"{field.encode_name}" is missing', line_of(node))
                members[field.name] = BROKEN
        return members

    def _fill_in_disks(self, struct: type, members: dict[str, Any]) -> None:
        if struct is steps.Guest and "disk" not in members and len(self.disk_names) == 1:
            members["disk"] = self.disk_names[0]
        if struct is steps.Fleece and "disks" not in members and self.disk_names:
            members["disks"] = list(self.disk_names)

    def _step(self, type_: inspect.StructType, node: yaml.Node, place: Place) -> Any:
        """A Step; one without a verb if it is broken."""
        line = line_of(node)
        placeholder = steps.Step(line=line)
        if not isinstance(node, yaml.MappingNode):
            self.problems.add(
                place, f"expected a verb such as guest or fleece with its members, got {got(node)}"
            )
            return placeholder
        members: dict[str, Any] = {}
        pairs = self._pairs(node, place)
        if len(pairs) != 1:
            verbs = " and ".join(key for key, _ in pairs)
            self.problems.add(place, f"expected exactly one verb, got {verbs or 'none'}", line)
            return placeholder
        for key, child in pairs:
            verb = VERB_ALIASES.get(key, key)
            if verb not in steps.VERBS:
                known = (*steps.VERBS, *VERB_ALIASES)
                self.problems.add(place, f'unknown verb "{key}", {nearest(key, known)}', line)
                return placeholder
            self.problems.verbs[place] = verb
            self.problems.lines[(*place, verb)] = line_of(child)
            field = next(field for field in type_.fields if field.name == verb)
            members[verb] = self._value(field.type, child, (*place, verb))
        if any(value is BROKEN for value in members.values()):
            return placeholder
        return steps.Step(line=line if self.keep_lines else 0, **members)

    def _pairs(self, node: yaml.MappingNode, place: Place) -> list[tuple[str, yaml.Node]]:
        """Keys and values, each key once; notes the lines of the keys."""
        pairs: dict[str, yaml.Node] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.add(
                    place, f"expected a word as the key, got {got(key_node)}", line_of(key_node)
                )
                continue
            key = str(key_node.value)
            if key in pairs:
                self.problems.add(
                    (*place, key),
                    f'the key "{key}" stands here twice (first in line {self.problems.lines[(*place, key)]})',
                    line_of(key_node),
                )
                continue
            self.problems.lines[(*place, key)] = line_of(key_node)
            pairs[key] = child
        return list(pairs.items())

    # ------------------------------------------------------------ scalars

    def _scalar(self, type_: inspect.Type, node: yaml.Node, place: Place) -> Any:
        if isinstance(type_, inspect.IntType):
            return self._integer(node, place)
        is_plain = isinstance(node, yaml.ScalarNode) and not is_quoted(node)
        value = scalars.plain(node.value) if is_plain else node.value
        if isinstance(type_, inspect.BoolType):
            if isinstance(value, bool):
                return value
            return self._refuse(place, node, f"expected true or false, got {got(node)}")
        if not isinstance(node, yaml.ScalarNode):
            return self._refuse(place, node, f"expected text, got {got(node)}")
        if isinstance(type_, inspect.LiteralType):
            if value in type_.values:
                return value
            return self._refuse(place, node, _expected_one_of(type_, node))
        if isinstance(value, str):
            return value
        hint = "" if value is None else f'; write "{node.value}" for the text'
        return self._refuse(place, node, f"expected text, got {got(node)}{hint}")

    def _integer(self, node: yaml.Node, place: Place) -> Any:
        name = next((part for part in reversed(place) if isinstance(part, str)), "")
        text = node.value if isinstance(node, yaml.ScalarNode) and not is_quoted(node) else ""
        if name in SIZE_FIELDS:
            value, expected = scalars.size(text), "a size such as 64k"
        elif name in DURATION_FIELDS:
            value, expected = scalars.duration(text), "a duration such as 100ms"
        elif name in BYTE_FIELDS:
            value, expected = scalars.integer(text), "a byte from 0 to 0xff"
            value = value if value is not None and 0 <= value <= 0xFF else None
        else:
            value, expected = scalars.integer(text), "a whole number"
        if value is None:
            return self._refuse(place, node, f"expected {expected}, got {got(node)}")
        return value

    def _refuse(self, place: Place, node: yaml.Node, message: str) -> Any:
        self.problems.add(place, message, line_of(node))
        return BROKEN


def is_null(node: yaml.Node) -> bool:
    """Nothing, ~ or null, unquoted."""
    return isinstance(node, yaml.ScalarNode) and not is_quoted(node) and scalars.plain(node.value) is None


def got(node: yaml.Node) -> str:
    """What stands there, in words, for an error message; long text is cut."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text = node.value if len(node.value) <= 60 else node.value[:57] + "..."
    value = text if is_quoted(node) else scalars.plain(text)
    if value is None:
        return "nothing"
    return f'"{text}"' if isinstance(value, str) else text


def _expected_one_of(type_: inspect.LiteralType, node: yaml.Node) -> str:
    names = [str(value) for value in type_.values]
    suggestion = nearest(str(node.value), names)
    hint = f"; {suggestion}" if suggestion.startswith("did") else ""
    return f"expected one of {', '.join(names)}, got {got(node)}{hint}"


def _is_verb(place: Place) -> bool:
    """Whether the place is a step's verb: ("steps", 3, "guest"), ("steps", 5, "together", 0, "copy")."""
    return len(place) >= 3 and isinstance(place[-2], int) and _is_step(place[:-1])


def _is_step(place: Place) -> bool:
    return bool(place) and all(isinstance(part, int) or part in NESTING for part in place)


_SCENARIO: Any = inspect.type_info(steps.Scenario)
_ANY = inspect.type_info(Any)
