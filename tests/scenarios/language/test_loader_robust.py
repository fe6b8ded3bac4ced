"""Whatever stands in a file, the loader gives a Scenario or a SpecError that names a line of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scenarios.language.loader import SpecError, find_specs, load_file, load_text
from scenarios.language.problems import Problem
from scenarios.language.tree import DEEPEST_NESTING, LARGEST_FILE_BYTES

SPECS = [
    path.read_bytes() for path in find_specs(Path(__file__).parents[3] / "scenarios" / "specs" / "basic")
]
PIECES = st.sampled_from(
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"-1",
        b"1e9",
        b"\xff",
        b"'",
        b'"',
        b": ",
        b"- ",
        b"\n",
        b"*a",
        b"&a ",
        b"<<: ",
        b"!!int ",
        b"? ",
        b"steps",
        b"64k",
        b"0x",
        b"{a: {",
        b"2001-01-01",
        b"~",
        b"\t",
        b"9" * 5000,
        b"together: ",
        b"\xef\xbb\xbf",
        b"%",
    ]
)


def loads_or_says_why(source: bytes) -> None:
    problems: list[Problem | None] = []
    try:
        load_text(source, "a.yaml")
    except SpecError as error:
        problems += error.problems or [None]
    last = len(source.decode(errors="replace").splitlines()) + 2
    assert [
        found for found in problems if not found or not 1 <= found.line <= last or not found.message
    ] == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b"? [a]\n: 1\n")
@example(b"name: x\nsteps: [{guest: }]")
@example(b"name: x\nsteps: {}")
@example(b"name: x\ndisks: {vda: }\nsteps: [{guest: {write: {at: }}}]")
@example(b"name: x\ndisks: [a]\nsteps: [[]]")
@example(b"name: x\nsteps: [{together: [[{together: [{end: a}]}], []]}]")
def test_any_bytes(source: bytes) -> None:
    loads_or_says_why(source)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SPECS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 12), PIECES), min_size=1, max_size=4),
)
def test_specs_with_something_wrong_in_them(source: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for at, length, piece in edits:
        source = source[:at] + piece + source[at + length :]
    loads_or_says_why(source)


@pytest.mark.parametrize("spec", SPECS)
def test_the_specs_themselves_load(spec: bytes) -> None:
    """Else the property above would say nothing."""
    load_text(spec)


def problems_of(source: str | bytes) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_text(source, "a.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"", "a.yaml:1: expected a scenario, got an empty file"),
        (b"name: x\nsource: \xff\n", "a.yaml:2: expected UTF-8 text, got the byte 0xff"),
        (
            b"name: [x\n",
            "a.yaml:2: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'",
        ),
        (
            b"name: x\n---\nname: y\n",
            "a.yaml:2: not valid YAML: expected a single document in the stream, but found another document",
        ),
        (b"name: " + b"[" * 100_000, f"a.yaml:1: nested more than {DEEPEST_NESTING} deep"),
        (b"#" * (LARGEST_FILE_BYTES + 1), "a.yaml:1: expected a file of at most 4 MiB, got 4194305 bytes"),
        (
            b"a: &a [*a]\n",
            "a.yaml:1: its aliases make more than 400000 values of it, or one that holds itself",
        ),
    ],
)
def test_what_is_no_yaml_or_too_much_of_it(source: bytes, problem: str) -> None:
    assert problems_of(source) == [problem]


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert problems_of("\n".join(lines)) == [
        "a.yaml:1: its aliases make more than 400000 values of it, or one that holds itself"
    ]


def test_a_file_that_is_not_there(tmp_path: object) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml:1: cannot be read: No such file or directory"):
        load_file(f"{tmp_path}/nowhere.yaml")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_specs(f"{tmp_path}/nowhere.yaml")
