"""object-add where no schema tells what a type takes: its properties do (user_creatable_add_type and
qmp_object_add, qom/object_interfaces.c and qom/qom-qmp-cmds.c, 5.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.block.throttle_groups import LIMITS
from simulator.qapi.integers import NumberError, to_int64, to_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_ENUMS = {
    "HostMemPolicy": ("default", "preferred", "bind", "interleave"),
    "QAuthZListPolicy": ("deny", "allow"),
    "QCryptoSecretFormat": ("raw", "base64"),
    "QCryptoTLSCredsEndpoint": ("client", "server"),
}
_SIZES = ("size", "align")
_TRUE, _FALSE = ("on", "yes", "true", "y"), ("off", "no", "false", "n")


def checked(machine: Machine, arguments: Arguments) -> Arguments:
    """The arguments, with those in `props` among them. Raises QmpError."""
    given = {name: value for name, value in arguments.items() if name != "props"}
    if "props" in arguments:
        if not isinstance(arguments["props"], dict):
            raise QmpError("Invalid parameter type for 'props', expected: dict")
        given.update(arguments["props"])
    types = _types(machine, given)
    for name, value in given.items():
        if name in ("qom-type", "id"):
            continue
        if name not in types:
            raise QmpError(f"Property '{given['qom-type']}.{name}' not found")
        _check(name, types[name], value)
    check_limits(given.get("limits", {}))
    return given


def _types(machine: Machine, given: Arguments) -> dict[str, str]:
    """name -> QOM's type of the properties. Raises QmpError."""
    for member in ("qom-type", "id"):
        if not isinstance(given.get(member), str):
            raise QmpError(f"Parameter '{member}' is missing")
    type_name = given["qom-type"]
    known = machine.version.recorded(machine.binary, "objects")["object"].get(type_name, {}).get("return")
    if known is None:
        raise QmpError(f"invalid object type: {type_name}")
    if type_name not in machine.version.recorded(machine.binary, "interfaces").get("user-creatable", []):
        raise QmpError(f"object type '{type_name}' isn't supported by object-add")
    return {entry["name"]: entry["type"] for entry in known}


def _check(name: str, kind: str, value: Any) -> None:
    if kind in _ENUMS:
        if not isinstance(value, str):
            raise QmpError(f"Invalid parameter type for '{name}', expected: string")
        if value not in _ENUMS[kind]:
            raise QmpError(f"Invalid parameter '{value}'")
    elif kind == "bool" and not isinstance(value, bool):
        raise QmpError(f"Invalid parameter type for '{name}', expected: boolean")
    elif kind == "string" and not isinstance(value, str):
        raise QmpError(f"Invalid parameter type for '{name}', expected: string")
    elif kind == "int" and (isinstance(value, bool) or not isinstance(value, int)):
        raise QmpError(f"Invalid parameter type for '{name}', expected: integer")


def check_limits(limits: dict[str, Any]) -> None:
    """Raises QmpError for one that no throttle group has."""
    for name in limits:
        if name not in LIMITS:
            raise QmpError(f"Parameter 'limits.{name}' is unexpected")


def from_option_text(machine: Machine, given: dict[str, str]) -> Arguments:
    """What stands in options, as object-add takes it (opts-visitor.c). Raises QmpError."""
    types = _types(machine, given)
    return {name: _value(name, types.get(name, ""), text) for name, text in given.items()}


def _value(name: str, kind: str, text: str) -> Any:
    if kind == "bool":
        if text not in (*_TRUE, *_FALSE):
            raise QmpError(f"Parameter '{name}' expects 'on' or 'off'")
        return text in _TRUE
    if kind == "int":
        try:
            return to_size(text) if name in _SIZES else to_int64(text)
        except NumberError:
            raise QmpError(f"Parameter '{name}' expects an int64 value") from None
    return text
