"""Cases in a random order, in machines that others have used, end as each does in a machine of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scenarios import cli
from scenarios.backends.interface import Backend
from scenarios.backends.machine_at_rest import Rest
from scenarios.backends.shared_machine import can_share
from scenarios.gate import work
from scenarios.gate.case import SPECS, Case, Result, load_specs, plan
from scenarios.language.loader import load_text
from scenarios.language.steps import Scenario
from scenarios.run import clean_up

ROOT = Path(__file__).parents[3]

LEAVES_A_NODE = """
name: leaves a node
disks: {vda: {size: 1M}}
steps:
  - qmp: {execute: blockdev-add, arguments: {driver: null-co, node-name: extra, size: 65536}}
"""
USES_THE_NAME = LEAVES_A_NODE.replace("leaves a node", "uses the name") + (
    "  - qmp: {execute: blockdev-del, arguments: {node-name: extra}}\n"
)

HANGS_S = 15


@pytest.fixture(autouse=True)
def own_backends(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Backends of this test alone, whose machines end with it."""
    monkeypatch.setattr(work, "_opened", {})
    yield
    work.end_shared()


def backend_of(name: str) -> Backend:
    return work.open_once(name)


def case(text: str, backend: str = "qemu") -> Case:
    scenario = load_text(text)
    return Case(msgspec.structs.replace(scenario, path=f"{scenario.name}.yaml"), backend, "", 0)


def verdict(result: Result) -> tuple[str, list[str], str]:
    """What must not depend on the machine."""
    return result.outcome, sorted(finding.judge for finding in result.findings), result.fixed


# ---------------------------------------------------------------- the library


