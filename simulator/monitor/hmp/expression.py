"""Numbers of the human monitor are expressions, as in C: sums of products of sums of values
(monitor/hmp.c:get_expr, 7.2)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BITS = 64
_MASK = (1 << _BITS) - 1
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class ExpressionError(Exception):
    """str() is what the monitor prints, without the line end."""


def evaluate(text: str) -> tuple[int, str]:
    """(the value of the expression that the text begins with, what follows). Raises ExpressionError."""
    reader = _Reader(text)
    value = reader.sum()
    return _signed(value), reader.rest


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << _BITS) if value >> (_BITS - 1) else value


def _divided(one: int, other: int) -> int:
    """C's, towards zero."""
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) == (other < 0) else -quotient


class _Reader:
    def __init__(self, text: str) -> None:
        self.rest = text

    def _next(self) -> None:
        self.rest = self.rest[1:].lstrip()

    def _several(self, operators: dict[str, Callable[[int, int], int]], operand: Callable[[], int]) -> int:
        value = operand()
        while self.rest[:1] in operators and self.rest:
            operator = self.rest[0]
            self._next()
            other = operand()
            if operator in "/%" and other == 0:
                raise ExpressionError("division by zero")
            value = _signed(operators[operator](value, other))
        return value

    def sum(self) -> int:
        return self._several({"+": int.__add__, "-": int.__sub__}, self._logical)

    def _logical(self) -> int:
        return self._several({"&": int.__and__, "|": int.__or__, "^": int.__xor__}, self._product)

    def _product(self) -> int:
        def remainder(one: int, other: int) -> int:
            return one - _divided(one, other) * other

        return self._several({"*": int.__mul__, "/": _divided, "%": remainder}, self._unary)

    def _unary(self) -> int:
        letter = self.rest[:1]
        if letter and letter in "+-~":
            self._next()
            value = self._unary()
            return {"+": value, "-": _signed(-value), "~": ~value}[letter]
        if letter == "(":
            self._next()
            value = self.sum()
            if self.rest[:1] != ")":
                raise ExpressionError("')' expected")
            self._next()
            return value
        if letter == "'":
            return self._character()
        if letter == "$":
            # There is no processor whose registers have values.
            raise ExpressionError("unknown register")
        if not letter:
            raise ExpressionError("unexpected end of expression")
        return self._number()

    def _character(self) -> int:
        letter, closing = self.rest[1:2], self.rest[2:3]
        if not letter:
            raise ExpressionError("character constant expected")
        if closing != "'":
            raise ExpressionError("missing terminating ' character")
        self.rest = self.rest[2:]
        self._next()
        return ord(letter)

    def _number(self) -> int:
        """strtoull with base 0."""
        text = self.rest
        base, start = 10, 0
        if text[0] == "0":
            base, start = (16, 2) if text[1:2].lower() == "x" and _is_digit(text[2:3], 16) else (8, 0)
        end = start
        while _is_digit(text[end : end + 1], base):
            end += 1
        if end == start:
            raise ExpressionError(f"invalid char '{text[0]}' in expression")
        value = int(text[start:end], base)
        if value > _MASK:
            raise ExpressionError("number too large")
        self.rest = text[end:].lstrip()
        return _signed(value)


def _is_digit(letter: str, base: int) -> bool:
    return bool(letter) and letter.lower() in _DIGITS[:base]
