"""QEMU's JSON tokens as a table, and the grouping of tokens into messages.

Facts: qobject/json-lexer.c and qobject/json-streamer.c, 7.2. Only malformed, partial or unusual
input comes here (json_stream.py takes the rest), so this module may import `re`.

A state has a row of 256 targets. A target below `LOOKAHEAD` consumes the byte; one with the bit leaves it for
the next state. Bytes that lead from a state to itself are taken in one bite by the pattern in `_RUNS`.
"""

from __future__ import annotations

import re

from simulator.wire.json_place import Place
from simulator.wire.json_values import TOKEN_CLOSE_BRACE as CLOSE_BRACE
from simulator.wire.json_values import TOKEN_CLOSE_BRACKET as CLOSE_BRACKET
from simulator.wire.json_values import TOKEN_COLON as COLON
from simulator.wire.json_values import TOKEN_COMMA as COMMA
from simulator.wire.json_values import TOKEN_FLOAT as FLOAT
from simulator.wire.json_values import TOKEN_INTEGER as INTEGER
from simulator.wire.json_values import TOKEN_KEYWORD as KEYWORD
from simulator.wire.json_values import TOKEN_OPEN_BRACE as OPEN_BRACE
from simulator.wire.json_values import TOKEN_OPEN_BRACKET as OPEN_BRACKET
from simulator.wire.json_values import TOKEN_STRING as STRING
from simulator.wire.json_values import ParseError, decode_modified_utf8, parse_error, parse_tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

MAX_MESSAGE_BYTES = 64 << 20  # bytes of all tokens of one message; also of one token
MAX_TOKENS = 2 << 20
MAX_NESTING = 1 << 10

LOOKAHEAD = 0x80
ERROR = 0  # not a state: reported, then RECOVERY
(
    START,
    RECOVERY,
    DOUBLE_QUOTED,
    DOUBLE_QUOTED_ESCAPE,
    SINGLE_QUOTED,
    SINGLE_QUOTED_ESCAPE,
    SIGN,
    ZERO,
    DIGITS,
    FRACTION,
    FRACTION_DIGITS,
    EXPONENT,
    EXPONENT_SIGN,
    EXPONENT_DIGITS,
    WORD,
) = range(1, 16)

_DIGIT = b"0123456789"
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_STRUCTURAL = b"[]{}:,"
_IN_STRING = bytes(range(0x20, 0xFE))


def _row(default: int, *exceptions: tuple[bytes, int]) -> bytes:
    row = bytearray([default]) * 256
    for some_bytes, target in exceptions:
        for byte in some_bytes:
            row[byte] = target
    return bytes(row)


