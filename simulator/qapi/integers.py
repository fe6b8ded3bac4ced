"""QAPI's integer types and how QEMU reads numbers from text (util/cutils.c, 7.2)."""

from __future__ import annotations

INT64_MIN, INT64_MAX, UINT64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_INT_MAX = (1 << 31) - 1

SIGNED_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
UNSIGNED_BITS = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64, "size": 64}

_SUFFIX_SHIFTS = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_SPACES = " \t\n\v\f\r"


def bounds(width: str) -> tuple[int, int]:
    """Smallest and largest value of a width such as "uint16" or "size"."""
    if width in SIGNED_BITS:
        bits = SIGNED_BITS[width]
        return -(1 << bits - 1), (1 << bits - 1) - 1
    return 0, (1 << UNSIGNED_BITS[width]) - 1


def signed64(number: int) -> int:
    """The 64 bits of an unsigned number, read as a signed one."""
    return number - (1 << 64) if number > INT64_MAX else number


class NumberError(ValueError):
    """Text that is no number. `out_of_range`: it is one, but too large (ERANGE rather than EINVAL)."""

    def __init__(self, out_of_range: bool = False) -> None:
        super().__init__("out of range" if out_of_range else "not a number")
        self.out_of_range = out_of_range


def _digits_end(text: str, start: int, base: int) -> int:
    allowed = "0123456789abcdef"[:base]
    end = start
    while end < len(text) and text[end].lower() in allowed:
        end += 1
    return end


def _scan(text: str, base: int) -> tuple[bool, int, int]:
    """(negative, magnitude, where the number ends), as strtoull reads; the end is 0 if there is no number."""
    at = 0
    while at < len(text) and text[at] in _SPACES:
        at += 1
    negative = text[at : at + 1] == "-"
    if text[at : at + 1] in ("+", "-"):
        at += 1
    hexadecimal = text[at : at + 2].lower() == "0x" and _digits_end(text, at + 2, 16) > at + 2
    if base in (0, 16) and hexadecimal:
        at, base = at + 2, 16
    elif base == 0:
        base = 8 if text[at : at + 1] == "0" else 10
    end = _digits_end(text, at, base)
    if end == at:
        return negative, 0, 0
    return negative, int(text[at:end], base), end


def to_int64(text: str) -> int:
    """qemu_strtoi64 of the whole text, base 0: decimal, 0x.. or 0.. octal. Raises NumberError."""
    negative, magnitude, end = _scan(text, 0)
    if end == 0 or end != len(text):
        raise NumberError
    value = -magnitude if negative else magnitude
    if not INT64_MIN <= value <= INT64_MAX:
        raise NumberError(out_of_range=True)
    return value


def to_uint64(text: str) -> int:
    """qemu_strtou64 of the whole text, base 0; a negative number wraps around, as with strtoull."""
    negative, magnitude, end = _scan(text, 0)
    if end == 0 or end != len(text):
        raise NumberError
    if magnitude > UINT64_MAX:
        raise NumberError(out_of_range=True)
    return -magnitude & UINT64_MAX if negative else magnitude


def to_size(text: str) -> int:
    """qemu_strtosz: bytes, with a fraction and a suffix B, K, M, G, T, P or E in either case (powers of
    1024).
    """
    negative, value, end = _scan(text, 10)
    if end == 0 or negative:
        raise NumberError
    if value > UINT64_MAX:
        raise NumberError(out_of_range=end == len(text))
    fraction = 0
    following = text[end : end + 1]
    if value == 0 and following in ("x", "X"):
        _, value, end = _scan(text, 16)
        if value > UINT64_MAX:
            raise NumberError(out_of_range=end == len(text))
        if text[end : end + 1] == ".":
            raise NumberError
    elif following == ".":
        fraction, end = _fraction(text, end)
    shift = _SUFFIX_SHIFTS.get(text[end : end + 1].upper())
    if shift is None:
        shift = 0
    else:
        end += 1
    if shift == 0 and fraction:
        raise NumberError
    size = ((value << 64 | fraction) << shift) + (1 << 63) >> 64 if shift else value
    if end != len(text):
        raise NumberError
    if size > UINT64_MAX:
        raise NumberError(out_of_range=True)
    return size


def _fraction(text: str, dot: int) -> tuple[int, int]:
    """The digits after `dot` as a 64-bit fixed-point fraction, and where they end. An exponent is refused."""
    end = _digits_end(text, dot + 1, 10)
    if end == dot + 1:
        return 0, end
    exponent = text[end : end + 1] in ("e", "E") and text[end + 1 : end + 3].lstrip("+-")[:1].isdigit()
    if exponent:
        raise NumberError
    return int(float("0" + text[dot:end]) * 2.0**64), end


def to_index(text: str) -> tuple[int, int] | None:
    """Leading decimal digits as a list index, capped at INT_MAX, and their number; None if there are none."""
    end = 0
    while end < len(text) and "0" <= text[end] <= "9":
        end += 1
    return (min(int(text[:end]), _INT_MAX), end) if end else None
