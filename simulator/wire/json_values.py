"""From QEMU's JSON tokens to values, in QEMU's order of checks and with its error texts.

Facts: qobject/json-parser.c and util/unicode.c, 7.2. The first error wins. Nothing here recurses: a
message may be nested 1024 deep, which is more than Python's stack.
"""

from __future__ import annotations

(
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_KEYWORD,
    TOKEN_OPEN_BRACE,
    TOKEN_CLOSE_BRACE,
    TOKEN_OPEN_BRACKET,
    TOKEN_CLOSE_BRACKET,
    TOKEN_COLON,
    TOKEN_COMMA,
) = range(32, 42)

_KEYWORDS = {b"true": True, b"false": False, b"null": None}
_ESCAPES = {
    0x22: '"',
    0x27: "'",
    0x5C: "\\",
    0x2F: "/",
    0x62: "\b",
    0x66: "\f",
    0x6E: "\n",
    0x72: "\r",
    0x74: "\t",
}
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_BACKSLASH = 0x5C
_LONGEST_INT64_TEXT = 20
MAX_ERROR_BYTES = 1023  # QEMU formats into 1 KiB
_NO_KEY = object()


class ParseError(Exception):
    """Malformed JSON. `desc` is what QEMU answers with, class GenericError."""

    def __init__(self, desc: str) -> None:
        super().__init__(desc)
        self.desc = desc


def parse_error(text: str) -> ParseError:
    return ParseError("JSON parse error, " + text)


def parse_tokens(tokens: list[tuple[int, bytes]]) -> object:
    """The value that all of `tokens` make. Raises ParseError."""
    following = iter(tokens)
    end = (-1, b"")
    stack: list[list[object]] = []  # [container, key that waits for its value]
    peeked: tuple[int, bytes] | None = None
    while True:
        kind, text = peeked or next(following, end)
        peeked = None
        if kind in (TOKEN_OPEN_BRACE, TOKEN_OPEN_BRACKET):
            container: object = {} if kind == TOKEN_OPEN_BRACE else []
            peeked = next(following, end)
            if peeked[0] != (TOKEN_CLOSE_BRACE if kind == TOKEN_OPEN_BRACE else TOKEN_CLOSE_BRACKET):
                stack.append([container, _NO_KEY])
                continue
            peeked = None
            value = container
        else:
            value = parse_scalar(kind, text)
        while stack:
            closed = _give(stack[-1], value, following, end)
            if not closed:
                break
            value = stack.pop()[0]
        else:
            return value


def parse_scalar(kind: int, text: bytes) -> object:
    if kind == TOKEN_STRING:
        return parse_string(text)
    if kind == TOKEN_INTEGER:
        return parse_integer(text)
    if kind == TOKEN_FLOAT:
        return float(text)
    if kind == TOKEN_KEYWORD:
        if text not in _KEYWORDS:
            raise parse_error(f"invalid keyword '{text.decode('ascii')}'"[:MAX_ERROR_BYTES])
        return _KEYWORDS[text]
    raise parse_error("premature EOI" if kind < 0 else "expecting value")


def _give(frame: list[object], value: object, following: object, end: tuple[int, bytes]) -> bool:
    """Hand a finished value to the innermost open container; whether that closed it."""
    container, key = frame
    if isinstance(container, list):
        container.append(value)
        closing, separator, complaint = TOKEN_CLOSE_BRACKET, TOKEN_COMMA, "expected separator in list"
    else:
        assert isinstance(container, dict)
        if key is _NO_KEY:
            if not isinstance(value, str):
                raise parse_error("key is not a string in object")
            frame[1] = value
            closing, separator, complaint = None, TOKEN_COLON, "missing : in object pair"
        else:
            if key in container:
                raise parse_error("duplicate key")
            container[key] = value
            frame[1] = _NO_KEY
            closing, separator, complaint = TOKEN_CLOSE_BRACE, TOKEN_COMMA, "expected separator in dict"
    kind = next(following, end)[0]  # type: ignore[call-overload]
    if kind < 0:
        raise parse_error("premature EOI")
    if kind == closing:
        return True
    if kind != separator:
        raise parse_error(complaint)
    return False


def parse_integer(text: bytes | str) -> int | float:
    """An int if it fits int64 or uint64, else a float, as QNum keeps numbers."""
    if len(text) <= _LONGEST_INT64_TEXT:
        value = int(text)
        if -(1 << 63) <= value < 1 << 64:
            return value
    return float(text)


def parse_string(token: bytes) -> str:
    """The string of a token with its quotes. Raises ParseError."""
    end = len(token) - 1
    pieces, position = [], 1
    while position < end:
        escape = token.find(b"\\", position, end)
        stop = end if escape < 0 else escape
        if stop > position:
            piece = _decode_strict(token[position:stop])
            if piece is None:
                raise parse_error("invalid UTF-8 sequence in string")
            pieces.append(piece)
        position = stop
        if stop < end:
            piece, position = _unescape(token, stop)
            pieces.append(piece)
    return "".join(pieces)


def _unescape(token: bytes, start: int) -> tuple[str, int]:
    """What the escape at `start` stands for, and where it ends."""
    letter = token[start + 1]
    if letter in _ESCAPES:
        return _ESCAPES[letter], start + 2
    if letter != 0x75:
        raise parse_error("invalid escape sequence in string")
    code = _hex4(token, start + 2)
    end = start + 6
    if 0xD800 <= code <= 0xDBFF and token[end : end + 2] == b"\\u":
        trailing = _hex4(token, end + 2)
        if 0xDC00 <= trailing <= 0xDFFF:
            code = 0x10000 + ((code & 0x3FF) << 10 | trailing & 0x3FF)
            end += 6
        else:
            code = -1
    if not is_character(code):
        # QEMU prints as many bytes as it meant to read, which may run into the closing quote.
        raise parse_error(f"{decode_modified_utf8(token[start:end])} is not a valid Unicode character")
    return chr(code), end


def _hex4(token: bytes, start: int) -> int:
    digits = token[start : start + 4]
    return int(digits, 16) if len(digits) == 4 and _HEX_DIGITS.issuperset(digits) else -1


def is_character(code: int) -> bool:
    """Whether QEMU takes the code point: no surrogates, none of Unicode's 66 noncharacters."""
    if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return False
    return not (0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE)


def _decode_strict(encoded: bytes) -> str | None:
    """Modified UTF-8 (U+0000 is C0 80) to text; None if any of it is invalid."""
    if encoded.isascii():
        return encoded.decode("ascii")
    try:
        text = encoded.replace(b"\xc0\x80", b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if all(map(is_character, map(ord, text))) else None


def decode_modified_utf8(encoded: bytes) -> str:
    """Text with U+FFFD for each invalid sequence, cut up as QEMU cuts it
    (util/unicode.c:mod_utf8_codepoint).
    """
    text = _decode_strict(encoded)
    if text is not None:
        return text
    pieces, position = [], 0
    while position < len(encoded):
        length = _sequence_bytes(encoded, position)
        pieces.append(_decode_strict(encoded[position : position + length]) or "\ufffd")
        position += length
    return "".join(pieces)


def _sequence_bytes(encoded: bytes, start: int) -> int:
    lead = encoded[start]
    if lead < 0xC0 or lead >= 0xFE:
        return 1
    announced = 8 - (lead ^ 0xFF).bit_length()
    length = 1
    while length < announced and start + length < len(encoded) and encoded[start + length] & 0xC0 == 0x80:
        length += 1
    return length
