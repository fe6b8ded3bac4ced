"""The walk that QEMU's input visitor makes over arguments: same order, same words
(qapi/qobject-input-visitor.c, 7.2).

Members are visited in the schema's order, then those of the union's branch, then the leftovers are named.
The first thing that is wrong ends the walk.
"""

from __future__ import annotations

from simulator.qapi.errors import ArgumentError
from simulator.qapi.integers import (
    INT64_MAX,
    INT64_MIN,
    SIGNED_BITS,
    UINT64_MAX,
    NumberError,
    bounds,
    to_int64,
    to_size,
    to_uint64,
)
from simulator.qapi.leftover import first_leftover
from simulator.qapi.truth import FALSE, TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from simulator.qapi.schema import Schema

_KINDS = {
    str: "str",
    bool: "bool",
    int: "num",
    float: "num",
    dict: "object",
    list: "array",
    type(None): "null",
}
_SCALAR_KINDS = {"int": "num", "number": "num"}


class _Frame:
    """One object or list being visited; `name` is its own in the one above, None for a list's element."""

    __slots__ = ("consumed", "container", "index", "name")

    def __init__(self, name: str | None, container: dict[str, Any] | list[Any]) -> None:
        self.name = name
        self.container = container
        self.consumed: list[str] = []
        self.index = -1


