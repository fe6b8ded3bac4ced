"""The table of a gate's cases: live on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from scenarios.gate.case import Case, Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

Piece = tuple[str, str]  # text and its style

COLOURS = {
    "holds": "green",
    "finding": "bold red",
    "known": "yellow",
    "not-applicable": "dim",
    "broken": "bold magenta",
}


def _console(stream: TextIO) -> Console | None:
    """None where there is no terminal, and what is for terminals need not be loaded."""
    if not stream.isatty() and "FORCE_COLOR" not in os.environ:
        return None
    from rich.console import Console

    console = Console(file=stream, highlight=False, soft_wrap=True)
    return console if console.is_terminal else None


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
        self._console = _console(self._stream)
        self._live: Live | None = None

    def __enter__(self) -> Table:
        self.head()
        if self._console is not None:
            from rich.live import Live

            # Refreshed by hand: a thread that refreshes would be copied half by the forks of the pool.
            self._live = Live("", console=self._console, auto_refresh=False, transient=True)
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
        left = self._columns(label, result.backend, result.method or "-", seconds, "")
        self.write((left, ""), (result.outcome, COLOURS[result.outcome]))

    def progress(self, done: int, running: Sequence[Case]) -> None:
        """Show how far it is and what is running. Nothing where there is no terminal."""
        if self._live:
            from rich.text import Text

            names = ", ".join(f"{case.label} ({case.backend} {case.method})" for case in running)
            line = Text(f"{done}/{self._total}  {names}", style="cyan", overflow="ellipsis", no_wrap=True)
            self._live.update(line, refresh=True)

    def line(self, text: str = "", style: str = "") -> None:
        """A line of text of its own."""
        self.write((text, style))

    def write(self, *pieces: Piece) -> None:
        """A line."""
        if self._console is not None:
            from rich.text import Text

            self._console.print(Text.assemble(*pieces))
        else:
            print("".join(text for text, _ in pieces), file=self._stream, flush=True)

    def _columns(self, label: str, backend: str, method: str, seconds: str, verdict: str) -> str:
        return (
            f"{label:<{max(self.label_columns, 8)}}  {backend:<{max(self._backend_columns, 7)}}  "
            f"{method:<{max(self.method_columns, 6)}}  {seconds:>9}  {verdict}"
        )
