"""Small by rule: lengths of lines, functions and files, and names that say nothing.

Exceptions stand in lists that may only shrink: an entry that is not needed any more is a failure too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LONGEST_LINE = 110
LONGEST_FUNCTION_LINES = 60
LONGEST_TEST_FUNCTION_LINES = 80
LONGEST_FILE_LINES = 400
LONGEST_TEST_FILE_LINES = 700
# A file of tests may say, with its reason, that it holds tables which read better in long lines.
TABLES = "# ruff: noqa: E501 "
# Names that say nothing about what they hold or do.
BANNED_NAMES = frozenset(
    (
        "tmp",
        "foo",
        "bar",
        "baz",
        "misc",
        "utils",
        "util",
        "helper",
        "helpers",
        "stuff",
        "obj",
        "res",
        "thing",
        "do_it",
        "handle_it",
        "my_list",
        "my_dict",
        "common",
    )
)

# "path: what" of each exception, as problems() says it, without the numbers.
EXCEPTIONS: frozenset[str] = frozenset(())


def problems(source: str, path: str) -> Iterator[tuple[str, str]]:
    """(key, words) of each broken rule in one file: key is how EXCEPTIONS names it."""
    lines = source.splitlines()
    is_test = path.startswith("tests/")
    most_lines = LONGEST_TEST_FILE_LINES if is_test else LONGEST_FILE_LINES
    if len(lines) > most_lines:
        yield f"{path}: long file", f"{len(lines)} lines, at most {most_lines}"
    has_tables = is_test and source.startswith(TABLES)
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE and not has_tables and "://" not in line:
            yield f"{path}: long line", f"line {number} has {len(line)} columns, at most {LONGEST_LINE}"
    if re.fullmatch(rf"({'|'.join(BANNED_NAMES)})", Path(path).stem):
        yield f"{path}: name", f"a file called {Path(path).name} could hold anything"
    longest = LONGEST_TEST_FUNCTION_LINES if is_test else LONGEST_FUNCTION_LINES
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > longest:
                yield f"{path}: long function {node.name}", f"{length} lines, at most {longest}"
        for name in _names_made(node):
            if name in BANNED_NAMES:
                yield f"{path}: name {name}", "a name that says nothing"


def _names_made(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    return [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []


def all_problems() -> list[tuple[str, str]]:
    # Only what belongs to the project: environments and build folders may lie beside it.
    files = [ROOT / "conftest.py"]
    files += [
        path for folder in ("simulator", "scenarios", "tests", "ci") for path in (ROOT / folder).rglob("*.py")
    ]
    return [
        problem
        for path in sorted(files)
        for problem in problems(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]


def test_everything_is_tidy() -> None:
    untidy = [f"{key}: {words}" for key, words in all_problems() if key not in EXCEPTIONS]
    assert not untidy, "\n".join(untidy)


def test_every_exception_is_still_needed() -> None:
    assert EXCEPTIONS - {key for key, _ in all_problems()} == set()


@pytest.mark.parametrize(
    ("source", "path", "key"),
    [
        ("x = 1\n" * 401, "simulator/a.py", "simulator/a.py: long file"),
        (f"x = '{'y' * 110}'\n", "ci/a.py", "ci/a.py: long line"),
        ("def f():\n" + "    pass\n" * 60, "scenarios/a.py", "scenarios/a.py: long function f"),
        ("async def f():\n" + "    pass\n" * 60, "scenarios/a.py", "scenarios/a.py: long function f"),
        ("def f():\n" + "    pass\n" * 80, "tests/test_a.py", "tests/test_a.py: long function f"),
        ("tmp = 1\n", "simulator/a.py", "simulator/a.py: name tmp"),
        ("def f(obj): pass\n", "simulator/a.py", "simulator/a.py: name obj"),
        ("def helper(): pass\n", "simulator/a.py", "simulator/a.py: name helper"),
        ("x = 1\n", "simulator/utils.py", "simulator/utils.py: name"),
    ],
)
def test_this_is_seen(source: str, path: str, key: str) -> None:
    assert [found for found, _ in problems(source, path)] == [key]


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("x = 1\n" * 400, "simulator/a.py"),
        ("def f():\n" + "    pass\n" * 59, "simulator/a.py"),
        ("def test_f():\n" + "    pass\n" * 79, "tests/test_a.py"),
        ("# https://example.org/" + "x" * 120 + "\n", "simulator/a.py"),
    ],
)
def test_this_is_allowed(source: str, path: str) -> None:
    assert list(problems(source, path)) == []
