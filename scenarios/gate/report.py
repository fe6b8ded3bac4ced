"""What a gate says after its table: reasons, differences, findings, how to repeat them, and one line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from scenarios.gate.case import Case, Result
from scenarios.gate.table import Table
from scenarios.language.writer import write

FINDINGS = Path("goldenfleece-findings")

HOLDS, FINDING, BROKEN = 0, 1, 2


def exit_status(results: Sequence[Result], last_words: Sequence[str] = ()) -> int:
    """1 if there is a finding; else 2 if anything is broken or nothing could run at all; else 0.
    `last_words`: what was wrong with the ends of machines that cases had shared."""
    outcomes = {result.outcome for result in results}
    if "finding" in outcomes or last_words:
        return FINDING
    return HOLDS if outcomes & {"holds", "known"} and "broken" not in outcomes else BROKEN


def verdict_line(results: Sequence[Result], seconds: float, last_words: Sequence[str] = ()) -> str:
    """The last line of a gate; `last_words` as in `exit_status`."""
    count: Counter[str] = Counter(result.outcome for result in results)
    ran = count["holds"] + count["finding"] + count["known"]
    backends = ", ".join(dict.fromkeys(result.backend for result in results))
    specs = len({result.spec for result in results})
    skipped = f", {count['not-applicable']} not applicable" if count["not-applicable"] else ""
    tail = f" on {backends}, {specs} specs{skipped}, {seconds:.1f} s"
    if count["finding"]:
        broken = f", {count['broken']} broken" if count["broken"] else ""
        return f"FINDING: {count['finding']} of {ran} runs do not hold{broken}{tail}"
    if last_words:
        return f"FINDING: {len(last_words)} shared machines did not end as they should{tail}"
    if count["broken"]:
        return f"BROKEN: {count['broken']} runs could not be judged, {count['holds']} hold{tail}"
    if not ran:
        return f"NOTHING RAN: no case applies{tail}"
    exceptions = f" but {count['known']} known findings" if count["known"] else ""
    return f"HOLDS: fleecing holds in all {ran} runs{exceptions}{tail}"


def differences(cases: Sequence[Case], results: Sequence[Result]) -> list[str]:
    """Specs whose verdict is not the same on all the backends that ran them."""
    verdicts: dict[tuple[str, str], dict[str, str]] = {}
    for case, result in zip(cases, results, strict=True):
        if result.outcome in ("holds", "finding", "known"):
            verdicts.setdefault((case.label, case.method), {})[case.backend] = result.outcome
    lines = []
    for (label, method), by_backend in verdicts.items():
        if len(set(by_backend.values())) > 1:
            words = ", ".join(f"{outcome} on {backend}" for backend, outcome in by_backend.items())
            lines.append(f"{label} {method}".rstrip() + f": {words}")
    return lines


def tell(table: Table, cases: Sequence[Case], results: Sequence[Result], folder: Path = FINDINGS) -> None:
    """Print everything that needs saying after the rows, and write a spec file for each finding."""
    _tell_not_applicable(table, cases, results)
    for line in _titled("the same spec, different verdicts", differences(cases, results)):
        table.line(line)
    _tell_known(table, cases, results)
    for case, result in zip(cases, results, strict=True):
        if result.outcome == "finding":
            _tell_finding(table, case, result, folder)
        elif result.outcome == "broken":
            table.line()
            table.line(f"broken: {_title(case)}", style="bold magenta")
            for line in result.reason.splitlines():
                table.line(f"  {line}")
            table.line(f"  repeat: {repeat_command(case, case.scenario.path)}")


def _tell_not_applicable(table: Table, cases: Sequence[Case], results: Sequence[Result]) -> None:
    by_reason: dict[str, list[str]] = {}
    for case, result in zip(cases, results, strict=True):
        if result.outcome == "not-applicable":
            by_reason.setdefault(f"{case.backend}: {result.reason}", []).append(
                f"{case.label} {case.method}".rstrip()
            )
    lines = [f"{reason} ({', '.join(names)})" for reason, names in by_reason.items()]
    for line in _titled("not applicable", lines):
        table.line(line)


def _tell_known(table: Table, cases: Sequence[Case], results: Sequence[Result]) -> None:
    by_reason: dict[str, list[str]] = {}
    fixed: list[str] = []
    for case, result in zip(cases, results, strict=True):
        if result.outcome == "known":
            by_reason.setdefault(result.reason, []).append(_title(case))
        if result.fixed:
            fixed.append(f"{result.fixed}: {_title(case)}")
    lines = []
    for reason, titles in by_reason.items():
        lines += [reason, *(f"  {title}" for title in titles)]
    for line in _titled("known findings", lines):
        table.line(line)
    for line in _titled("fixed: known findings that did not show", fixed):
        table.line(line)


def _tell_finding(table: Table, case: Case, result: Result, folder: Path) -> None:
    table.line()
    table.line(f"finding: {_title(case)}", style="bold red")
    table.line(f"  {case.scenario.name}")
    for finding in result.findings:
        first, *rest = finding.explanation.splitlines() or [""]
        table.line(f"  {finding.judge}: {first}")
        for line in [*rest, *finding.evidence]:
            table.line(f"    {line}")
    if result.reason and not result.findings:
        table.line(f"  {result.reason}")
    if result.company is not None:
        before = list(dict.fromkeys(result.company))
        table.line(
            f"  in a machine of its own it holds; before it, this one had run {len(before)} other specs"
        )
        table.line(f"  repeat in one machine: {repeat_together(case, before)}")
    path = Path(case.scenario.path)
    try:
        path = write_reproducer(case, result, folder)
        table.line(f"  scenario: {path}")
        if result.story:
            table.line(f"  transcript: {write_transcript(result, path)}")
    except (OSError, ValueError) as error:
        table.line(f"  no file of it could be written: {error}")
    table.line(f"  repeat: {repeat_command(case, path)}")


def write_reproducer(case: Case, result: Result, folder: Path = FINDINGS) -> Path:
    """A spec of this one case below `folder`, with what was found as its comment. Raises OSError,
    ValueError."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{case.label}.{case.backend}.{case.method}".rstrip("."))
    path = folder / f"{name.strip('-')}.yaml"
    only: list[str] = [case.method] if case.method else []
    scenario = msgspec.structs.replace(case.scenario, methods=only, seed=case.seed)
    comment = [f"{finding.judge}: {finding.explanation}" for finding in result.findings]
    comment.append(f"repeat: {repeat_command(case, path)}")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(write(scenario, comment="\n".join(comment)), encoding="utf-8")
    return path


