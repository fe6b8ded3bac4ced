"""Contents as runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.run.content import cut, join, runs_of

PIECES = st.lists(
    st.tuples(st.integers(0, 255), st.integers(1, 200)) | st.binary(min_size=1, max_size=90), max_size=12
)


def expand(runs):
    return b"".join(bytes([value]) * length if isinstance(value, int) else value for _, length, value in runs)


@given(PIECES, st.integers(0, 1 << 40))
def test_runs_hold_every_byte_once_and_in_order(pieces, offset):
    payload = b"".join(each if isinstance(each, bytes) else bytes([each[0]]) * each[1] for each in pieces)
    runs = runs_of(payload, offset)
    assert expand(runs) == payload
    at = offset
    for start, length, value in runs:
        assert start == at
        assert isinstance(value, int) or len(value) == length
        at += length


@given(PIECES, st.integers(0, 500), st.integers(0, 500))
def test_a_cut_is_the_slice(pieces, start, length):
    payload = b"".join(each if isinstance(each, bytes) else bytes([each[0]]) * each[1] for each in pieces)
    assert expand(cut(runs_of(payload), start, start + length)) == payload[start : start + length]


@pytest.mark.parametrize(
    ("payload", "runs"),
    [
        (b"", []),
        (b"\0" * 100, [(0, 100, 0)]),
        (b"\1" * 3 + b"\2" * 5, [(0, 3, 1), (3, 5, 2)]),
        (bytes(3 << 20), [(0, 3 << 20, 0)]),
        (bytes(1 << 20) + b"\7" * 65536, [(0, 1 << 20, 0), (1 << 20, 65536, 7)]),
    ],
)
def test_uniform_stretches_are_one_run(payload, runs):
    assert runs_of(payload) == runs


def test_what_touches_and_is_equal_is_joined():
    assert join([(0, 4, 1), (4, 4, 1), (9, 1, 1), (10, 1, b"x")]) == [(0, 8, 1), (9, 1, 1), (10, 1, b"x")]
