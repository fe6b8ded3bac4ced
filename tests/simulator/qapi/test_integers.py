"""Numbers from text, by the rules of strtoll, strtoull and QEMU's sizes."""

from __future__ import annotations

import pytest

from simulator.qapi.integers import NumberError, bounds, to_int64, to_size, to_uint64


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        (" 7", 7),
        ("-7", -7),
        ("+7", 7),
        ("0x1F", 31),
        ("-0x10", -16),
        ("010", 8),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_int64(text, value):
    assert to_int64(text) == value


@pytest.mark.parametrize("text", ["", " ", "x", "7 ", "08", "0x", "1.0", "--1", "1_0", "\uff19"])
def test_no_int64(text):
    with pytest.raises(NumberError) as refused:
        to_int64(text)
    assert not refused.value.out_of_range


def test_out_of_range():
    for convert, text in (
        (to_int64, str(2**63)),
        (to_uint64, str(2**64)),
        (to_size, "16E"),
        (to_size, str(2**64)),
    ):
        with pytest.raises(NumberError) as refused:
            convert(text)
        assert refused.value.out_of_range, text


def test_uint64_wraps_as_strtoull_does():
    assert to_uint64("-1") == 2**64 - 1
    assert to_uint64("0xffffffffffffffff") == 2**64 - 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", 1),
        ("512B", 512),
        ("1k", 1024),
        ("1K", 1024),
        ("64M", 64 << 20),
        ("1.5G", 3 << 29),
        ("0x1000", 4096),
        ("1.k", 1024),
        ("1.0B", 1),
        ("0.5k", 512),
        ("2T", 2 << 40),
        ("1P", 1 << 50),
        ("7E", 7 << 60),
        ("1.5E", 3 << 59),
        ("0.0009765625k", 1),
        ("010", 10),
        ("12345", 12345),
        ("0x1E", 30),
    ],
)
def test_size(text, value):
    """tests/unit/test-cutils.c has most of these."""
    assert to_size(text) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "-0", "k", "1.5", "1.5B", "1e3k", "1.5e3k", "0x1.8", "1kB", "1 k", ".5k", "nan"]
)
def test_no_size(text):
    with pytest.raises(NumberError):
        to_size(text)


def test_bounds():
    assert bounds("int8") == (-128, 127)
    assert bounds("uint16") == (0, 65535)
    assert bounds("int64") == (-(2**63), 2**63 - 1)
    assert bounds("size") == bounds("uint64") == (0, 2**64 - 1)
