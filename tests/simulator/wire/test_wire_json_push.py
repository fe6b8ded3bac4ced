"""The JSON parser that takes tokens as they come. Expected texts were answered by QEMU 11.1.3: monitors on
standard input and options of qemu-storage-daemon."""

import pytest

from simulator.wire.json_stream import JsonStream, ParseError, parse_text


def told(data):
    messages = JsonStream(True).receive_data(data)
    return [
        message.desc.replace("JSON parse error, ", "") if isinstance(message, ParseError) else message
        for message in messages
    ]


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"{'a':1,'a':[1,{'b':2}]}", ["1:22: duplicate key"]),
        (b"{'a':1,'a':{},'a':3}", ["1:13: duplicate key"]),
        (b"{foo:1}", ["1:2: expecting key"]),
        (b"{'a',{'b':[]}}", ["1:5: expecting ':'"]),
        (b"['\\x',{]", ["1:2: invalid escape sequence in string"]),
        (b"-\n", ["1:1: stray '-\n'"]),
        # A token that ended the one before it without a blank is told one column too far to the right.
        (b"[1'b']", ["1:4: expected ',' or ']'"]),
        (b"[1 'b']", ["1:4: expected ',' or ']'"]),
        (b"{'a':1]", ["1:8: expected ',' or '}'"]),
        (b"{'id':True}", ["1:7: stray 'T'", "1:12: expecting value"]),
        # The rest is passed over until brackets match, or there is one too many, or a byte fits nowhere.
        (b"[1}2] ", ["1:4: expected ',' or ']'", 2, "1:6: expecting value"]),
        (b"{[}]1 ", ["1:2: expecting key", 1]),
        (b"{'a':[}}1 ", ["1:7: expecting value", 1]),
        (b"[1[[\xff\n1 ", ["1:4: expected ',' or ']'", 1]),
        (b"[" * 1030 + b"]" * 1030 + b"1 ", ["JSON nesting depth limit exceeded", 1]),
        (b"[1 1" + b"[" * 1030 + b"\n1 ", ["1:4: expected ',' or ']'"]),
    ],
)
def test_what_is_told_and_what_is_passed_over(data, messages):
    assert told(data) == messages


@pytest.mark.parametrize(
    ("text", "desc"),
    [
        (b'{"driver":', "1:11: JSON parse error, premature end of input"),
        (b'{"a":1', "1:8: JSON parse error, premature end of input"),
        (b'{"a"', "1:5: JSON parse error, premature end of input"),
        (b'{"driver": -', "1:12: JSON parse error, stray '-'"),
        (b"{]", "1:2: JSON parse error, expecting key"),
        (b'{"driver":"null-co"} x', "Expecting at most one JSON value"),
        (b"", "Expecting a JSON value"),
    ],
)
def test_options(text, desc):
    with pytest.raises(ParseError) as caught:
        parse_text(text, True)
    assert caught.value.desc == desc


def test_a_stray_token_is_cut_off():
    """Observed on 11.1.3: the complaint has 1,023 bytes."""
    (stray,) = JsonStream(True).receive_data(b"'" + b"a" * 2000 + b"\n")
    assert stray.desc == "1:1: JSON parse error, stray ''" + "a" * 1015
    (stray,) = JsonStream(True).receive_data(b"'" + b"\xe2" * 2000 + b"\n")
    assert stray.desc.count("\N{REPLACEMENT CHARACTER}") == 1015
