"""Who may import whom, and what may decide nothing in the simulator: time, chance, the order of sets."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down: each may import those that stand after it, and itself.
LAYERS = (
    "__main__",
    "serve",
    "image_tool",
    "machine",
    "monitor",
    "versions",
    "jobs",
    "block",
    "qapi",
    "wire",
    "engine",
)
# What is only named in annotations (under TYPE_CHECKING) may stand above, in these cases: commands are handed
# the machine they act on; jobs and the graph are handed the values of a version.
TYPE_ONLY_UPWARDS = frozenset((("monitor", "machine"), ("jobs", "versions"), ("block", "versions")))
HOST_MODULES = frozenset(
    (
        "time",
        "datetime",
        "random",
        "secrets",
        "uuid",
        "socket",
        "select",
        "selectors",
        "threading",
        "asyncio",
        "multiprocessing",
        "concurrent",
        "subprocess",
        "signal",
    )
)
HOST_CALLS = frozenset(("id", "hash"))


def layer_of(path: Path) -> str:
    """simulator/block/node.py -> block, simulator/machine.py -> machine."""
    parts = path.relative_to(ROOT / "simulator").with_suffix("").parts
    return parts[0]


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                around = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*around, base]).rstrip(".")
            yield node.lineno, base
            if base == "simulator":
                yield from ((node.lineno, f"simulator.{alias.name}") for alias in node.names)


def problems_of_simulator(source: str, layer: str, package: str = "simulator") -> list[str]:
    """Everything in one file of the simulator that its layer forbids: "LINE: what"."""
    tree = ast.parse(source)
    type_only = set(_type_only_lines(tree))
    found = [
        f"{line}: {problem}"
        for line, module in imported(tree, package)
        if (problem := _problem_of_import(module, layer, line in type_only))
    ]
    if layer != "serve":
        found += [f"{line}: {problem}" for line, problem in _host_dependent(tree)]
    return found


def _type_only_lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.body:
                yield from range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)


def _problem_of_import(module: str, layer: str, type_only: bool) -> str:
    top, _, rest = module.partition(".")
    if top == "simulator":
        target = rest.partition(".")[0]
        if not target or (type_only and (layer, target) in TYPE_ONLY_UPWARDS):
            return ""
        if target not in LAYERS:
            return f"{target} is not in the list of layers"
        return (
            f"{layer} imports {target}, which is above it"
            if LAYERS.index(target) < LAYERS.index(layer)
            else ""
        )
    if top not in sys.stdlib_module_names:
        return f"imports {top}, which is not in the standard library"
    if top in HOST_MODULES and layer not in ("serve", "__main__"):
        return f"imports {top}"
    if top == "typing" and not type_only:
        return "imports typing, a sixth of the time to start: put it under TYPE_CHECKING = False"
    return ""


def _host_dependent(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in HOST_CALLS:
            yield node.lineno, f"calls {node.func.id}()"
        if isinstance(node, ast.Attribute) and node.attr == "urandom":
            yield node.lineno, "uses os.urandom"
        for iterated in _iterated(node):
            if _is_set(iterated):
                yield iterated.lineno, "iterates over a set, whose order is not defined"


def _iterated(node: ast.AST) -> list[ast.expr]:
    """What a for loop, a comprehension, list(), tuple(), enumerate() or *unpacking goes through."""
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
        return [generator.iter for generator in node.generators]
    if isinstance(node, ast.Starred):
        return [node.value]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("list", "tuple", "enumerate")
    ):
        return node.args[:1]
    return []


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp):
        return _is_set(node.left) or _is_set(node.right)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", sources("simulator"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_simulator_keeps_its_layers(path: Path) -> None:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    assert problems_of_simulator(path.read_text(encoding="utf-8"), layer_of(path), package) == []


def test_an_executable_starts_without_typing_regular_expressions_and_json() -> None:
    """Nor does anything need them that it imports on the way to its greeting: each takes milliseconds."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import simulator.serve.main"
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", f"{start}; print(*sys.modules)"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert not {"typing", "re", "json"} & set(ran.stdout.split())


def test_every_part_of_the_simulator_is_a_layer() -> None:
    parts = {layer_of(path) for path in sources("simulator")} - {"__init__"}
    assert parts <= set(LAYERS)


def test_the_language_and_the_judges_know_nothing_of_what_runs() -> None:
    """Judging is apart from running: only scenarios/backends, run, gate and record may import a backend."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for folder in ("scenarios/language", "scenarios/judges")
        for path in sources(folder)
        for line, module in imported(ast.parse(path.read_text(encoding="utf-8")), "scenarios")
        if module.startswith(("scenarios.backends", "scenarios.gate", "simulator.machine", "simulator.serve"))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "layer", "problem"),
    [
        ("import simulator.monitor.session", "block", "1: block imports monitor, which is above it"),
        ("from simulator.serve import sockets", "machine", "1: machine imports serve, which is above it"),
        ("from simulator import machine", "jobs", "1: jobs imports machine, which is above it"),
        (
            "def f():\n    from simulator.jobs.job import Job",
            "block",
            "2: block imports jobs, which is above it",
        ),
        ("from ..jobs import job", "block", "1: block imports jobs, which is above it"),
        (
            "if TYPE_CHECKING:\n    from simulator.machine import Machine",
            "block",
            "2: block imports machine, which is above it",
        ),
        ("from simulator.machine import Machine", "monitor", "1: monitor imports machine, which is above it"),
        ("import simulator.misc", "block", "1: misc is not in the list of layers"),
        ("import msgspec", "qapi", "1: imports msgspec, which is not in the standard library"),
        (
            "from scenarios.run import runner",
            "serve",
            "1: imports scenarios, which is not in the standard library",
        ),
        ("import time", "engine", "1: imports time"),
        (
            "from typing import TYPE_CHECKING",
            "serve",
            "1: imports typing, a sixth of the time to start: put it under TYPE_CHECKING = False",
        ),
        ("from random import choice", "engine", "1: imports random"),
        ("import os\nos.urandom(4)", "wire", "2: uses os.urandom"),
        ("x = id(x)", "block", "1: calls id()"),
        ("x = hash('a')", "block", "1: calls hash()"),
        ("for x in {1, 2}: pass", "block", "1: iterates over a set, whose order is not defined"),
        ("[x for x in set(y)]", "block", "1: iterates over a set, whose order is not defined"),
        ("y = list(set(y) - {1})", "block", "1: iterates over a set, whose order is not defined"),
        ("y = [*frozenset(y)]", "block", "1: iterates over a set, whose order is not defined"),
    ],
)
def test_this_is_seen(source: str, layer: str, problem: str) -> None:
    assert problems_of_simulator(source, layer, f"simulator.{layer}") == [problem]


@pytest.mark.parametrize(
    ("source", "layer"),
    [
        ("import simulator.engine.task", "block"),
        ("from simulator.block.node import Node", "block"),
        ("import socket, time", "serve"),
        ("for x in sorted({1, 2}): pass", "block"),
        ("from . import node", "block"),
        ("if TYPE_CHECKING:\n    from simulator.machine import Machine", "monitor"),
        ("if TYPE_CHECKING:\n    from typing import Any", "serve"),
        ("import json, os", "wire"),
    ],
)
def test_this_is_allowed(source: str, layer: str) -> None:
    assert problems_of_simulator(source, layer, f"simulator.{layer}") == []
