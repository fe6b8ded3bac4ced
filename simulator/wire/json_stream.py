"""JSON as QMP carries it: bytes in any chunks -> values or QEMU's errors, and values -> bytes as
QEMU prints them.

Well-formed plain objects (ASCII, no \\u escapes, unique keys, shallow) go through the C scanner behind the
standard `json` module. Its results are the same as QEMU's there; whatever it refuses, and whatever arrives in
pieces, is told apart by json_lexer.py. `json` itself is not imported: it costs half of the start-up time.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

from simulator.wire.json_place import Place
from simulator.wire.json_values import ParseError, parse_integer
from simulator.wire.qdict import in_order, ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from simulator.wire.json_lexer import JsonLexer

__all__ = ["JsonStream", "ParseError", "encode", "encode_line", "parse_text"]

_FAST_BYTES = 1 << 20  # far below QEMU's limits on tokens
_FAST_NESTING = 400


class _NotPlainError(ValueError):
    """The C scanner accepts this, QEMU may not."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NotPlainError
    return members


def _plain_float(text: str) -> float:
    if text.lstrip("-")[:2] in ("0e", "0E"):  # QEMU's lexer wants 0.0e1
        raise _NotPlainError
    return float(text)


def _no_constant(_text: str) -> None:
    raise _NotPlainError


class _ScannerSettings:
    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_unique)
    parse_float = staticmethod(_plain_float)
    parse_int = staticmethod(parse_integer)
    parse_constant = staticmethod(_no_constant)


_scan = make_scanner(_ScannerSettings())  # type: ignore[arg-type]


class JsonStream:
    """The input side of a QMP connection (qobject/json-streamer.c, 7.2). `pushes`: tokens are parsed as they
    come, as json_push.py does it; otherwise once a message is whole."""

    __slots__ = ("_lexer", "_place", "_pushes")

    def __init__(self, pushes: bool) -> None:
        self._pushes = pushes
        self._place = Place()
        self._lexer: JsonLexer | None = None

    def receive_data(self, data: bytes) -> list[Any]:
        """What `data` completes, oldest first: JSON values, and a ParseError for each thing that
        QEMU complains of.

        A value needs no line end: an object is complete with its closing brace. Numbers and words
        at top level need the byte behind them.
        """
        messages: list[Any] = []
        lexer = self._lexer
        if lexer is None or lexer.idle:
            taken = _scan_plain(data, messages)
            self._place.leave(data, taken)
            data = data[taken:]
            if not data:
                return messages
            if lexer is None:
                lexer = self._lexer = self._new_lexer()
        lexer.feed(data, messages)
        return messages

    @property
    def idle(self) -> bool:
        """Whether no message is open."""
        return self._lexer is None or self._lexer.idle

    @property
    def held_bytes(self) -> int:
        """Of the message that is open; never more than QEMU's limit on one and a byte (MAX_MESSAGE_BYTES)."""
        return 0 if self._lexer is None else self._lexer.held_bytes

    def reset(self) -> None:
        """Forget what is held; QEMU does when the client goes away."""
        self._lexer = None
        self._place = Place()

    def flush(self) -> list[Any]:
        """The end of the input: what was open becomes a value or an error."""
        messages: list[Any] = []
        if self._lexer is not None:
            self._lexer.flush(messages)
        return messages

    def _new_lexer(self) -> JsonLexer:
        from simulator.wire.json_lexer import (
            Collected,
            JsonLexer,
        )  # imports `re`, which plain input never needs

        if not self._pushes:
            return JsonLexer(Collected(), self._place)
        from simulator.wire.json_push import Pushed

        return JsonLexer(Pushed(), self._place)


def _scan_plain(data: bytes, messages: list[Any]) -> int:
    """Take the plain objects at the front of `data`; where the rest begins."""
    end = len(data)
    if not data.isascii() or end > _FAST_BYTES:
        return 0
    text = data.decode("ascii")
    if "\\u" in text or (end > _FAST_NESTING and text.count("[") + text.count("{") > _FAST_NESTING):
        return 0
    position = 0
    while position < end:
        first = text[position]
        if first in " \t\r\n":
            position += 1
        elif first == "{":
            try:
                value, position = _scan(text, position)
            except (ValueError, StopIteration, SystemError):
                # SystemError: up to Python 3.12 the scanner finds no class to raise as long as nobody has
                # imported json.decoder.
                break
            messages.append(value)
        else:
            break
    return position