def write_transcript(result: Result, reproducer: Path) -> Path:
    """All that happened in the run, one line a record, beside its scenario file. Raises OSError."""
    path = reproducer.with_suffix(".log")
    path.write_text("\n".join([*result.story, ""]), encoding="utf-8")
    return path


def repeat_command(case: Case, path: str | Path) -> str:
    """The one command that runs this case again."""
    words = [*program(), "replay", str(path), "--backend", case.backend]
    words += ["--method", case.method] if case.method else []
    return shlex.join([*words, "--seed", str(case.seed)])


def repeat_together(case: Case, before: Sequence[str]) -> str:
    """The one command that runs this case again after those specs, in one machine."""
    words = [*program(), "run", *before, case.scenario.path, "--backend", case.backend, "-j", "1"]
    return shlex.join([*words, "--seed", str(case.seed)])


def program() -> list[str]:
    """How goldenfleece can be started again from here: as it was, where that was by its own name."""
    started = Path(sys.argv[0])
    if started.name != "goldenfleece" or shutil.which("goldenfleece") == str(started):
        return ["goldenfleece"]
    inside = os.path.relpath(started)
    return [str(started) if inside.startswith("..") else inside]


def _title(case: Case) -> str:
    return f"{case.label} on {case.backend}" + (f" with {case.method}" if case.method else "")


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []
