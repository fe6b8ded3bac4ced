"""Inputs of a QMP monitor: requests, tokens in any order, and noise.

Commands are few, quick to answer and change little: the bytes around them are what is looked for.
"""

from __future__ import annotations

import random
from typing import Any

from scenarios.streams.drawn import Input, altered, cut, noise, shuffled

Token = bytes

# Values as JSON writes them. Numbers at the edges of what QEMU's integers hold, text at those of its UTF-8.
_LITERALS: list[Token] = [
    b"0", b"-0", b"1", b"-1", b"01", b"-", b"1.", b".5", b"+1", b"1e", b"1e+", b"0e1", b"1.5", b"-0.0",
    b"1e2", b"1E5", b"1.50e-7", b"1e400", b"-1e400", b"5e-324", b"123456789.123456789", b"1e16", b"1e17",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616",
    b"-9223372036854775808", b"-9223372036854775809", b"9" * 400, b"true", b"false", b"null", b"nul",
    b"nulll", b"True", b"NaN", b"Infinity", b"-Infinity", b"zork", b"''", b'""', b"'a'", b'"it\'s"',
    b"'\"'", b"'abc", b'"abc\n', b"'a\x00b'", b"'a\tb'", b"'\x7f'", b"'\x80'", b"'\xff'", b"'\xc3\xa9'",
    b"'\xc3'", b"'\xc3('", b"'\xc0\x80'", b"'\xc0\xaf'", b"'\xed\xa0\x80'", b"'\xe0\x80\x80'",
    b"'\xe2\x82\xac'", b"'\xf0\x9f\x98\x80'", b"'\xf4\x90\x80\x80'", b"'\xf8\x88\x80\x80\x80'",
    b"'\xef\xbf\xbe'", b"'\xef\xb7\x90'", rb"'\x'", rb"'\u12'", rb"'\u'", rb"'\u0000'", rb"'\u0041'",
    rb"'\u001f\u007f\u0080'", rb"'\u00e9'", rb"'\uD800'", rb"'\uD800\u0041'", rb"'\uD83D\uDE00'",
    rb"'\ud83d\ude00'", rb"'\uDC00'", rb"'\uFFFE'", rb"'\uFDD0'", rb"'\uD83F\uDFFE'", rb"'\u12x4'",
    rb"'\''", rb"'\"\\\/\b\f\n\r\t'", b"'\\\x01'", b"'\\\xff'", b"%s", b"%", b"#", b"/* c */", b"// c\n",
    b"\xef\xbb\xbf", b"@", b"\\", b"'" + b"x" * 300 + b"'", b"a" * 1100,
]  # fmt: skip
_STRUCTURE: list[Token] = [b"{", b"}", b"[", b"]", b":", b",", b"{}", b"[]", b"[[", b"}}", b"]}"]
_BLANKS: list[Token] = [
    b" ",
    b"\n",
    b"\r\n",
    b"\t",
    b"\x0b",
    b"\x00",
    b"\x01",
    b"\xff",
    b"\xfe",
    b"\x7f",
    b"\xc2\xa0",
]
_NAMES: list[Token] = [
    b"'execute'",
    b"'id'",
    b"'arguments'",
    b"'exec-oob'",
    b"'zork'",
    b"'query-name'",
    b"'n0'",
    b"'b0'",
]
_SPARE = _LITERALS + 4 * _STRUCTURE + _BLANKS + 3 * _NAMES

_NODE = {"node": "n0"}
_COMMANDS: list[tuple[str, Any]] = [
    ("query-name", None),
    ("query-status", None),
    ("query-jobs", {}),
    ("query-block-exports", None),
    ("query-named-block-nodes", {"flat": True}),
    ("query-block-jobs", None),
    ("zork", {"a": [1, {"b": None}]}),
    ("qmp_capabilities", {"enable": []}),
    ("block-job-cancel", {"device": "j0", "force": True}),
    ("block-job-set-speed", {"device": "j0", "speed": 1 << 20}),
    ("job-dismiss", {"id": "j0"}),
    ("blockdev-del", {"node-name": "n0"}),
    ("block-dirty-bitmap-add", {"node": "n0", "name": "b0", "granularity": 65536, "persistent": False}),
    ("block-dirty-bitmap-merge", {"node": "n0", "target": "b0", "bitmaps": ["b1", {**_NODE, "name": "b2"}]}),
    ("nbd-server-remove", {"name": "e0", "mode": "safe"}),
    ("block_resize", {"node-name": "n0", "size": 65536}),
    ("human-monitor-command", {"command-line": "info name"}),
    ("transaction", {"actions": [{"type": "block-dirty-bitmap-clear", "data": {**_NODE, "name": "b0"}}]}),
]  # fmt: skip


