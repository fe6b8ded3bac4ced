"""pytest runs the specs: each YAML file below scenarios/specs, one item a backend and method."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from scenarios.gate.pytest_specs import SpecFile, check_backends, is_spec


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("goldenfleece")
    group.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="run specs on this backend: sim:VERSION, sim-process:VERSION, qemu[:PATH], "
        "storage-daemon[:PATH], container:IMAGE, chroot:SUITE; may be given more than once "
        "(default: sim:7.2)",
    )
    group.addoption(
        "--qemu",
        metavar="PATH|VERSION",
        help="short for --backend qemu:PATH, or --backend sim:VERSION",
    )
    group.addoption("--seed", type=int, default=0, help="the seed of specs that name none (default: 0)")
    group.addoption(
        "--rewrite",
        action="store_true",
        help="write the files that tests compare with (schema, transcripts of real QEMU) instead of "
        "comparing; read the difference before you commit it",
    )


def pytest_configure(config: pytest.Config) -> None:
    check_backends(config)


LONGEST_MESSAGE = 200


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The summary names each failed test in a line: whoever keeps only the end of a log must find them all.

    pytest leaves messages whole where CI is set, and a comparison of contents fills thousands of lines.
    """
    report = yield
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = crash.message.partition("\n")[0][:LONGEST_MESSAGE]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables that tests filled with record_property("cell", [title, row, column, text])."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties:
            if name == "cell":
                title, row, column, text = value
                tables.setdefault(title, {}).setdefault(row, {})[column] = text
    for title, rows in sorted(tables.items()):
        columns = sorted({column: None for cells in rows.values() for column in cells})
        widths = [
            max(len(column), *(len(cells.get(column, "-")) for cells in rows.values())) for column in columns
        ]
        first = max(map(len, rows))
        terminalreporter.section(title)
        for row, texts in [
            ("", columns),
            *((row, [rows[row].get(name, "-") for name in columns]) for row in sorted(rows)),
        ]:
            line = "  ".join(f"{text:{width}}" for text, width in zip(texts, widths, strict=True))
            terminalreporter.write_line(f"{row:{first}}  {line}".rstrip())


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SpecFile | None:
    if is_spec(file_path):
        return SpecFile.from_parent(parent, path=file_path)
    return None
