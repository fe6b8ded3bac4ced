"""`gate --matrix`: which backends it means, and its table of scenarios by versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from scenarios.backends.interface import SetupError
from scenarios.gate.case import Case, Result
from scenarios.gate.table import COLOURS, Table
from scenarios.gate.work import open_once
from scenarios.matrix import roots

_SHORT = {"not-applicable": "n/a"}
_CELL_COLUMNS = 9


def backends() -> list[str]:
    """The system emulator of every suite, in containers where an engine works, else behind chroot. Raises
    SetupError with the command that builds what is missing."""
    from scenarios.matrix.engine import engine

    suites = list(roots.description().suites)
    lacking = [suite for suite in suites if roots.find(suite) is None]
    if lacking:
        chosen = "" if lacking == suites else "".join(f" --suite {suite}" for suite in lacking)
        raise SetupError(f"not built: {', '.join(lacking)}. Run: goldenfleece matrix build{chosen}")
    try:
        print(f"container engine: {engine().url}", flush=True)
        return [f"container:{suite}" for suite in suites]
    except SetupError as error:
        print(f"no container engine, so chroot: {error}", flush=True)
        return [f"chroot:{suite}" for suite in suites]


class MatrixTable(Table):
    """One row a scenario and method, one column a backend, headed by its version. The cases of a row must
    follow each other."""

    def __init__(self, cases: Sequence[Case], stream: TextIO | None = None) -> None:
        super().__init__(cases, stream)
        self._backends = list(dict.fromkeys(case.backend for case in cases))
        self._row: list[Result] = []

    def head(self) -> None:
        versions = [open_once(name).version for name in self._backends]
        cells = "".join(f"{version:<{_CELL_COLUMNS}}" for version in versions)
        self.line(self._left("scenario", "method", "time") + cells.rstrip(), style="bold")

    def row(self, result: Result) -> None:
        self._row.append(result)
        label = self.next_label()
        if len(self._row) < len(self._backends):
            return
        seconds = sum(each.seconds for each in self._row)
        pieces = [(self._left(label, result.method or "-", f"{seconds:.3f} s"), "")]
        for each in self._row:
            word = _SHORT.get(each.outcome, each.outcome)
            cell = word if each is self._row[-1] else f"{word:<{_CELL_COLUMNS}}"
            pieces.append((cell, COLOURS[each.outcome]))
        self._row.clear()
        self.write(*pieces)

    def _left(self, label: str, method: str, seconds: str) -> str:
        return (
            f"{label:<{max(self.label_columns, 8)}}  {method:<{max(self.method_columns, 6)}}  {seconds:>9}  "
        )