# What each byte does in each state. Whatever is not named is an error.
TABLE: dict[int, bytes] = {
    START: _row(
        ERROR,
        (b" \t\r\n", START),
        (b'"', DOUBLE_QUOTED),
        (b"'", SINGLE_QUOTED),
        (b"-", SIGN),
        (b"0", ZERO),
        (b"123456789", DIGITS),
        (_LOWER, WORD),
        (b"{", OPEN_BRACE),
        (b"}", CLOSE_BRACE),
        (b"[", OPEN_BRACKET),
        (b"]", CLOSE_BRACKET),
        (b":", COLON),
        (b",", COMMA),
    ),
    RECOVERY: _row(
        RECOVERY,
        (bytes(byte for byte in range(0x20) if byte != 0x09), START | LOOKAHEAD),
        (_STRUCTURAL + b"\xfe\xff", START | LOOKAHEAD),
    ),
    DOUBLE_QUOTED: _row(ERROR, (_IN_STRING, DOUBLE_QUOTED), (b"\\", DOUBLE_QUOTED_ESCAPE), (b'"', STRING)),
    DOUBLE_QUOTED_ESCAPE: _row(ERROR, (_IN_STRING, DOUBLE_QUOTED)),
    SINGLE_QUOTED: _row(ERROR, (_IN_STRING, SINGLE_QUOTED), (b"\\", SINGLE_QUOTED_ESCAPE), (b"'", STRING)),
    SINGLE_QUOTED_ESCAPE: _row(ERROR, (_IN_STRING, SINGLE_QUOTED)),
    SIGN: _row(ERROR, (b"0", ZERO), (b"123456789", DIGITS)),
    ZERO: _row(INTEGER | LOOKAHEAD, (_DIGIT, ERROR), (b".", FRACTION)),
    DIGITS: _row(INTEGER | LOOKAHEAD, (_DIGIT, DIGITS), (b".", FRACTION), (b"eE", EXPONENT)),
    FRACTION: _row(ERROR, (_DIGIT, FRACTION_DIGITS)),
    FRACTION_DIGITS: _row(FLOAT | LOOKAHEAD, (_DIGIT, FRACTION_DIGITS), (b"eE", EXPONENT)),
    EXPONENT: _row(ERROR, (b"+-", EXPONENT_SIGN), (_DIGIT, EXPONENT_DIGITS)),
    EXPONENT_SIGN: _row(ERROR, (_DIGIT, EXPONENT_DIGITS)),
    EXPONENT_DIGITS: _row(FLOAT | LOOKAHEAD, (_DIGIT, EXPONENT_DIGITS)),
    WORD: _row(KEYWORD | LOOKAHEAD, (_LOWER, WORD)),
}

_RUNS = {
    state: re.compile(
        b"[" + b"".join(re.escape(bytes([byte])) for byte in range(256) if row[byte] == state) + b"]*"
    )
    for state, row in TABLE.items()
    if state in row
}


class Grouping:
    """What becomes of tokens; made once for each stream. Subclasses make messages of them."""

    __slots__ = ("_braces", "_brackets", "_count", "_size")

    # Bytes of what is said of a stray token; the rest is cut off.
    LONGEST_COMPLAINT: ClassVar[int | None] = None

    def __init__(self) -> None:
        self.start_message()

    def start_message(self) -> None:
        """Forget the message that is open."""
        self._braces = self._brackets = self._count = self._size = 0

    @property
    def idle(self) -> bool:
        """Whether no message is open."""
        return not self._count

    @property
    def size_bytes(self) -> int:
        """Of all tokens of the message so far."""
        return self._size

    @property
    def is_balanced(self) -> bool:
        """Whether the message ends here: with its last bracket, or with one too many."""
        braces, brackets = self._braces, self._brackets
        return braces < 0 or brackets < 0 or braces == brackets == 0

    def count(self, kind: int, token: bytes) -> str | None:
        """Note a token of the message; which limit it breaks, in QEMU's words."""
        if kind == OPEN_BRACE:
            self._braces += 1
        elif kind == CLOSE_BRACE:
            self._braces -= 1
        elif kind == OPEN_BRACKET:
            self._brackets += 1
        elif kind == CLOSE_BRACKET:
            self._brackets -= 1
        self._count += 1
        if self._size + len(token) + 1 > MAX_MESSAGE_BYTES:
            return "JSON token size limit exceeded"
        if self._count > MAX_TOKENS:
            return "JSON token count limit exceeded"
        if self._braces + self._brackets > MAX_NESTING:
            return "JSON nesting depth limit exceeded"
        self._size += len(token)
        return None

    def take(self, kind: int, token: bytes, start: tuple[int, int], messages: list[object]) -> None:
        """A token, and the line and column where it begins. Values and errors go to `messages`."""
        raise NotImplementedError

    def stray(self, error: ParseError, start: tuple[int, int], messages: list[object]) -> None:
        """Bytes that are no token: the message they are in ends."""
        raise NotImplementedError

    def end(self, start: tuple[int, int], messages: list[object]) -> None:
        """The input ends in the midst of a message."""
        raise NotImplementedError


