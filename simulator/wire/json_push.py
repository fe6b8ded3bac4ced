"""QEMU's JSON parser that is handed one token at a time: a message's first error is told when its token
comes, with the line and column where the token begins, and the rest of the message is passed over.

Observed with QEMU 11.1.3, whose texts differ from those in json_values.py.
"""

from __future__ import annotations

from simulator.wire.json_lexer import Grouping
from simulator.wire.json_values import (
    MAX_ERROR_BYTES,
    TOKEN_CLOSE_BRACE,
    TOKEN_CLOSE_BRACKET,
    TOKEN_COLON,
    TOKEN_COMMA,
    TOKEN_OPEN_BRACE,
    TOKEN_OPEN_BRACKET,
    TOKEN_STRING,
    ParseError,
    parse_error,
    parse_scalar,
    parse_string,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_VALUE, _KEY, _COLON, _SEPARATOR = range(
    4
)  # what has to come next; where it is a separator, the end may come
_OPENED = {TOKEN_OPEN_BRACE: _KEY, TOKEN_OPEN_BRACKET: _VALUE}
_CLOSING: dict[type, int] = {dict: TOKEN_CLOSE_BRACE, list: TOKEN_CLOSE_BRACKET}
_WANTED: dict[type, str] = {dict: "expected ',' or '}'", list: "expected ',' or ']'"}


class Pushed(Grouping):
    """Parses as tokens come."""

    __slots__ = ("_is_passing_over", "_keys", "_open", "_wanted")

    LONGEST_COMPLAINT = MAX_ERROR_BYTES  # observed

    def start_message(self) -> None:
        super().start_message()
        self._open: list[Any] = []  # containers, outermost first
        self._keys: list[str] = []  # one for each open object: the member that waits for its value
        self._wanted = _VALUE
        self._is_passing_over = False

    def take(self, kind: int, token: bytes, start: tuple[int, int], messages: list[object]) -> None:
        complaint = self.count(kind, token)
        if not self._is_passing_over:
            if complaint is not None:
                self._refuse(ParseError(complaint), messages)
            else:
                try:
                    self._push(kind, token, messages)
                except ParseError as error:
                    self._refuse(_placed(error, start), messages)
        if self.is_balanced:
            # A bracket too many ends what is passed over, too.
            self.start_message()

    def stray(self, error: ParseError, start: tuple[int, int], messages: list[object]) -> None:
        if not self._is_passing_over:
            messages.append(_placed(error, start))
        self.start_message()

    def end(self, start: tuple[int, int], messages: list[object]) -> None:
        if not self._is_passing_over:
            messages.append(_placed(parse_error("premature end of input"), start))
        self.start_message()

    def _refuse(self, error: ParseError, messages: list[object]) -> None:
        messages.append(error)
        self._is_passing_over = True
        self._open.clear()
        self._keys.clear()

    def _push(self, kind: int, token: bytes, messages: list[object]) -> None:
        """Raises ParseError."""
        wanted, innermost = self._wanted, self._open[-1] if self._open else None
        container: type = type(innermost)
        if wanted == _SEPARATOR:
            if kind == _CLOSING[container]:
                self._close(messages)
            elif kind == TOKEN_COMMA:
                self._wanted = _KEY if isinstance(innermost, dict) else _VALUE
            else:
                raise parse_error(_WANTED[container])
        elif wanted == _COLON:
            if kind != TOKEN_COLON:
                raise parse_error("expecting ':'")
            self._wanted = _VALUE
        elif wanted == _KEY:
            if kind == TOKEN_STRING:
                self._keys[-1] = parse_string(token)
                self._wanted = _COLON
            elif kind == TOKEN_CLOSE_BRACE and not innermost:
                self._close(messages)
            else:
                raise parse_error("expecting key")
        elif kind in _OPENED:
            self._open.append({} if kind == TOKEN_OPEN_BRACE else [])
            if kind == TOKEN_OPEN_BRACE:
                self._keys.append("")
            self._wanted = _OPENED[kind]
        elif kind == TOKEN_CLOSE_BRACKET and innermost == []:
            self._close(messages)
        else:
            self._give(parse_scalar(kind, token), messages)

    def _close(self, messages: list[object]) -> None:
        value = self._open.pop()
        if isinstance(value, dict):
            self._keys.pop()
        self._give(value, messages)

    def _give(self, value: object, messages: list[object]) -> None:
        """Hand a finished value to the innermost open container, or out. Raises ParseError."""
        if not self._open:
            messages.append(value)
            return
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            key = self._keys[-1]
            if key in container:
                raise parse_error("duplicate key")
            container[key] = value
        self._wanted = _SEPARATOR


def _placed(error: ParseError, start: tuple[int, int]) -> ParseError:
    line, column = start
    return ParseError(f"{line}:{column}: {error.desc}")
