"""QAPI introspection (the reply of query-qmp-schema) as objects, and the check of a command's arguments.

A Schema is cheap to make: nothing is looked at before it is asked for, and each command's arguments
are compiled when the command is first checked. Valid arguments are recognised by compiled
predicates (`predicate.py`); anything else is walked the way QEMU walks it (`visit.py`), which finds
QEMU's words for what is wrong.
"""

from __future__ import annotations

from simulator.qapi.errors import ArgumentError, Words
from simulator.qapi.integers import SIGNED_BITS, UNSIGNED_BITS
from simulator.qapi.predicate import Compiler
from simulator.qapi.visit import InputVisitor, KeyvalVisitor, OptionsVisitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Entry = dict[str, Any]


class UnknownCommand(KeyError):
    """The binary has no command of that name."""


class Schema:
    """All that one binary says about its commands and events.

    `entries` is what query-qmp-schema returned. Introspection hides two things that arguments are
    checked by, so they come beside it: `integers[TYPE][MEMBER]` is the width of an integer member
    that is not int64 ("uint8" .. "uint64", "int8" .. "int32", "size"), `alternates[TYPE]` the QAPI
    name of an alternate. `unchecked` are the commands whose arguments QEMU does not check against
    the schema ("'gen': false").
    """

    __slots__ = ("_checks", "_compiler", "alternates", "by_name", "entries", "integers", "unchecked", "words")

    def __init__(
        self,
        entries: list[Entry],
        integers: dict[str, dict[str, str]] | None = None,
        alternates: dict[str, str] | None = None,
        unchecked: Iterable[str] = (),
        words: Words | None = None,
    ) -> None:
        self.entries = entries
        self.by_name: dict[str, Entry] = {entry["name"]: entry for entry in entries}
        self.integers = integers or {}
        self.alternates = alternates or {}
        self.unchecked = frozenset(unchecked)
        self.words = words or Words()
        self._compiler = Compiler(self)
        self._checks: dict[str, Callable[[Any], bool]] = {}

    # -- what there is

    def command(self, name: str) -> Entry | None:
        """The entry of a command: 'arg-type', 'ret-type', perhaps 'allow-oob' and 'features'. None if
        unknown.
        """
        entry = self.by_name.get(name)
        return entry if entry is not None and entry["meta-type"] == "command" else None

    def event(self, name: str) -> Entry | None:
        """The entry of an event: 'arg-type', perhaps 'features'. None if unknown."""
        entry = self.by_name.get(name)
        return entry if entry is not None and entry["meta-type"] == "event" else None

    def command_names(self) -> list[str]:
        """In the binary's order, which is that of query-qmp-schema (query-commands has its own)."""
        return [entry["name"] for entry in self.entries if entry["meta-type"] == "command"]

    def event_names(self) -> list[str]:
        return [entry["name"] for entry in self.entries if entry["meta-type"] == "event"]

    def allows_oob(self, command: str) -> bool:
        entry = self.command(command)
        return bool(entry and entry.get("allow-oob"))

    def type_at(self, command: str, *path: str) -> str | None:
        """The type of a member of a command's arguments; None if there is none.

        A path step is a member's name, or "=CASE" for the members of one branch of a union; lists
        are stepped into silently, and so is the object of an alternate. type_at("blockdev-add",
        "=nbd", "server") is the type of an NBD client's server address.
        """
        entry = self.command(command)
        type_name = entry["arg-type"] if entry else None
        for step in path:
            if type_name is None:
                return None
            type_name = self._step(type_name, step)
        return type_name

    def _step(self, type_name: str, step: str) -> str | None:
        entry = self._object_of(type_name)
        if entry is None:
            return None
        if step[0] == "=":
            cases = entry.get("variants", ())
            return next((case["type"] for case in cases if case["case"] == step[1:]), None)
        return next((member["type"] for member in entry["members"] if member["name"] == step), None)

    def _object_of(self, type_name: str) -> Entry | None:
        entry = self.by_name[type_name]
        if entry["meta-type"] == "array":
            return self._object_of(entry["element-type"])
        if entry["meta-type"] == "alternate":
            arms = (self._object_of(arm["type"]) for arm in entry["members"])
            return next((arm for arm in arms if arm is not None), None)
        return entry if entry["meta-type"] == "object" else None

    def enum_values(self, type_name: str) -> list[str]:
        """All values of an enum type, in order; empty if it is none."""
        entry = self.by_name[type_name]
        return list(entry["values"]) if entry["meta-type"] == "enum" else []

    # -- arguments

    def check(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the command sees them: the same object if there was nothing to convert.

        The one conversion that JSON input knows is that of a negative number for an unsigned 64-bit
        integer, to 2**64 minus it. Raises ArgumentError with the words QEMU uses, UnknownCommand if
        there is no such command.
        """
        check = self._checks.get(command)
        if check is None:
            check = self._compile(command)
        try:
            if check(arguments):
                return arguments
        except TypeError:  # an object or a list where an enum's value belongs: not hashable, so not a value
            pass
        visited: dict[str, Any] = InputVisitor(self, arguments).visit_root(self.by_name[command]["arg-type"])
        return visited

    def _compile(self, command: str) -> Callable[[Any], bool]:
        entry = self.command(command)
        if entry is None:
            raise UnknownCommand(command)
        check = self._compiler.anything if command in self.unchecked else self._compiler.of(entry["arg-type"])
        self._checks[command] = check
        return check

    def check_type(self, type_name: str, value: dict[str, Any]) -> dict[str, Any]:
        """As `check`, for a value of an object type, such as the JSON form of a -blockdev option."""
        visited: dict[str, Any] = InputVisitor(self, value).visit_root(type_name)
        return visited

    def convert_keyval(self, type_name: str, value: dict[str, Any]) -> dict[str, Any]:
        """A tree of strings, as `keyval.parse` makes it, with every string turned into what the type says.

        Raises ArgumentError in the words of QEMU's keyval visitor (qapi/qobject-input-visitor.c:713, 7.2).
        """
        visited: dict[str, Any] = KeyvalVisitor(self, value).visit_root(type_name)
        return visited

    def convert_options(self, type_name: str, value: dict[str, str]) -> dict[str, Any]:
        """As `convert_keyval`, for the settings of an option that `qemu_opts.parse` has read. Raises
        ArgumentError."""
        visited: dict[str, Any] = OptionsVisitor(self, value).visit_root(type_name)
        return visited

    def with_struct(self, name: str, members: Iterable[tuple[str, str, bool]]) -> Schema:
        """This schema with one more object type, for options that introspection does not describe.

        `members` are (name, type, optional); an integer's type may be its width, such as "uint32" or
        "size". Command-line options have such types, NbdServerOptions for one.
        """
        listed: list[Entry] = []
        widths: dict[str, str] = {}
        for member, type_name, optional in members:
            is_width = type_name in SIGNED_BITS or type_name in UNSIGNED_BITS
            if is_width:
                widths[member] = type_name
            listed.append({"name": member, "type": "int" if is_width else type_name})
            if optional:
                listed[-1]["default"] = None
        entry = {"name": name, "meta-type": "object", "members": listed}
        integers = {**self.integers, name: widths}
        return Schema([*self.entries, entry], integers, self.alternates, self.unchecked, self.words)


__all__ = ["ArgumentError", "Schema", "UnknownCommand", "Words"]
