# ruff: noqa: E501  tables of bytes read better in long lines
"""JSON framing and printing. Expected texts were answered by qemu-system-x86_64 7.2.22 (tests/interop has them all)."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simulator.wire.json_lexer import ERROR, LOOKAHEAD, START, TABLE, Collected, JsonLexer
from simulator.wire.json_place import Place
from simulator.wire.json_stream import JsonStream, ParseError, encode, encode_line, parse_text


def outcome(message):
    return ("error", message.desc) if isinstance(message, ParseError) else ("value", repr(message))


def whole(data, pushes=False):
    return [outcome(message) for message in JsonStream(pushes).receive_data(data)]


def in_chunks(data, cuts, pushes=False):
    stream, messages, start = JsonStream(pushes), [], 0
    for cut in [*sorted(cuts), len(data)]:
        messages += stream.receive_data(data[start:cut])
        start = max(start, cut)
    return [outcome(message) for message in messages]


def by_lexer_alone(data):
    messages = []
    JsonLexer(Collected(), Place()).feed(data, messages)
    return [outcome(message) for message in messages]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=4), values, max_size=4)
fragments = st.sampled_from(
    [b"{", b"}", b"[", b"]", b":", b",", b'"', b"'", b"\\", b" ", b"\n", b"0", b"1", b"-", b".", b"e", b"true", b"null",
     b'"a"', b"'a'", b'{"a": ', b"0e1", b"1e5", b"\xff", b"\x00", b"\xc3\xa9", rb"\u00e9", rb"\ud800", b"18446744073709551616", b"NaN", b'"a":1,"a":2'],
)  # fmt: skip
noise = st.lists(fragments, max_size=20).map(b"".join)


@given(noise, st.lists(st.integers(0, 60), max_size=5), st.booleans())
def test_chunks_do_not_matter(data, cuts, pushes):
    cuts = [cut for cut in cuts if cut < len(data)]
    assert in_chunks(data, cuts, pushes) == whole(data, pushes)


@given(st.lists(objects, min_size=1, max_size=4))
def test_what_is_well_formed_is_the_same_for_both_parsers(messages):
    data = b"".join(map(encode_line, messages))
    byte_by_byte = range(1, len(data))  # so that the fast way takes none of it
    collected = in_chunks(data, byte_by_byte, pushes=False)
    # Some texts are no QEMU's: of noncharacters, and two names that are one without their surrogates.
    assume(all(kind == "value" for kind, _ in collected))
    assert in_chunks(data, byte_by_byte, pushes=True) == collected


@given(noise)
def test_the_fast_way_gives_what_the_lexer_gives(data):
    assert whole(data) == by_lexer_alone(data)


@given(st.lists(objects, max_size=4))
def test_fast_way_on_objects(messages):
    data = "\n".join(map(json.dumps, messages)).encode()
    assert whole(data) == by_lexer_alone(data)


def is_plain(value):
    """No characters and numbers that QEMU treats in its own way."""
    if isinstance(value, str):
        return all(0 < ord(c) < 0xFDD0 and not 0xD800 <= ord(c) < 0xE000 for c in value)
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 64
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, [*value, *value.values()]))
    return True


@given(objects.filter(is_plain), st.booleans())
def test_what_is_printed_is_read_back(value, pretty):
    (back,) = JsonStream(False).receive_data(encode_line(value, pretty))
    assert back == value
    assert json.loads(encode(value, pretty)) == value
    assert encode(value, pretty).isascii()


def test_every_state_has_a_move_for_every_byte():
    assert all(len(row) == 256 for row in TABLE.values())
    targets = {target & ~LOOKAHEAD for row in TABLE.values() for target in row}
    states = {target for target in targets if ERROR < target < 32}
    assert states == set(TABLE)  # each is reached, and none is missing
    assert all(target in (ERROR, START) or target in TABLE or target >= 32 for target in targets)


@pytest.mark.parametrize(
    ("data", "descs"),
    [
        (b"}", ["JSON parse error, expecting value"]),
        (b"{'a':1]", ["JSON parse error, expected separator in dict"]),
        (b"{'a':1,'a':2}", ["JSON parse error, duplicate key"]),
        (b"zork ", ["JSON parse error, invalid keyword 'zork'"]),
        (b"@", ["JSON parse error, stray '@'"]),
        (b"\xff", ["JSON parse error, stray '\ufffd'"]),
        (b"'abc\n", ["JSON parse error, stray ''abc\n'"]),
        (rb"'\u12'", ["JSON parse error, \\u12' is not a valid Unicode character"]),
        (rb"'\x'", ["JSON parse error, invalid escape sequence in string"]),
        (b"'\xc3'", ["JSON parse error, invalid UTF-8 sequence in string"]),
        (b"[" * 1025, ["JSON nesting depth limit exceeded"]),
    ],
)
def test_error_texts(data, descs):
    assert [message.desc for message in JsonStream(False).receive_data(data)] == descs


def test_a_message_needs_no_line_end_and_a_number_does():
    stream = JsonStream(False)
    assert stream.receive_data(b'{"a":') == []
    assert not stream.idle
    assert stream.receive_data(b"1}") == [{"a": 1}]
    assert stream.idle
    assert stream.receive_data(b"12") == []
    assert stream.receive_data(b"3 ") == [123]
    assert stream.receive_data(b"45") == []
    stream.reset()
    assert stream.receive_data(b"6 ") == [6]


def test_limits(monkeypatch):
    monkeypatch.setattr("simulator.wire.json_lexer.MAX_MESSAGE_BYTES", 100)
    monkeypatch.setattr("simulator.wire.json_lexer.MAX_TOKENS", 20)
    size, count = "JSON token size limit exceeded", "JSON token count limit exceeded"
    token = [message.desc for message in JsonStream(False).receive_data(b"'" + b"x" * 100)]
    assert token == [size]
    messages = JsonStream(False).receive_data(b"['" + b"x" * 60 + b"','" + b"y" * 60 + b"'")
    assert [message.desc for message in messages] == [size]
    messages = JsonStream(False).receive_data(b"[" + b"1," * 10)
    assert [message.desc for message in messages] == [count]
    assert JsonStream(False).receive_data(b"['" + b"x" * 90 + b"']") == [["x" * 90]]


def test_parse_text():
    assert parse_text(b"{'driver': 'raw'}", False) == {"driver": "raw"}
    assert parse_text(b"5", False) == 5
    for text, desc in [
        (b"", "Expecting a JSON value"),
        (b"{} {}", "Expecting at most one JSON value"),
        (b"{'a':", "JSON parse error, premature EOI"),
        (b"'abc", "JSON parse error, stray ''abc'"),
    ]:
        with pytest.raises(ParseError) as caught:
            parse_text(text, False)
        assert caught.value.desc == desc


def test_printing():
    assert (
        encode({"a": [1, 0.1, None, True], "b": {}}) == '{"a": [1, 0.10000000000000001, null, true], "b": {}}'
    )
    assert encode("é\x7f😀") == '"\\u00E9\\u007F\\uD83D\\uDE00"'
    assert encode_line({"a": {}, "b": [1]}, pretty=True) == (
        b'{\r\n    "a": {\r\n    },\r\n    "b": [\r\n        1\r\n    ]\r\n}\r\n'
    )
    deep = value = []
    for _ in range(1023):
        value.append([])
        value = value[0]
    assert encode(deep) == "[" * 1024 + "]" * 1024
    for pretty in (False, True):
        with pytest.raises(TypeError):
            encode({"a": {1, 2}}, pretty)


def test_members_come_in_the_order_of_qemus_table():
    """As 5.2.0, 7.2.22, 10.0.13 and 11.1.3 print them; of "singlestep" and "status", which share a bucket, the
    one that was put in later comes first."""
    assert encode({"id": [], "c": 0, "a": {"b": 1, "a": 2}}) == '{"a": {"a": 2, "b": 1}, "c": 0, "id": []}'
    status = {"running": False, "singlestep": False, "status": "prelaunch"}
    assert encode(status) == '{"status": "prelaunch", "singlestep": false, "running": false}'
    deep = {"b": 1, "a": 2}
    for _ in range(1100):
        deep = [deep]
    assert encode(deep) == "[" * 1100 + '{"a": 2, "b": 1}' + "]" * 1100


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-324, "0"),
        (-0.0, "-0"),
        (100.0, "100"),
        (1.5e-6, "0.000002"),
        (2.0**64, "18446744073709551616"),
        (9.1, "9.1"),
    ],
)
def test_numbers_as_qemu_printed_them_in_5_2(value, text):
    """Observed on 5.2.0."""
    assert encode([value], six_places=True) == f"[{text}]"
