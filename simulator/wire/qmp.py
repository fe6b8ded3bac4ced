"""The shape of QMP messages: requests taken apart with QEMU's checks, and replies built. No
machine, no session.

Facts: qapi/qmp-dispatch.c and monitor/qmp.c, 7.2. Replies are dicts with members in the order in which QEMU
prints them; json_stream.encode_line makes bytes of them. What goes out most often has a shorter way:
DONE_LINE and event_line.
"""

from __future__ import annotations

from simulator.wire.json_stream import encode, encode_line
from simulator.wire.qdict import in_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_NANOSECONDS = 1_000_000_000


class _NoId:
    def __repr__(self) -> str:
        return "NO_ID"


NO_ID: Any = _NoId()  # the request has no `id`; null is an id


class Request:
    """A command with its arguments. `id` is NO_ID if the client gave none, `raw` the whole request object."""

    __slots__ = ("arguments", "command", "id", "oob", "raw")

    def __init__(
        self, command: str, arguments: dict[str, Any], request_id: Any, oob: bool, raw: dict[str, Any]
    ) -> None:
        self.command = command
        self.arguments = arguments
        self.id = request_id
        self.oob = oob
        self.raw = raw


class BadRequest(Exception):  # QEMU's view: it is an answer, not a failure
    """The request object itself is wrong, class GenericError. `id` is to be echoed."""

    def __init__(self, desc: str, request_id: Any = NO_ID) -> None:
        super().__init__(desc)
        self.desc = desc
        self.id = request_id


def looks_out_of_band(value: Any) -> bool:
    """Whether QEMU runs this at once instead of queueing it, with or without the `oob` capability."""
    return type(value) is dict and "exec-oob" in value and "execute" not in value


def parse_request(value: Any, oob_enabled: bool = False) -> Request:
    """A JSON value from the client as a request. Members are checked in QDict order. Raises
    BadRequest.
    """
    if type(value) is not dict:
        raise BadRequest("QMP input must be a JSON object")
    request_id = value.get("id", NO_ID)
    command = value.get("execute")
    known = 1 if request_id is NO_ID else 2
    if "arguments" in value:
        known += 1
        arguments = value["arguments"]
    else:
        arguments = {}
    if type(command) is str and type(arguments) is dict and len(value) == known:
        return Request(command, arguments, request_id, False, value)
    return _parse_closely(value, request_id, oob_enabled)


def _parse_closely(value: dict[str, Any], request_id: Any, oob_enabled: bool) -> Request:
    """Find what is wrong, or out of band, in the order in which QEMU does."""
    execute = None
    for name in in_order(value):
        member = value[name]
        if name == "execute" or (name == "exec-oob" and oob_enabled):
            if type(member) is not str:
                raise BadRequest(f"QMP input member '{name}' must be a string", request_id)
            if execute is not None:
                raise BadRequest(f"QMP input member '{name}' clashes with '{execute}'", request_id)
            execute = name
        elif name == "arguments":
            if type(member) is not dict:
                raise BadRequest("QMP input member 'arguments' must be an object", request_id)
        elif name != "id":
            raise BadRequest(f"QMP input member '{name}' is unexpected", request_id)
    if execute is None:
        raise BadRequest("QMP input lacks member 'execute'", request_id)
    return Request(value[execute], value.get("arguments", {}), request_id, execute == "exec-oob", value)


def greeting(version: dict[str, Any], capabilities: Sequence[str] = ("oob",)) -> dict[str, Any]:
    """`version` is what query-version returns."""
    return {"QMP": {"version": version, "capabilities": list(capabilities)}}


def returned(value: Any, request_id: Any = NO_ID) -> dict[str, Any]:
    """Success. `value` {} for a command that returns nothing."""
    return {"return": value} if request_id is NO_ID else {"return": value, "id": request_id}


DONE_LINE = encode_line(returned({}))


def error(error_class: str, desc: str, request_id: Any = NO_ID) -> dict[str, Any]:
    """`error_class` is one of QapiErrorClass."""
    detail = {"class": error_class, "desc": desc}
    return {"error": detail} if request_id is NO_ID else {"id": request_id, "error": detail}


def event(name: str, now_ns: int, members: dict[str, Any] | None = None) -> dict[str, Any]:
    """`now_ns` since 1970; `members` becomes `data`, which is left out when None."""
    seconds, rest_ns = divmod(now_ns, _NANOSECONDS)
    timestamp = {"seconds": seconds, "microseconds": rest_ns // 1000}
    message: dict[str, Any] = {"timestamp": timestamp, "event": name}
    if members is not None:
        message["data"] = members
    return message


def event_line(name: str, now_ns: int, members: dict[str, Any] | None = None) -> bytes:
    """`encode_line` of `event`: all but the members is the same in every event."""
    seconds, rest_ns = divmod(now_ns, _NANOSECONDS)
    timestamp = f'{{"seconds": {seconds}, "microseconds": {rest_ns // 1000}}}'
    data = "" if members is None else f', "data": {encode(members)}'
    return f'{{"timestamp": {timestamp}, "event": "{name}"{data}}}\r\n'.encode("ascii")