def parse_text(text: bytes, pushes: bool) -> Any:
    """The one value that `text` is, as QEMU parses option strings (qobject/qjson.c:qobject_from_json, 7.2).

    `pushes`: as of JsonStream. Raises ParseError.
    """
    stream = JsonStream(pushes)
    messages = stream.receive_data(text.partition(b"\0")[0]) + stream.flush()
    if not messages:
        raise ParseError("Expecting a JSON value")
    if isinstance(messages[0], ParseError):
        raise messages[0]
    if len(messages) > 1:
        raise ParseError("Expecting at most one JSON value")
    return messages[0]


# -- output


def _refuse(value: object) -> None:
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


_encode_plain = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)


def encode(value: Any, pretty: bool = False, six_places: bool = False) -> str:
    """QEMU's form (qobject/json-writer.c, 7.2): ``{"a": 1, "b": [2]}``; non-ASCII as \\uXXXX,
    floats with %.17g.

    Members in QDict's order. `pretty`: four blanks a level, and an empty container takes two lines.
    `six_places`: floats with %f, without the zeroes at its end (qobject/qnum.c, 5.2).
    """
    write_float = _fixed if six_places else _exact
    if not pretty:
        try:
            text = "".join(_encode_plain(ordered(value), 0))
        except RecursionError:
            return _write(value, False, write_float)
        if "\\u" not in text and "\x7f" not in text and not _may_hold_float(text, value):
            return text
    return _write(value, pretty, write_float)


def encode_line(value: Any, pretty: bool = False, six_places: bool = False) -> bytes:
    """What a monitor sends for `value`: every line ends in CR LF (monitor/monitor.c:monitor_puts, 7.2)."""
    text = encode(value, pretty, six_places)
    if pretty:
        text = text.replace("\n", "\r\n")
    return text.encode("ascii") + b"\r\n"


def _may_hold_float(text: str, value: Any) -> bool:
    """Whether `value` holds a float. `text` is its standard JSON, which shows quickly that most hold none."""
    if not ("." in text or "e-" in text or "e+" in text or "Infinity" in text or "NaN" in text):
        return False
    pending = [value]
    while pending:
        value = pending.pop()
        kind = type(value)
        if kind is dict:
            pending.extend(value.values())
        elif kind is list or kind is tuple:
            pending.extend(value)
        elif kind is float:
            return True
    return False


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable():
        return str(encode_basestring_ascii(text))
    return '"' + "".join(map(_quoted_character, text)) + '"'


_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _quoted_character(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    if code > 0xFFFF:
        high, low = divmod(code - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04X}\\u{0xDC00 + low:04X}"
    return "\\uFFFD" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04X}"


def _exact(value: float) -> str:
    return f"{value:.17g}"


def _fixed(value: float) -> str:
    text = f"{value:f}"
    return text.rstrip("0").removesuffix(".") if "." in text else text


def _write(value: Any, pretty: bool, write_float: Callable[[float], str]) -> str:
    """The whole form, without recursion: values from a client may be nested 1024 deep."""
    out: list[str] = []
    stack: list[
        tuple[Iterator[Any], str]
    ] = []  # what is still to come of the open containers, and their ends
    separator = ""
    while True:
        if isinstance(value, dict | list | tuple):
            if isinstance(value, dict):
                out.append("{")
                members = [(name, value[name]) for name in in_order(value)]
                stack.append((iter(members), "}"))
            else:
                out.append("[")
                stack.append((iter(value), "]"))
            separator = ""
        else:
            out.append(write_float(value) if isinstance(value, float) else _scalar_text(value))
            separator = ","
        while stack:
            items, closing = stack[-1]
            item = next(items, _END)
            if item is not _END:
                break
            stack.pop()
            out.append("\n" + "    " * len(stack) + closing if pretty else closing)
            separator = ","
        else:
            return "".join(out)
        out.append(separator)
        if pretty:
            out.append("\n" + "    " * len(stack))
        elif separator:
            out.append(" ")
        if closing == "}":
            name, value = item
            out.append(_quoted(name) + ": ")
        else:
            value = item


_END: Any = object()


def _scalar_text(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")
