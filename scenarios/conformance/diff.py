"""`goldenfleece diff`: one spec on two backends, and where the two histories part first, side by side."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from scenarios.backends.interface import SetupError
from scenarios.backends.registry import open_backend
from scenarios.conformance.compare import unlike
from scenarios.conformance.normal import Normaliser
from scenarios.language.loader import load_file
from scenarios.run.history import History
from scenarios.run.runner import run_case

_BEFORE = 4
_AFTER = 3
# When it was is no difference, nor how many ticks of the clock others took.
_TIMES = ("begin", "end", "time_ns", "type")
_NARROWEST = 100


def main(argv: Sequence[str]) -> int:
    """0: equal; 1: they part; 2: usage, or a backend that cannot run the spec."""
    parser = argparse.ArgumentParser(
        prog="goldenfleece diff", description="Run one spec on two backends and print the first difference."
    )
    parser.add_argument("spec", type=Path, metavar="SPEC")
    parser.add_argument("--backend", action="append", default=[], metavar="NAME", help="given twice")
    parser.add_argument("--method", help="which method, where the spec has several (default: its first)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if len(options.backend) != 2:
        parser.error(f"expected --backend twice, got it {len(options.backend)} times")
    scenario = load_file(options.spec)
    method = options.method or (scenario.methods[0] if scenario.methods else "")
    sides = []
    for name in options.backend:
        result = run_case(scenario, open_backend(name), method, options.seed)
        if result.history is None:
            raise SetupError(f"{options.spec} cannot be run on {name}: {result.reason}")
        sides.append(told(result.history))
    where = first_difference(*sides)
    if where is None:
        print(f"equal: {len(sides[0])} records on {' and '.join(options.backend)}")
        return 0
    width = max(_NARROWEST, shutil.get_terminal_size().columns)
    print("\n".join(side_by_side(options.backend, sides, where, width)))
    return 1


def told(history: History) -> list[dict[str, Any]]:
    """The records of a run as plain objects, without what no two runs share."""
    normal = Normaliser(history.directory)
    records = []
    for record in history.of_both():
        plain = json.loads(msgspec.json.encode(record, enc_hook=repr))
        members = {key: normal.value(value) for key, value in plain.items() if key not in _TIMES}
        records.append({"record": type(record).__name__, **members})
    return records


def first_difference(left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]) -> int | None:
    """The index of the first record that differs, or that only one has."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


def side_by_side(
    names: Sequence[str], sides: Sequence[Sequence[dict[str, Any]]], at: int, width: int
) -> list[str]:
    """Some records before, which are equal, and then both sides' own."""
    before = sides[0][max(0, at - _BEFORE) : at]
    lines = [f"  {textwrap.shorten(_line(record), width - 2, placeholder=' ...')}" for record in before]
    lines = [f"the first {at} records are equal, the last of them:", *lines, ""] if at else []
    half = (width - 3) // 2
    lines += [f"{names[0]:<{half}} | {names[1]}", f"{'-' * half}-+-{'-' * half}"]
    for index in range(at, at + _AFTER):
        both = [_wrapped(side[index], half) if index < len(side) else ["(nothing)"] for side in sides]
        for row in range(max(map(len, both))):
            cells = [column[row] if row < len(column) else "" for column in both]
            lines.append(f"{cells[0]:<{half}} | {cells[1]}".rstrip())
        lines.append(f"{'-' * half}-+-{'-' * half}")
    if all(at < len(side) for side in sides) and sides[0][at]["record"] == sides[1][at]["record"]:
        lines += ["", f"in {names[1]}, {unlike(sides[0][at], sides[1][at], '$')}"]
    return lines


def _line(record: dict[str, Any]) -> str:
    """Such as "QmpEvent name=STOP"."""
    members = " ".join(f"{key}={_value(value)}" for key, value in record.items() if key != "record")
    return f"{record['record']} {members}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _wrapped(record: dict[str, Any], width: int) -> list[str]:
    """A record's members, one below the other."""
    lines = [record["record"]]
    for key, value in record.items():
        if key != "record":
            lines += textwrap.wrap(f"  {key}: {_value(value)}", width, subsequent_indent="    ") or [""]
    return lines