@pytest.mark.parametrize("name", ["sim:7.2", "qemu", "storage-daemon"])
def test_the_library_in_a_random_order(name: str) -> None:
    """All that can share; what cannot has a machine of its own either way, and what hangs ends its machine.
    The order is a new one every time, and of a real machine another half of the library."""
    seed = random.SystemRandom().randrange(10**6)
    planned = [each for each in plan(load_specs([SPECS]), [name], [], 0) if can_share(each.scenario)]
    if not name.startswith("sim:"):
        planned = random.Random(seed).sample(planned, len(planned) // 2)
    results = [(each, work.run_one(each)) for each in planned]
    cases = [(each, verdict(result)) for each, result in results if result.seconds < HANGS_S]
    assert {"holds", "known"} <= {outcome for _, (outcome, _, _) in cases}
    assert len(cases) > 0.9 * len(planned)
    shared_with_others = 0
    for each, fresh in random.Random(seed).sample(cases, len(cases)):
        result = work.run_shared(each)
        assert verdict(result) == fresh, f"random:{seed}, {each.label}: {result}"
        shared_with_others += bool(backend_of(name).company)
    # A known defect that ends its machine makes the next case the first in another.
    assert name.startswith("sim:") or shared_with_others > len(cases) / 2
    assert work.end_shared() == []


# ---------------------------------------------------------------- leaks


def test_what_the_machine_told_others_is_not_taken_for_ones_own() -> None:
    """A request that was suspended under that name, in a scenario before."""
    suspends = "name: x\ndisks: {vda: {size: 1M}}\nsteps:\n  - fault: {disk: vda, suspend: held}\n"
    write = "{guest: {write: {at: 0, length: 4k}}}"
    first = f"{suspends}  - together: [{write}, {{fault: {{resume: held}}}}]\n"
    then = f"{suspends}  - together: [[{{sleep: 300ms}}, {write}], {{fault: {{resume: held}}}}]\n"
    for text in (first, then, first):
        assert verdict(work.run_shared(case(text))) == ("holds", [], "")
    assert len(backend_of("qemu").company or ()) == 2


def test_what_is_left_is_found_and_nobody_else_gets_that_machine() -> None:
    result = work.run_shared(case(LEAVES_A_NODE))
    assert [finding.judge for finding in result.findings] == ["nothing_left"]
    assert result.company is None  # it shows in a machine of its own, too
    assert verdict(work.run_shared(case(USES_THE_NAME))) == ("holds", [], "")
    assert backend_of("qemu").company == ()


def test_a_leak_that_nothing_looks_for_shows_in_a_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for what is left is taken out; then the order decides who finds the node."""

    async def see_nothing(*arguments: Any) -> list[Any]:
        return []

    monkeypatch.setattr(clean_up, "_observe", see_nothing)
    monkeypatch.setattr(Rest, "differences", see_nothing)
    cases = [case(LEAVES_A_NODE), *(case(USES_THE_NAME) for _ in range(3))]
    assert all(work.run_one(each).outcome == "holds" for each in cases)
    found = []
    for seed in range(3):
        order = random.Random(seed).sample(cases, len(cases))
        found += [result for result in map(work.run_shared, order) if result.outcome == "finding"]
        work.end_shared()
    assert found
    for result in found:
        assert result.name == "uses the name"
        assert "Duplicate nodes with node-name='extra'" in result.findings[0].explanation
        assert result.company is not None
        assert "leaves a node.yaml" in result.company


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ("object-add, arguments: {qom-type: secret, id: sec0, data: abc}", "object qom-list /objects"),
        ("system_powerdown", None),
    ],
)
def test_state_of_any_kind_is_compared(changes: str, told: str | None) -> None:
    """No judge knows of these: the machine's own answers tell."""
    spec = f"name: changes\ndisks: {{vda: {{size: 1M}}}}\nsteps:\n  - qmp: {{execute: {changes}}}\n"
    result = work.run_one(case(spec), fresh=False)
    explained = [finding.explanation for finding in result.findings]
    assert [told is not None and told in each for each in explained] == ([True] if told else [])


def test_a_finding_of_a_shared_machine_alone_is_told_with_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def see_nothing(*arguments: Any) -> list[Any]:
        return []

    monkeypatch.setattr(clean_up, "_observe", see_nothing)
    monkeypatch.setattr(Rest, "differences", see_nothing)
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(LEAVES_A_NODE)
    Path("b.yaml").write_text(USES_THE_NAME)
    assert cli.main(["run", "a.yaml", "b.yaml", "--backend", "qemu", "-j", "1"]) == 1
    said = capsys.readouterr().out
    assert "in a machine of its own it holds; before it, this one had run 1 other specs" in said
    assert "run a.yaml b.yaml --backend qemu -j 1 --seed 0" in said
    assert cli.main(["run", "a.yaml", "b.yaml", "--backend", "qemu", "-j", "1", "--fresh"]) == 0


# ---------------------------------------------------------------- ends of machines


def shared_pid(backend: Any) -> int:
    (machine,) = backend._shared.values()
    return int(machine._host._child.pid)


def test_a_machine_that_dies_between_two_cases_is_told_of() -> None:
    assert work.run_shared(case(USES_THE_NAME)).outcome == "holds"
    os.kill(shared_pid(backend_of("qemu")), signal.SIGKILL)
    result = work.run_shared(case(USES_THE_NAME))
    assert result.outcome == "finding"
    assert result.company == ["uses the name.yaml"]
    assert "wanted a machine that others have used to take the scenario's disks" in str(result.findings)
    assert work.run_shared(case(USES_THE_NAME)).outcome == "holds"


def test_a_finding_ends_the_machine_that_showed_it_and_no_other() -> None:
    backend: Any = backend_of("qemu")
    two_disks = USES_THE_NAME.replace("{vda: {size: 1M}}", "{vda: {size: 1M}, vdb: {size: 1M}}")
    work.run_shared(case(two_disks))
    wrong = "name: wrong\ndisks: {vda: {size: 1M}}\nsteps: [nbd: {export: x, flush: true}]\n"
    work.run_shared(case(USES_THE_NAME))
    assert work.run_one(case(wrong), fresh=False).outcome == "finding"
    assert [kind.disks for kind in backend._shared] == [("vda", "vdb")]


def test_a_machine_that_does_not_end_well_is_told_of() -> None:
    work.run_shared(case(USES_THE_NAME))
    os.kill(shared_pid(backend_of("qemu")), signal.SIGABRT)
    (words,) = work.end_shared()
    assert words.startswith("qemu: wanted exit status 0, got -6; standard error: (nothing)")


def test_a_case_that_takes_too_long_ends_the_machine() -> None:
    backend: Any = backend_of("qemu")
    backend.scenario_ns = 300_000_000
    text = USES_THE_NAME + "  - sleep: 60s\n"
    result = work.run_one(case(text), fresh=False)
    assert "scenario 'uses the name' to end" in result.findings[0].explanation
    assert backend._shared == {}
    assert work.run_one(case(USES_THE_NAME), fresh=False).outcome == "holds"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_gate_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    """The machines that wait for more cases end too."""
    (tmp_path / "quick.yaml").write_text(USES_THE_NAME)
    (tmp_path / "slow.yaml").write_text(USES_THE_NAME + "  - sleep: 60s\n")
    command = [sys.executable, "-m", "scenarios.cli", "run", str(tmp_path), "--backend", "qemu", "-j", "2"]
    # A short path: sockets are below it.
    place = Path(tempfile.mkdtemp())
    gate = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell hands down that interrupts are ignored.
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
    )
    try:
        assert gate.stdout is not None
        while "holds" not in gate.stdout.readline():
            assert gate.poll() is None
        time.sleep(0.3)
        gate.send_signal(sent)
        assert gate.wait(20) != 0
    finally:
        gate.kill()
        gate.communicate()
        left = list(place.iterdir())
        shutil.rmtree(place)
    assert left == []


