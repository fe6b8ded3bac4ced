"""What `goldenfleece gate`, `run` and `replay` print and return, with a pretended runner and backends."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scenarios import cli
from scenarios.backends.interface import SetupError
from scenarios.gate import report, work
from scenarios.judges.verdict import Finding, Verdict
from scenarios.language.loader import load_file
from scenarios.run.history import ClientRead, GuestOp, History

SPEC = """\
name: {name}
disks:
  vda: {{size: 4M}}
methods: [overlay, snapshot-access]
steps:
  - guest: {{write: {{at: 0, length: 64k, pattern: 0x11}}}}
  - fleece: {{id: monday}}
  - end: monday
"""


class Done(msgspec.Struct):
    """The members of scenarios.run.runner.CaseResult that the gate reads."""

    outcome: str
    seconds: float = 0.25
    reason: str = ""
    verdicts: list[Verdict] = []
    history: History | None = None


def wrong_read() -> Done:
    """A client that read what the guest wrote after T."""
    write = GuestOp(begin=3, end=4, step="1", disk="vda", kind="write", offset=0, length=65536, pattern=0x11)
    read = ClientRead(
        begin=9,
        end=10,
        step="3",
        fleece_id="monday",
        disk="vda",
        client="own",
        offset=0,
        length=65536,
        content=[(0, 65536, 0x22)],
    )
    finding = Finding("monday holds 0x22 at 0, written after its point in time", [write, read])
    history = History(scenario="x", backend="sim:7.2", records=[write, read])
    return Done("finding", verdicts=[Verdict("point_in_time", "invalid", [finding])], history=history)


def run_case(scenario: Any, backend: Any, method: str, seed: int, fresh: bool = True) -> Done:
    if "wrong on qemu" in scenario.name and backend.name == "qemu" and method == "overlay":
        return wrong_read()
    if "no overlay" in scenario.name and method == "overlay":
        return Done("not-applicable", reason="needs a flux capacitor")
    if "explodes" in scenario.name:
        raise ZeroDivisionError("bang")
    if "no machine" in scenario.name:
        raise SetupError("qemu-system-x86_64 never opened its socket")
    return Done("holds", history=History(scenario="x", backend=backend.name, seed=seed))


class PretendedBackend:
    company = None

    def end_shared(self) -> list[str]:
        return ["wanted it to quit, got nothing"] if self.name == "lingering" else []

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = ""

    def probe(self) -> None:
        if self.name == "qemu:/missing":
            raise SetupError("/missing: no such file")


def open_backend(name: str) -> PretendedBackend:
    if name == "teapot":
        raise SetupError("no such backend, known: sim:VERSION, qemu[:PATH]")
    return PretendedBackend(name)


@pytest.fixture(autouse=True)
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a folder of our own, without real machines."""
    runner = types.ModuleType("scenarios.run.runner")
    registry = types.ModuleType("scenarios.backends.registry")
    runner.run_case = run_case  # type: ignore[attr-defined]
    registry.open_backend = open_backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, runner.__name__, runner)
    monkeypatch.setitem(sys.modules, registry.__name__, registry)
    monkeypatch.setattr(work, "_opened", {})
    monkeypatch.setattr(sys, "argv", ["goldenfleece"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)


def spec(name: str) -> str:
    path = Path(f"{name.replace(' ', '_')}.yaml")
    path.write_text(SPEC.format(name=name))
    return str(path)


def outcome(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit status and standard output, runs of spaces and times made plain."""
    status = cli.main(words)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    text = re.sub(r"[0-9]+\.[0-9]+ s", "T s", text)
    return status, re.sub(r"(?<=\S) {2,}", "  ", text)


def test_the_command_to_repeat_is_the_one_that_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert report.program() == ["goldenfleece"]
    monkeypatch.setattr(sys, "argv", [f"{tmp_path}/.venv/bin/goldenfleece", "gate"])
    assert report.program() == [".venv/bin/goldenfleece"]
    monkeypatch.setattr(sys, "argv", ["/opt/bin/goldenfleece", "gate"])
    assert report.program() == ["/opt/bin/goldenfleece"]
    monkeypatch.setattr(sys, "argv", ["/checkout/scenarios/cli.py", "gate"])
    assert report.program() == ["goldenfleece"]


def test_a_shared_machine_that_does_not_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = outcome(capsys, "gate", spec("good"), "--backend", "lingering", "-j", "1")
    assert status == 1
    wrong = "lingering: wanted it to quit, got nothing"
    assert f"\nfinding: the end of a machine that cases had shared: {wrong}\n" in text
    assert text.endswith("FINDING: 1 shared machines did not end as they should on lingering, 1 specs, T s\n")


def test_all_holds(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = outcome(
        capsys, "gate", spec("good"), "--backend", "sim:7.2", "--backend", "qemu", "-j", "2"
    )
    assert (status, text) == (
        0,
        "scenario  backend  method  time  verdict\n"
        "good  sim:7.2  overlay  T s  holds\n"
        "good  qemu  overlay  T s  holds\n"
        "good  sim:7.2  snapshot-access  T s  holds\n"
        "good  qemu  snapshot-access  T s  holds\n"
        "\n"
        "HOLDS: fleecing holds in all 4 runs on sim:7.2, qemu, 1 specs, T s\n",
    )


def test_a_finding_is_explained_and_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    path = spec("wrong on qemu")
    status, text = outcome(capsys, "gate", path, "--backend", "sim:7.2", "--backend", "qemu", "--seed", "5")
    assert status == 1
    rows, _, rest = text.partition("\n\n")
    assert rows.splitlines()[1:] == [
        "wrong_on_qemu  sim:7.2  overlay  T s  holds",
        "wrong_on_qemu  qemu  overlay  T s  finding",
        "wrong_on_qemu  sim:7.2  snapshot-access  T s  holds",
        "wrong_on_qemu  qemu  snapshot-access  T s  holds",
    ]
    file = "goldenfleece-findings/wrong-on-qemu.qemu.overlay.yaml"
    transcript = "goldenfleece-findings/wrong-on-qemu.qemu.overlay.log"
    assert rest == (
        "the same spec, different verdicts:\n"
        "  wrong_on_qemu overlay: holds on sim:7.2, finding on qemu\n"
        "\n"
        "finding: wrong_on_qemu on qemu with overlay\n"
        "  wrong on qemu\n"
        "  point_in_time: monday holds 0x22 at 0, written after its point in time\n"
        "    step 1: guest op disk=vda kind=write length=64k pattern=0x11 (3-4)\n"
        "    step 3: client read fleece_id=monday disk=vda client=own offset=0 length=64k"
        " content=[0+64k 0x22] (9-10)\n"
        f"  scenario: {file}\n"
        f"  transcript: {transcript}\n"
        f"  repeat: goldenfleece replay {file} --backend qemu --method overlay --seed 5\n"
        "\n"
        "FINDING: 1 of 4 runs do not hold on sim:7.2, qemu, 1 specs, T s\n"
    )
    written = load_file(file)
    assert (written.methods, written.seed) == (["overlay"], 5)
    assert [step.verb for step in written.steps] == ["guest", "fleece", "end"]
    assert Path(file).read_text().startswith("# point_in_time: monday holds 0x22")
    told = Path(transcript).read_text().splitlines()
    assert told[0] == "step 1: guest op disk=vda kind=write length=64k pattern=0x11 (3-4)"
    assert len(told) == 2

    status, text = outcome(capsys, "replay", file, "--backend", "qemu", "--method", "overlay", "--seed", "5")
    assert status == 1
    assert text.startswith("step 1: guest op disk=vda kind=write length=64k pattern=0x11 (3-4)\n")
    assert "point_in_time: monday holds 0x22" in text


def test_what_does_not_apply_is_said_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = outcome(capsys, "run", spec("no overlay"))
    assert status == 0
    assert "no_overlay  sim:7.2  overlay  T s  not-applicable\n" in text
    assert "not applicable:\n  sim:7.2: needs a flux capacitor (no_overlay overlay)\n" in text
    assert text.endswith("HOLDS: fleecing holds in all 1 runs on sim:7.2, 1 specs, 1 not applicable, T s\n")


def test_nothing_that_applies_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = outcome(capsys, "run", spec("no overlay"), "--method", "overlay")
    assert status == 2
    assert text.endswith("NOTHING RAN: no case applies on sim:7.2, 1 specs, 1 not applicable, T s\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no machine", "  qemu-system-x86_64 never opened its socket\n"),
        ("explodes", "  goldenfleece itself failed: ZeroDivisionError('bang')\n"),
    ],
)
def test_what_is_broken_is_no_pass(capsys: pytest.CaptureFixture[str], name: str, reason: str) -> None:
    status, text = outcome(capsys, "run", spec(name), spec("good"), "--method", "overlay")
    assert status == 2
    assert f"broken: {name.replace(' ', '_')} on sim:7.2 with overlay\n{reason}" in text
    assert text.endswith("BROKEN: 1 runs could not be judged, 1 hold on sim:7.2, 2 specs, T s\n")


def test_results_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    path = spec("wrong on qemu")
    status, _ = outcome(capsys, "gate", path, "--backend", "qemu", "--json", "x.jsonl")
    lines = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    assert status == 1
    assert [(line["method"], line["outcome"]) for line in lines] == [
        ("overlay", "finding"),
        ("snapshot-access", "holds"),
    ]
    assert lines[0]["findings"][0]["judge"] == "point_in_time"
    assert {line["spec"] for line in lines} == {path}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "good.yaml", "--backend", "teapot"],
            "backend teapot: no such backend, known: sim:VERSION, qemu[:PATH]",
        ),
        (
            ["gate", "good.yaml", "--backend", "qemu:/missing"],
            "backend qemu:/missing: /missing: no such file",
        ),
        (["run", "nowhere.yaml"], "nowhere.yaml:1: no such file or folder"),
        (["run", "bad.yaml"], 'bad.yaml:1: "name" is missing'),
        (["run", "good.yaml", "--json", "/nowhere/x"], "--json /nowhere/x: No such file or directory"),
        (["run", "."], 'bad.yaml:1: "name" is missing'),
        (["run", "empty"], "no spec to run in empty"),
    ],
)
def test_the_user_s_errors_are_one_message(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    spec("good")
    Path("bad.yaml").write_text("steps: [{sleep: 1s}]\n")
    Path("empty").mkdir()
    assert outcome(capsys, *words) == (2, f"goldenfleece: {message}\n")


def test_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["run"], ["run", "x", "--method", "magic"], ["gate", "-j", "0"], ["schema", "x"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 2
    assert "usage: goldenfleece schema" in capsys.readouterr().err


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"  {name} " not in listed] == []
    assert cli.main(["gaet"]) == 2
    assert capsys.readouterr().err.startswith("goldenfleece: unknown command 'gaet'\n")
    assert cli.main([]) == 2
    assert capsys.readouterr().out == ""
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "goldenfleece scenario"


def test_a_fault_of_our_own_is_no_finding(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenarios.gate.command.plan", lambda *_: 1 / 0)
    status, text = outcome(capsys, "run", spec("good"))
    assert status == 2
    assert "ZeroDivisionError" in text
    assert text.endswith("goldenfleece: this is a fault of goldenfleece itself, please report it\n")


def test_a_gate_tells_which_real_qemu_it_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Path("programs")
    programs.mkdir()
    (programs / "qemu-storage-daemon").write_text("#!/bin/sh\n")
    (programs / "qemu-storage-daemon").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs.resolve()))
    status, text = outcome(capsys, "gate", spec("good"))
    assert status == 0
    assert text.splitlines()[:2] == [
        "real QEMU: qemu-system-x86_64 is not in PATH: no qemu backend",
        f"real QEMU: qemu-storage-daemon found at {programs.resolve()}/qemu-storage-daemon",
    ]
    assert text.endswith("holds in all 4 runs on sim:7.2, storage-daemon, 1 specs, T s\n")