class InputVisitor:
    """Walks one value made from JSON. `visit_root` may be called once."""

    index_form = "[{}]"

    def __init__(self, schema: Schema, root: dict[str, Any]) -> None:
        self.schema = schema
        self.words = schema.words
        self.root = root
        self.frames: list[_Frame] = []

    def visit_root(self, type_name: str) -> dict[str, Any]:
        """The root as the type takes it, numbers converted. Raises ArgumentError."""
        return self._object(None, self.schema.by_name[type_name], self.root)

    # -- names in messages

    def full_name(self, name: str | None) -> str:
        """The path of something inside the innermost container, "a.b[0].c", as messages give it."""
        text = ""
        for frame in reversed(self.frames):
            if isinstance(frame.container, dict):
                text = "." + (name if name is not None else "<anonymous>") + text
            else:
                text = self.index_form.format(frame.index) + text
            name = frame.name
        if name is not None:
            return name + text
        return text.removeprefix(".") or "<anonymous>"

    def refuse(self, template: str, **values: str) -> NoReturn:
        raise ArgumentError(template.format(**values))

    def _wrong_type(self, name: str | None, wanted: str) -> NoReturn:
        self.refuse(self.words.wrong_type, name=self.full_name(name), wanted=wanted)

    # -- walking

    def _value(self, name: str | None, type_name: str, value: Any, width: str = "int64") -> Any:
        entry = self.schema.by_name[type_name]
        meta = entry["meta-type"]
        if meta == "builtin":
            return getattr(self, "_" + type_name)(name, value, width)
        if meta == "array":
            return self._list(name, entry["element-type"], value, width)
        return getattr(self, "_" + meta)(name, entry, value)

    def _object(self, name: str | None, entry: dict[str, Any], value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            self._wrong_type(name, "object")
        frame = _Frame(name, value)
        self.frames.append(frame)
        visited: dict[str, Any] = {}
        self._members(entry, frame, visited)
        leftover = first_leftover(value, frame.consumed)
        if leftover is not None:
            self.refuse(self.words.unexpected, name=self.full_name(leftover))
        self.frames.pop()
        return visited

    def _members(self, entry: dict[str, Any], frame: _Frame, visited: dict[str, Any]) -> None:
        value = frame.container
        assert isinstance(value, dict)
        widths = self.schema.integers.get(entry["name"], {})
        for member in entry["members"]:
            name = member["name"]
            if name not in value:
                if "default" in member:
                    continue
                self.refuse(self.words.missing, name=self.full_name(name))
            frame.consumed.append(name)
            visited[name] = self._value(name, member["type"], value[name], widths.get(name, "int64"))
        if "variants" in entry:
            case = visited[entry["tag"]]
            for variant in entry["variants"]:
                if variant["case"] == case:
                    self._members(self.schema.by_name[variant["type"]], frame, visited)

    def _list(self, name: str | None, element: str, value: Any, width: str) -> list[Any]:
        if type(value) is not list:
            self._wrong_type(name, "array")
        frame = _Frame(name, value)
        self.frames.append(frame)
        visited = []
        for item in value:
            frame.index += 1
            visited.append(self._value(None, element, item, width))
        self.frames.pop()
        return visited

    def _enum(self, name: str | None, entry: dict[str, Any], value: Any) -> str:
        text = self._str(name, value)
        if text not in entry["values"]:
            self.refuse(self.words.bad_enum_value, name=name or "null", value=text)
        return text

    def _alternate(self, name: str | None, entry: dict[str, Any], value: Any) -> Any:
        kind = _KINDS[type(value)]
        for arm in entry["members"]:
            if self._arm_kind(arm["type"]) == kind:
                return self._value(name, arm["type"], value)
        wanted = self.schema.alternates.get(entry["name"], entry["name"])
        self.refuse(self.words.wrong_type, name=name or "null", wanted=wanted)

    def _arm_kind(self, type_name: str) -> str:
        meta: str = self.schema.by_name[type_name]["meta-type"]
        if meta == "builtin":
            return _SCALAR_KINDS.get(type_name, type_name)
        return "str" if meta == "enum" else meta

    # -- scalars

    def _str(self, name: str | None, value: Any, width: str = "") -> str:
        if type(value) is not str:
            self._wrong_type(name, "string")
        return value

    def _bool(self, name: str | None, value: Any, width: str = "") -> bool:
        if type(value) is not bool:
            self._wrong_type(name, "boolean")
        return value

    def _null(self, name: str | None, value: Any, width: str = "") -> None:
        if value is not None:
            self._wrong_type(name, "null")

    def _any(self, name: str | None, value: Any, width: str = "") -> Any:
        return value

    def _number(self, name: str | None, value: Any, width: str = "") -> float | int:
        if type(value) is not int and type(value) is not float:
            self._wrong_type(name, "number")
        return value

    def _int(self, name: str | None, value: Any, width: str) -> int:
        signed = width in SIGNED_BITS
        number = self._signed(name, value) if signed else self._unsigned(name, value, width)
        low, high = bounds(width)
        if not low <= number <= high:
            self.refuse(self.words.expects, name=name or "null", wanted=width + "_t")
        return number

    def _signed(self, name: str | None, value: Any) -> int:
        if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
            self._wrong_type(name, "integer")
        return value

    def _unsigned(self, name: str | None, value: Any, width: str) -> int:
        # Integers beyond 64 bits are doubles to QEMU's JSON parser. Negative ones wrap around, see
        # qobject_input_type_uint64.
        if type(value) is not int or not INT64_MIN <= value <= UINT64_MAX:
            self.refuse(self.words.expects, name=self.full_name(name), wanted="uint64")
        return value & UINT64_MAX


class KeyvalVisitor(InputVisitor):
    """Walks a tree of strings made by `keyval.parse`, and turns the strings into what the types say."""

    index_form = ".{}"

    def _text(self, name: str | None, value: Any) -> str:
        if type(value) is not str:
            self.refuse(self.words.scattered, name=self.full_name(name))
        return value

    def _str(self, name: str | None, value: Any, width: str = "") -> str:
        return self._text(name, value)

    def _bool(self, name: str | None, value: Any, width: str = "") -> bool:
        text = self._text(name, value)
        if text not in TRUE and text not in FALSE:
            self.refuse(self.words.expects, name=self.full_name(name), wanted="'on' or 'off'")
        return text in TRUE

    def _number(self, name: str | None, value: Any, width: str = "") -> float:
        text = self._text(name, value)
        try:
            number = float(text)
        except ValueError:
            self._wrong_type(name, "number")
        # Python reads more than strtod does: underscores, and spaces behind the number.
        if number - number != 0 or "_" in text or text != text.rstrip():
            self._wrong_type(name, "number")
        return number

    def _signed(self, name: str | None, value: Any) -> int:
        try:
            return to_int64(self._text(name, value))
        except NumberError:
            self.refuse(self.words.expects, name=self.full_name(name), wanted="integer")

    def _unsigned(self, name: str | None, value: Any, width: str) -> int:
        text = self._text(name, value)
        try:
            return to_size(text) if width == "size" else to_uint64(text)
        except NumberError:
            wanted = "size" if width == "size" else "integer"
            self.refuse(self.words.expects, name=self.full_name(name), wanted=wanted)


class OptionsVisitor(KeyvalVisitor):
    """Walks the settings of an option of the older sort, which have no tree (qapi/opts-visitor.c, 7.2)."""

    def _signed(self, name: str | None, value: Any) -> int:
        try:
            return to_int64(self._text(name, value))
        except NumberError:
            self.refuse(self.words.expects, name=self.full_name(name), wanted="an int64 value")

    def _unsigned(self, name: str | None, value: Any, width: str) -> int:
        text = self._text(name, value)
        # JSON does not tell sizes from other numbers, and so recordings do not for what is made by -object.
        is_size = width == "size" or name == "size"
        try:
            return to_size(text) if is_size else to_uint64(text)
        except NumberError:
            wanted = "a size value" if is_size else "a uint64 value"
            self.refuse(self.words.expects, name=self.full_name(name), wanted=wanted)