def draw(seed: int) -> Input:
    """The input of that number, 0 or more."""
    rng = random.Random(seed)
    kind = rng.random()
    if kind < 0.70:
        parts = [token for _ in range(rng.choice((1, 1, 1, 2, 3, 10))) for token in _request(rng)]
        parts = shuffled(rng, parts, _SPARE)
    elif kind < 0.85:
        parts = rng.choices(_SPARE, k=rng.randint(1, 25))
    elif kind < 0.97:
        parts = [noise(rng) for _ in range(rng.randint(1, 4))]
    else:
        parts = _deep(rng)
    if rng.random() < 0.1:
        parts = [altered(rng, part) if rng.random() < 0.2 else part for part in parts]
    return Input(tuple(parts), cut(rng))


def _request(rng: random.Random) -> list[Token]:
    command, arguments = rng.choice(_COMMANDS)
    members = [(b"execute" if rng.random() < 0.95 else b"exec-oob", _tokens(rng, command))]
    if arguments is not None:
        members.append((b"arguments", _tokens(rng, arguments)))
    if rng.random() < 0.5:
        members.append((b"id", _value(rng, 3)))
    if rng.random() < 0.1:
        members.append((rng.choice((b"zork", b"id", b"execute", b"foo", b"")), _value(rng, 1)))
    rng.shuffle(members)
    return _object(rng, members)


def _object(rng: random.Random, members: list[tuple[bytes, list[Token]]]) -> list[Token]:
    tokens = [b"{"]
    for name, value in members:
        if len(tokens) > 1:
            tokens.append(b",")
        tokens += [_quoted(rng, name), b":", *value]
        if rng.random() < 0.1:
            tokens.append(rng.choice(_BLANKS[:4]))
    return [*tokens, b"}"]


def _quoted(rng: random.Random, text: bytes) -> Token:
    return b'"' + text + b'"' if rng.random() < 0.7 else b"'" + text + b"'"


def _tokens(rng: random.Random, value: Any) -> list[Token]:
    """A plain value as tokens; now and then one of its values is another."""
    if rng.random() < 0.04:
        return _value(rng, 1)
    if isinstance(value, dict):
        return _object(rng, [(name.encode(), _tokens(rng, member)) for name, member in value.items()])
    if isinstance(value, list):
        return _list([_tokens(rng, item) for item in value])
    if isinstance(value, str):
        return [_quoted(rng, value.encode())]
    return [{None: b"null", True: b"true", False: b"false"}.get(value) or str(value).encode()]


def _list(items: list[list[Token]]) -> list[Token]:
    tokens = [b"["]
    for index, item in enumerate(items):
        tokens += [b",", *item] if index else item
    return [*tokens, b"]"]


def _value(rng: random.Random, deep: int) -> list[Token]:
    kind = rng.random()
    if not deep or kind < 0.6:
        return [rng.choice(_LITERALS)]
    count = rng.randint(0, 3)
    if kind < 0.8:
        return _list([_value(rng, deep - 1) for _ in range(count)])
    names = [rng.choice((b"a", b"b", b"c", b"id")) for _ in range(count)]
    return _object(rng, [(name, _value(rng, deep - 1)) for name in names])


def _deep(rng: random.Random) -> list[Token]:
    """About as deep as QEMU reads (qobject/json-streamer.c, MAX_NESTING)."""
    depth = rng.choice((10, 400, 1000, 1022, 1023, 1024, 1025, 1026, 1100))
    opening, closing = rng.choice(((b"[", b"]"), (b"{'a':", b"}"), (b"[{'b':", b"}]")))
    middle = rng.choice((b"", b"1", b"'x'", b"@"))
    ends = max(0, depth + rng.choice((0, 0, 0, -1, 1, -depth)))
    bare = [opening * depth, middle, closing * ends]
    return [b"{'execute':'query-name','id':", *bare, b"}"] if rng.random() < 0.5 else bare
