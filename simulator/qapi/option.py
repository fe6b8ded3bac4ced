"""A command-line option whose value is of a QAPI type: -blockdev, --export, --nbd-server, -object."""

from __future__ import annotations

from simulator.qapi import keyval
from simulator.qapi.errors import ArgumentError
from simulator.wire.json_stream import parse_text
from simulator.wire.json_values import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.qapi.schema import Schema


def read_option(
    schema: Schema, type_name: str, text: str, implied_key: str | None = None, pushes: bool = False
) -> dict[str, Any]:
    """The option's value, checked against `type_name`: JSON if it begins with a brace, else KEY=VALUE,....

    read_option(schema, schema.by_name["blockdev-add"]["arg-type"], "qcow2,file=f", "driver") is
    {"driver": "qcow2", "file": "f"}. Raises ArgumentError in QEMU's words; QEMU prints them behind
    the option as it was given (qapi/qobject-input-visitor.c:751, 7.2).
    """
    if text[:1] == "{":
        try:
            value = parse_text(text.encode("utf-8", "surrogateescape"), pushes)
        except ParseError as error:
            raise ArgumentError(error.desc) from None
        return schema.check_type(type_name, value)
    return schema.convert_keyval(type_name, keyval.parse(text, implied_key))
