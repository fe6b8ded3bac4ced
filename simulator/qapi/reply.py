"""Is a reply or an event what the schema promises? Used to judge what a machine said."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.qapi.schema import Schema

_INT64_MIN, _UINT64_MAX = -(1 << 63), (1 << 64) - 1
_JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


def validate_reply(schema: Schema, command: str, value: Any) -> list[str]:
    """What is wrong with the `return` member of a command's reply; empty if nothing is.

    Each message starts with a JSON path: "$.return[0].device: expected string, got integer 3".
    """
    entry = schema.command(command)
    if entry is None:
        return [f"$: the schema has no command {command}"]
    return list(_Check(schema).value("$.return", entry["ret-type"], value))


def validate_event(schema: Schema, name: str, value: Any) -> list[str]:
    """What is wrong with the `data` member of an event ({} if it has none)."""
    entry = schema.event(name)
    if entry is None:
        return [f"$: the schema has no event {name}"]
    return list(_Check(schema).value("$.data", entry["arg-type"], value))


class _Check:
    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def value(self, path: str, type_name: str, value: Any) -> list[str]:
        entry = self.schema.by_name[type_name]
        found: list[str] = getattr(self, "_" + entry["meta-type"])(path, entry, value)
        return found

    def _builtin(self, path: str, entry: dict[str, Any], value: Any) -> list[str]:
        wanted = entry["json-type"]
        actual = _json_name(value)
        if wanted == "value" or wanted == actual or (wanted == "number" and actual == "integer"):
            return []
        if wanted == "int" and actual == "integer":
            in_range = _INT64_MIN <= value <= _UINT64_MAX
            return [] if in_range else [f"{path}: {value} does not fit 64 bits"]
        return [f"{path}: expected {'integer' if wanted == 'int' else wanted}, got {_shown(value)}"]

    def _enum(self, path: str, entry: dict[str, Any], value: Any) -> list[str]:
        if type(value) is str and value in entry["values"]:
            return []
        return [f"{path}: expected one of {', '.join(entry['values'])}, got {_shown(value)}"]

    def _array(self, path: str, entry: dict[str, Any], value: Any) -> list[str]:
        if type(value) is not list:
            return [f"{path}: expected array, got {_shown(value)}"]
        found: list[str] = []
        for index, item in enumerate(value):
            found += self.value(f"{path}[{index}]", entry["element-type"], item)
        return found

    def _alternate(self, path: str, entry: dict[str, Any], value: Any) -> list[str]:
        # JSON types tell the arms apart, so at most one is meant.
        arms = {self._json_type(arm["type"]): arm["type"] for arm in entry["members"]}
        kind = _json_name(value)
        if kind == "integer" and kind not in arms:
            kind = "number"
        if kind in arms:
            return self.value(path, arms[kind], value)
        return [f"{path}: expected one of {', '.join(arms)}, got {_shown(value)}"]

    def _json_type(self, type_name: str) -> str:
        entry = self.schema.by_name[type_name]
        if entry["meta-type"] == "builtin":
            return {"int": "integer"}.get(entry["json-type"], str(entry["json-type"]))
        return {"enum": "string"}.get(entry["meta-type"], str(entry["meta-type"]))

    def _object(self, path: str, entry: dict[str, Any], value: Any) -> list[str]:
        if type(value) is not dict:
            return [f"{path}: expected object, got {_shown(value)}"]
        known: dict[str, None] = {}
        found = self._members(path, entry, value, known)
        found += [f"{path}.{name}: not in the schema" for name in value if name not in known]
        return found

    def _members(
        self, path: str, entry: dict[str, Any], value: dict[str, Any], known: dict[str, None]
    ) -> list[str]:
        found: list[str] = []
        for member in entry["members"]:
            name = member["name"]
            known[name] = None
            if name in value:
                found += self.value(f"{path}.{name}", member["type"], value[name])
            elif "default" not in member:
                found.append(f"{path}.{name}: missing")
        for variant in entry.get("variants", ()):
            if variant["case"] == value.get(entry["tag"]):
                found += self._members(path, self.schema.by_name[variant["type"]], value, known)
        return found


def _json_name(value: Any) -> str:
    return _JSON_NAMES.get(type(value), "null")


def _shown(value: Any) -> str:
    name = _json_name(value)
    return name if name in ("object", "array", "null") else f"{name} {value!r}"
