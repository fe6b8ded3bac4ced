"""The table of a gate's cases: live on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from scenarios.gate.case import Case, Result

COLOURS = {
    "holds": "green",
    "finding": "bold red",
    "known": "yellow",
    "not-applicable": "dim",
    "broken": "bold magenta",
}


class Table:
    """Prints one row a case in the order given. As a context manager it keeps a line of progress on a
    terminal."""

    def __init__(self, cases: Sequence[Case], stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._total = len(cases)
        self.label_columns = max((len(case.label) for case in cases), default=0)
        self._backend_columns = max((len(case.backend) for case in cases), default=0)
        self.method_columns = max((len(case.method or "-") for case in cases), default=0)
        self._labels = [case.label for case in cases]
        self._next = 0
        self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def __enter__(self) -> Table:
        self.head()
        if self._console.is_terminal:
            # Refreshed by hand: a thread that refreshes would be copied half by the forks of the pool.
            self._live = Live(Text(""), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def head(self) -> None:
        """Print the line above the rows."""
        self.line(self._columns("scenario", "backend", "method", "time", "verdict"), style="bold")

    def next_label(self) -> str:
        """Of the case whose result is the next one."""
        self._next += 1
        return self._labels[self._next - 1]

    def row(self, result: Result) -> None:
        """Take the next case's result, and print its row; results must come in the order of the cases."""
        label = self.next_label()
        seconds = f"{result.seconds:.3f} s"
        text = Text(self._columns(label, result.backend, result.method or "-", seconds, ""))
        text.append(result.outcome, style=COLOURS[result.outcome])
        self.write(text)

    def progress(self, done: int, running: Sequence[Case]) -> None:
        """Show how far it is and what is running. Nothing where there is no terminal."""
        if self._live:
            names = ", ".join(f"{case.label} ({case.backend} {case.method})" for case in running)
            line = Text(f"{done}/{self._total}  {names}", style="cyan", overflow="ellipsis", no_wrap=True)
            self._live.update(line, refresh=True)

    def line(self, text: str = "", style: str = "") -> None:
        """A line of text of its own."""
        self.write(Text(text, style=style))

    def write(self, text: Text) -> None:
        if self._console.is_terminal:
            self._console.print(text)
        else:
            print(text.plain, file=self._stream, flush=True)

    def _columns(self, label: str, backend: str, method: str, seconds: str, verdict: str) -> str:
        return (
            f"{label:<{max(self.label_columns, 8)}}  {backend:<{max(self._backend_columns, 7)}}  "
            f"{method:<{max(self.method_columns, 6)}}  {seconds:>9}  {verdict}"
        )
