"""The published JSON Schema: committed as generated, and valid for every spec that we ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scenarios.language import schema
from scenarios.language.loader import find_specs, load_plain
from scenarios.language.tree import read_tree, to_plain

SPECS = Path(__file__).parents[3] / "scenarios" / "specs"
jsonschema = pytest.importorskip("jsonschema")


def validator() -> Any:
    found = schema.schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_the_committed_schema_is_the_generated_one(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite", default=False):
        schema.COMMITTED.write_text(schema.text())
    assert schema.COMMITTED.read_text() == schema.text(), "run this test with --rewrite"


def test_every_spec_is_valid() -> None:
    checker = validator()
    specs = find_specs(SPECS)
    assert len(specs) >= 5
    wrong = [
        f"{path}: {error.json_path}: {error.message}"
        for path in specs
        for error in checker.iter_errors(load_plain(path))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "step",
    [
        "gest: {}",
        "guest: {disk: vda, writ: {}}",
        "guest: {write: {at: 0, length: 64q}}",
        "sleep: 100",
        "sleep: soon",
        "copy: {from: a, client: curl}",
        "{sleep: 1s, end: a}",
        "{}",
        "guest: {write: {at: 0, length: 4k, pattern: 300}}",
        "guest:",
        "line: 3",
    ],
)
def test_a_wrong_step_is_invalid(step: str) -> None:
    found = to_plain(read_tree(f"name: x\nsteps:\n  - {step}\n".encode(), "a.yaml"))
    assert not validator().is_valid(found)


@pytest.mark.parametrize(
    "step",
    [
        "advance: 100ms",
        "end: a",
        "end: {id: a, by: stop-server}",
        "crash:",
        "crash: {restart: false}",
        "hmp: info block",
        "together: [{end: a}, [{sleep: 1s}, {end: b}]]",
        "fleece: {id: a}",
        "guest: {flush: true}",
        "qmp: {execute: x, returns: null}",
        "guest: {disk: vda, write: {at: 64k, length: 0x200, pattern: 0xff}}",
    ],
)
def test_the_short_spellings_are_valid(step: str) -> None:
    found = to_plain(read_tree(f"name: x\nsteps:\n  - {step}\n".encode(), "a.yaml"))
    assert validator().is_valid(found), list(validator().iter_errors(found))
