"""The language's JSON Schema, for editors: made from the types, with the spellings that the loader takes.

A file is valid against it if it has the right shape; what only the loader checks are ranges, ids and disks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from scenarios.language import decode, steps

COMMITTED = Path(__file__).with_name("scenario.schema.json")

_SIZE: dict[str, Any] = {
    "description": "Bytes: a whole number, or one with a binary unit: 64k, 1M, 16T.",
    "oneOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+[kKMGTPE]$"}],
}
_DURATION: dict[str, Any] = {
    "description": "A time: 100ms, 45s, 10us, 5ns, 2min.",
    "oneOf": [{"const": 0}, {"type": "string", "pattern": "^[0-9]+(ns|us|ms|s|min)$"}],
}
_BYTE: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 255}
_NOTHING = {"type": "null"}


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a spec file."""
    whole: dict[str, Any] = msgspec.json.schema(steps.Scenario)
    definitions: dict[str, Any] = whole["$defs"]
    for name, definition in definitions.items():
        definition["description"] = _one_paragraph(definition.get("description", ""))
        _spell_numbers(definition["properties"])
        struct = getattr(steps, name)
        for member in decode.UNWRITABLE.get(struct, ()):
            del definition["properties"][member]
    _allow_left_out_disks(definitions)
    _one_verb(definitions["Step"])
    for struct, member in decode.SHORT_MEMBER.items():
        long_form = definitions[struct.__name__]
        definitions[struct.__name__] = {"anyOf": [long_form["properties"][member], long_form]}
    for struct in decode.MAY_BE_EMPTY:
        definitions[struct.__name__] = {"anyOf": [_NOTHING, definitions[struct.__name__]]}
    definitions.update(Size=_SIZE, Duration=_DURATION, Byte=_BYTE)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "goldenfleece scenario",
        **{
            key: definitions["Scenario"][key]
            for key in ("description", "type", "properties", "additionalProperties")
        },
        "required": ["name", "steps"],
        "$defs": {name: definitions[name] for name in sorted(definitions) if name != "Scenario"},
    }


def text() -> str:
    """The schema as it is committed and printed by `goldenfleece schema`."""
    return json.dumps(schema(), indent=2) + "\n"


def _one_paragraph(description: str) -> str:
    return " ".join(description.split())


def _spell_numbers(properties: dict[str, Any]) -> None:
    for member, value in properties.items():
        for fields, reference in (
            (decode.SIZE_FIELDS, "Size"),
            (decode.DURATION_FIELDS, "Duration"),
            (decode.BYTE_FIELDS, "Byte"),
        ):
            if member in fields:
                properties[member] = _replace_integer(value, {"$ref": f"#/$defs/{reference}"})


def _replace_integer(value: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    kept = {key: item for key, item in value.items() if key not in ("type", "default", "anyOf")}
    if "anyOf" in value:
        return {
            **kept,
            "anyOf": [by if choice == {"type": "integer"} else choice for choice in value["anyOf"]],
        }
    return {**kept, **by} if value.get("type") == "integer" else value


def _allow_left_out_disks(definitions: dict[str, Any]) -> None:
    """The loader fills in the disk of a guest (if there is one) and the disks of a fleece (all of them)."""
    definitions["Guest"].pop("required")
    definitions["Fleece"]["required"] = ["id"]


def _one_verb(step: dict[str, Any]) -> None:
    """A step holds one verb, and a verb is never null, unless that is its short spelling."""
    properties = step["properties"]
    for verb, value in properties.items():
        [choice] = [choice for choice in value["anyOf"] if choice != _NOTHING]
        properties[verb] = choice
    for alias, verb in decode.VERB_ALIASES.items():
        properties[alias] = properties[verb]
    step["minProperties"] = step["maxProperties"] = 1


def main(argv: Sequence[str]) -> int:
    """`goldenfleece schema`: print it. Takes no arguments."""
    parser = argparse.ArgumentParser(
        prog="goldenfleece schema",
        description="Print the JSON Schema of scenario files. In an editor with a YAML language server, put "
        "'# yaml-language-server: $schema=FILE' on top of a spec.",
    )
    parser.parse_args(argv)
    print(text(), end="")
    return 0