class Collected(Grouping):
    """A message's tokens are kept until it is whole (qobject/json-streamer.c, 7.2)."""

    __slots__ = ("_tokens",)

    def start_message(self) -> None:
        super().start_message()
        self._tokens: list[tuple[int, bytes]] = []

    def take(self, kind: int, token: bytes, start: tuple[int, int], messages: list[object]) -> None:
        complaint = self.count(kind, token)
        if complaint is not None:
            self.stray(ParseError(complaint), start, messages)
            return
        self._tokens.append((kind, token))
        if self.is_balanced:
            self.end(start, messages)

    def stray(self, error: ParseError, start: tuple[int, int], messages: list[object]) -> None:
        messages.append(error)
        self.start_message()

    def end(self, start: tuple[int, int], messages: list[object]) -> None:
        try:
            messages.append(parse_tokens(self._tokens))
        except ParseError as error:
            messages.append(error)
        self.start_message()


class JsonLexer:
    """Bytes in any chunks -> values and errors, in order. `idle` between messages, when nothing is held."""

    __slots__ = ("_grouping", "_place", "_start", "_state", "_token")

    def __init__(self, grouping: Grouping, place: Place) -> None:
        """`place` is where the first byte to come is."""
        self._state = START
        self._token = bytearray()
        self._grouping = grouping
        self._place = place
        self._start = place.at(b"", 0)

    @property
    def idle(self) -> bool:
        return self._state == START and self._grouping.idle

    @property
    def held_bytes(self) -> int:
        """Of the message that is open: its tokens, and what has come of the next one."""
        return len(self._token) + self._grouping.size_bytes

    def feed(self, data: bytes, messages: list[object]) -> None:
        """Append what `data` completes to `messages`: values, or ParseError."""
        position, end, token = 0, len(data), self._token
        if self.idle:
            self._start = self._place.at(data, 0)
        while position < end:
            state = self._state
            run = _RUNS.get(state)
            if run is not None:
                stop = run.match(data, position).end()  # type: ignore[union-attr]
                if state > RECOVERY:
                    stop = min(stop, position + MAX_MESSAGE_BYTES + 1 - len(token))
                    token += data[position:stop]
                    if len(token) > MAX_MESSAGE_BYTES:
                        self._finish_token(state, messages)
                        self._state = START
                if self._state == START and stop > position:
                    self._start = self._place.at(data, stop)
                position = stop
                if position == end or self._state != state:
                    continue
            target = TABLE[state][data[position]]
            if target < LOOKAHEAD:
                token.append(data[position])
                position += 1
            self._move(target & ~LOOKAHEAD, messages)
            if self._state == START:
                # A byte that is left for the next state has been counted already: QEMU tells the token that
                # begins with it one column too far to the right.
                self._start = self._place.at(data, position + (target >= LOOKAHEAD))
        self._place.leave(data, end)

    def flush(self, messages: list[object]) -> None:
        """The input ends here: finish the number or word that is open, complain about anything else
        that is.
        """
        while self._state != START:
            # Zero bytes end every token; in the other states they are an error, after which
            # RECOVERY ends too.
            self._move(TABLE[self._state][0] & ~LOOKAHEAD, messages)
            self._start = self._place.at(b"", 1)
        if not self._grouping.idle:
            self._grouping.end(self._start, messages)

    def _move(self, target: int, messages: list[object]) -> None:
        if target >= STRING:
            self._finish_token(target, messages)
            self._state = START
        elif target == ERROR:
            stray = bytes(self._token).partition(b"\0")[0]
            words = (b"stray '" + stray + b"'")[: self._grouping.LONGEST_COMPLAINT]
            error = parse_error(decode_modified_utf8(words))
            self._grouping.stray(error, self._start, messages)
            self._token.clear()
            self._state = RECOVERY
        else:
            if target <= RECOVERY:
                self._token.clear()
            self._state = target

    def _finish_token(self, kind: int, messages: list[object]) -> None:
        token = bytes(self._token)
        self._token.clear()
        self._grouping.take(kind, token, self._start, messages)
