"""Is a value what a type promises? One schema with one of everything, and what is said about each mistake."""

from __future__ import annotations

import pytest

from simulator.qapi.reply import validate_event, validate_reply
from simulator.qapi.schema import Schema


def builtin(name, json_type):
    return {"name": name, "meta-type": "builtin", "json-type": json_type}


def command(name, ret_type):
    return {"name": name, "meta-type": "command", "arg-type": "0", "ret-type": ret_type}


SCHEMA = Schema(
    [
        builtin("int", "int"),
        builtin("str", "string"),
        builtin("number", "number"),
        builtin("bool", "boolean"),
        builtin("any", "value"),
        builtin("null", "null"),
        {"name": "0", "meta-type": "object", "members": []},
        {
            "name": "1",
            "meta-type": "object",
            "members": [{"name": "kind", "type": "2"}, {"name": "count", "type": "int", "default": None}],
            "tag": "kind",
            "variants": [{"case": "a", "type": "0"}, {"case": "b", "type": "3"}],
        },
        {"name": "2", "meta-type": "enum", "values": ["a", "b"], "members": [{"name": "a"}, {"name": "b"}]},
        {"name": "3", "meta-type": "object", "members": [{"name": "more", "type": "4"}]},
        {
            "name": "4",
            "meta-type": "alternate",
            "members": [{"type": "str"}, {"type": "3"}, {"type": "null"}],
        },
        {"name": "[1]", "meta-type": "array", "element-type": "1"},
        command("nothing", "0"),
        command("list", "[1]"),
        command("ask-number", "number"),
        command("ask-any", "any"),
        command("ask-int", "int"),
        {"name": "EVENT", "meta-type": "event", "arg-type": "1"},
        {"name": "PLAIN", "meta-type": "event", "arg-type": "0"},
    ]
)


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("nothing", {}, []),
        ("nothing", {"x": 1}, ["$.return.x: not in the schema"]),
        ("nothing", None, ["$.return: expected object, got null"]),
        ("list", [], []),
        ("list", [{"kind": "a"}, {"kind": "b", "count": 1, "more": {"more": None}}], []),
        ("list", {}, ["$.return: expected array, got object"]),
        ("list", [{"kind": "a", "more": "x"}], ["$.return[0].more: not in the schema"]),
        ("list", [{"kind": "a"}, {"kind": "b"}], ["$.return[1].more: missing"]),
        ("list", [{"kind": "c"}], ["$.return[0].kind: expected one of a, b, got string 'c'"]),
        ("list", [{"kind": 1}], ["$.return[0].kind: expected one of a, b, got integer 1"]),
        ("list", [{}], ["$.return[0].kind: missing"]),
        ("list", [{"kind": "a", "count": True}], ["$.return[0].count: expected integer, got boolean True"]),
        ("list", [{"kind": "b", "more": {"more": {}}}], ["$.return[0].more.more.more: missing"]),
        (
            "list",
            [{"kind": "b", "more": 5}],
            ["$.return[0].more: expected one of string, object, null, got integer 5"],
        ),
        ("ask-number", 1, []),
        ("ask-number", 1.5, []),
        ("ask-number", "1", ["$.return: expected number, got string '1'"]),
        ("ask-int", 2**64 - 1, []),
        ("ask-int", 2**64, [f"$.return: {2**64} does not fit 64 bits"]),
        ("ask-any", [None, {"x": 1.5}], []),
        ("zork", {}, ["$: the schema has no command zork"]),
    ],
)
def test_replies(name, value, wrong):
    assert validate_reply(SCHEMA, name, value) == wrong


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("EVENT", {"kind": "a"}, []),
        ("EVENT", {}, ["$.data.kind: missing"]),
        ("PLAIN", {}, []),
        ("PLAIN", {"x": 1}, ["$.data.x: not in the schema"]),
        ("ZORK", {}, ["$: the schema has no event ZORK"]),
        ("nothing", {}, ["$: the schema has no event nothing"]),
    ],
)
def test_events(name, value, wrong):
    assert validate_event(SCHEMA, name, value) == wrong