# ---------------------------------------------------------------- who may share, in which order


@pytest.mark.parametrize(
    ("head", "steps", "may"),
    [
        ("", "[sleep: 1ms]", True),
        ('leaves: ["file:COPY.raw"]', "[sleep: 1ms]", True),
        ('leaves: ["node:extra"]', "[sleep: 1ms]", False),
        ("attach: drive", "[sleep: 1ms]", False),
        ("guest: linux", "[sleep: 1ms]", True),
        ("", "[quit: {}]", False),
        ("", "[together: [sleep: 1ms, crash: {}]]", False),
        ("", "[fault: {stop: 1ms}]", True),
        ("", "[fault: {monitor: vanish}]", False),
        ("", "[qmp: {execute: query-blockstats}]", False),
        ("", "[hmp: {line: info  blockstats}]", False),
        ("methods: [overlay]", "[fleece: {id: a}]", True),
        ("methods: [overlay]", "[fleece: {id: a, room: 1M}]", False),
    ],
)
def test_who_may_share(head: str, steps: str, may: bool) -> None:
    text = f"name: x\ndisks: {{vda: {{size: 1M}}}}\n{head}\nsteps: {steps}\n"
    assert can_share(load_text(text)) is may


def test_without_a_way_to_move_its_devices_a_machine_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = backend_of("qemu")
    with_disk = load_text(USES_THE_NAME)
    assert backend.can_share(with_disk)
    monkeypatch.setattr(backend, "_found", frozenset())
    assert not backend.can_share(with_disk)
    assert backend.can_share(Scenario(name="no disk"))


def test_the_order_is_random_and_the_rows_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(SPECS / "basic"), "--backend", "sim:7.2", "-j", "1", "--order"]
    assert cli.main([*words, "random:7"]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first == "order: random:7"
    assert cli.main(words[:-1]) == 0
    usual = capsys.readouterr().out.splitlines()
    assert [row.split()[:3] for row in rows] == [row.split()[:3] for row in usual]
    assert cli.main([*words, "random"]) == 0
    assert capsys.readouterr().out.startswith("order: random:")


@pytest.mark.parametrize("wrong", ["random:", "random:x", "sorted"])
def test_an_order_that_there_is_not(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "x.yaml", "--order", wrong])
    assert f"expected random or random:SEED, got {wrong!r}" in capsys.readouterr().err
