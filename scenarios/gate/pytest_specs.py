"""Specs as pytest items, so that -k, -x, --lf, -n and --junitxml work on them; for the root conftest.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scenarios.backends.interface import SetupError
from scenarios.gate.case import SPECS, Case, Result, plan
from scenarios.gate.report import write_reproducer
from scenarios.gate.work import open_once, run_one
from scenarios.language.loader import load_file
from scenarios.language.problems import SpecError

DEFAULT_BACKEND = "sim:7.2"


def is_spec(path: Path) -> bool:
    """YAML below scenarios/specs."""
    return path.suffix == ".yaml" and SPECS in path.parents


def backends(config: pytest.Config) -> list[str]:
    """Names of the backends asked for by --backend and --qemu, the simulator if none."""
    names: list[str] = list(config.getoption("--backend") or [])
    qemu = config.getoption("--qemu")
    if qemu:
        is_version = re.fullmatch(r"[0-9]+(\.[0-9]+)+|rfc-2013", qemu)
        names.append(f"sim:{qemu}" if is_version else f"qemu:{qemu}")
    return list(dict.fromkeys(names)) or [DEFAULT_BACKEND]


def check_backends(config: pytest.Config) -> None:
    """A backend asked for by name that does not work ends the run at once. Raises pytest.UsageError."""
    if config.getoption("--backend") or config.getoption("--qemu"):
        for name in backends(config):
            try:
                open_once(name)
            except SetupError as error:
                raise pytest.UsageError(f"backend {name}: {error}") from None


class SpecFile(pytest.File):
    """One spec file; a file with problems is a collection error that lists them."""

    def collect(self) -> Iterator[SpecItem]:
        try:
            path = self.path.relative_to(Path.cwd())
        except ValueError:
            path = self.path
        try:
            scenario = load_file(path)
        except SpecError as error:
            raise self.CollectError(str(error)) from None
        for case in plan([scenario], backends(self.config), [], self.config.getoption("--seed")):
            name = f"{case.backend}-{case.method}" if case.method else case.backend
            yield SpecItem.from_parent(self, name=name, case=case)


class SpecFailedError(Exception):
    """A run that does not hold."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.findings)
        self.result = result


class SpecItem(pytest.Item):
    """One case."""

    def __init__(self, *, case: Case, **members: Any) -> None:
        super().__init__(**members)
        self.case = case
        # What -k matches besides the path and the name: the words of the spec's own name.
        self.extra_keyword_matches.update(case.scenario.name.split())

    def setup(self) -> None:
        """A backend that does not work is an error, not a failure of the spec."""
        open_once(self.case.backend)

    def runtest(self) -> None:
        result = run_one(self.case)
        if result.outcome == "not-applicable":
            pytest.skip(result.reason)
        if result.outcome == "known":
            pytest.xfail(result.reason)
        if result.outcome != "holds" or result.fixed:
            raise SpecFailedError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The findings, a scenario file that shows them, and the command that repeats this item."""
        if isinstance(excinfo.value, SetupError):
            return f"backend {self.case.backend}: {excinfo.value}"
        if not isinstance(excinfo.value, SpecFailedError):
            return super().repr_failure(excinfo, style)
        result = excinfo.value.result
        lines = [f"{self.case.scenario.name}: {result.outcome}", *result.reason.splitlines()]
        if result.fixed:
            lines.append(f"fixed: take {result.fixed} out of ci/known_differences.toml for this case")
        for finding in result.findings:
            lines += [
                f"{finding.judge}: {finding.explanation}",
                *(f"    {line}" for line in finding.evidence),
            ]
        if result.outcome == "finding":
            lines.append(self._keep(result))
        return "\n".join([*lines, f"repeat: {self._repeat()}"])

    def _keep(self, result: Result) -> str:
        """Write a spec of this case; says where, or why not."""
        try:
            return f"scenario: {write_reproducer(self.case, result)}"
        except (OSError, ValueError) as error:
            return f"no scenario file could be written: {error}"

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.case.label} {self.name}"

    def _repeat(self) -> str:
        words = ["pytest", self.nodeid, "--backend", self.case.backend, "--seed", str(self.case.seed)]
        return " ".join(f"'{word}'" if " " in word else word for word in words)
