"""Properties of objects where no schema tells what a type takes, but the type itself does: their names, and
their values as the visitor at hand reads them (user_creatable_add_type, qom/object_interfaces.c:36, 5.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.throttle_groups import LIMITS
from simulator.qapi.errors import ArgumentError, Words
from simulator.qapi.integers import SIGNED_BITS, UNSIGNED_BITS, NumberError, to_int64, to_size, to_uint64
from simulator.qapi.truth import FALSE, TRUE
from simulator.wire.qdict import in_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.machine import Machine

    # (name, "int", "uint", "size" or "bool", what was given) -> the value. Raises ArgumentError.
    Reader = Callable[[str, str, Any], Any]

_ENUMS = {
    "QCryptoTLSCredsEndpoint": ("client", "server"),
    "QCryptoSecretFormat": ("raw", "base64"),
    "QAuthZListPolicy": ("deny", "allow"),
    "HostMemPolicy": ("default", "preferred", "bind", "interleave"),
}
_WORDS = Words()


def from_json(name: str, kind: str, given: Any) -> Any:
    """As QMP gives it."""
    wanted = {"bool": bool, "int": int, "uint": int, "size": int}[kind]
    if type(given) is not wanted:
        text = "boolean" if kind == "bool" else "integer"
        raise ArgumentError(_WORDS.wrong_type.format(name=name, wanted=text))
    return given


def from_keyval(name: str, kind: str, given: Any) -> Any:
    """As the storage daemon's --object has it: a text for each, in a tree."""
    if not isinstance(given, str):
        text = "boolean" if kind == "bool" else "integer"
        raise ArgumentError(_WORDS.wrong_type.format(name=name, wanted=text))
    return _read(name, kind, given, {"int": "integer", "uint": "integer", "size": "a size value"})


def from_options(name: str, kind: str, given: Any) -> Any:
    """As the system emulator's -object has it: a text for each, without a tree."""
    wanted = {"int": "an int64 value", "uint": "a uint64 value", "size": "a size value"}
    return _read(name, kind, given, wanted)


def _read(name: str, kind: str, text: str, wanted: dict[str, str]) -> Any:
    if kind == "bool":
        if text in TRUE or text in FALSE:
            return text in TRUE
        raise ArgumentError(_WORDS.expects.format(name=name, wanted="'on' or 'off'"))
    try:
        return {"int": to_int64, "uint": to_uint64, "size": to_size}[kind](text)
    except NumberError:
        raise ArgumentError(_WORDS.expects.format(name=name, wanted=wanted[kind])) from None


def read(machine: Machine, arguments: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """The arguments of object-add with their values read, those in `props` among them. Raises QmpError or
    ArgumentError."""
    if "props" in arguments:
        if not isinstance(arguments["props"], dict):
            raise QmpError("Invalid parameter type for 'props', expected: dict")
        rest = {name: value for name, value in arguments.items() if name != "props"}
        arguments = {**rest, **arguments["props"]}
    for member in ("qom-type", "id"):
        if not isinstance(arguments.get(member), str):
            raise QmpError(f"Parameter '{member}' is missing")
    type_name = arguments["qom-type"]
    known = machine.version.recorded(machine.binary, "objects")["object"].get(type_name, {}).get("return")
    if known is None:
        raise QmpError(f"invalid object type: {type_name}")
    if type_name not in machine.version.recorded(machine.binary, "interfaces").get("user-creatable", []):
        raise QmpError(f"object type '{type_name}' isn't supported by object-add")
    types = {entry["name"]: entry["type"] for entry in known}
    values = {}
    for name in in_order(arguments):
        value = arguments[name]
        if name in ("qom-type", "id"):
            values[name] = value
        elif name in types:
            values[name] = _value(name, types[name], value, reader)
        else:
            raise QmpError(f"Property '{type_name}.{name}' not found")
    return values


def _value(name: str, kind: str, given: Any, reader: Reader) -> Any:
    if kind == "bool":
        return reader(name, kind, given)
    if name in ("size", "align"):  # of memory, which calls their type "int"
        return reader(name, "size", given)
    if kind == "int" or kind in SIGNED_BITS:
        return reader(name, "int", given)
    if kind in UNSIGNED_BITS:
        return reader(name, "size" if kind == "size" else "uint", given)
    if kind == "ThrottleLimits":
        return limits(name, given, reader)
    if kind == "QAuthZListRule":
        if not isinstance(given, list):
            if reader is from_options:
                raise QmpError(f"Invalid parameter '{given}'")
            raise ArgumentError(_WORDS.wrong_type.format(name=name, wanted="array"))
        return given
    if kind in ("string", "str") or kind in _ENUMS:
        if not isinstance(given, str):
            raise ArgumentError(_WORDS.wrong_type.format(name=name, wanted="string"))
        if kind in _ENUMS and given not in _ENUMS[kind]:
            raise ArgumentError(_WORDS.bad_enum_value.format(name=name, value=given))
    return given


def limits(name: str, given: Any, reader: Reader) -> dict[str, Any]:
    """Those of a throttle group, as one property. Raises QmpError or ArgumentError."""
    if not isinstance(given, dict):
        if reader is from_options:
            raise QmpError(f"Invalid parameter '{name}'")
        raise ArgumentError(_WORDS.wrong_type.format(name=name, wanted="object"))
    for member in given:
        if member not in LIMITS:
            raise QmpError(f"Parameter '{name}.{member}' is unexpected")
    return {member: reader(f"{name}.{member}", "int", value) for member, value in given.items()}
