"""What a player takes down, on the simulator, as its backends need nothing else; sessions that are wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scenarios.backends.interface import SetupError
from scenarios.backends.registry import open_backend
from scenarios.backends.watched_monitor import InProcessMonitor
from scenarios.conformance.normal import Normaliser
from scenarios.conformance.play import play
from scenarios.conformance.session import load_file


def played(tmp_path: Path, text: str, backend: str = "sim:7.2") -> list[list[dict[str, object]]]:
    path = tmp_path / "theme.yaml"
    path.write_text(text)
    [source] = load_file(path)
    return play(source, open_backend(backend))


SESSION = """
a name:
  disks: {vda: {size: 1M}}
  attach: device
  steps:
    - stop
    - guest: {disk: vda, write: [0, 64k, 0x11]}
    - guest: {disk: vda, verify: [0, 64k, 0x12]}
    - send: {execute: query-name, id: [1]}
    - raw: "\\xff"
    - blockdev-add: {driver: null-co, node-name: n, size: 1048576}
    - blockdev-backup: {device: vda, target: n, sync: none, job-id: j}
    - wait: {event: JOB_STATUS_CHANGE, data: {status: running}}
    - quit
    - query-name
"""


@pytest.mark.parametrize("backend", ["sim:7.2", "sim-process:7.2"])
def test_each_step_has_its_own_messages_and_none_follows_the_end(tmp_path: Path, backend: str) -> None:
    greeting, stop, write, verify, named, stray, _, backup, quitting = played(tmp_path, SESSION, backend)
    assert list(greeting[0]) == ["QMP"]
    assert greeting[1] == {"return": {}}
    assert stop == [{"return": {}}]
    assert write == [{"result": {}}]
    assert verify == [{"result": {"equal": False}}]
    assert named == [{"return": {}, "id": [1]}]
    assert [list(message) for message in stray] == [["error"]]
    assert {"event": "JOB_STATUS_CHANGE", "data": {"id": "j", "status": "running"}} in backup
    assert quitting[-1] == {"ended": 0}


def test_made_up_names_are_numbered_as_they_appear_and_the_directory_is_none() -> None:
    normal = Normaliser("/tmp/run-1")
    assert normal.value(["#block123", {"#block9": "/tmp/run-1/a"}, "#block123 is"]) == [
        "#block:1",
        {"#block:2": "DIRECTORY/a"},
        "#block:1 is",
    ]
    stamped = {"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}
    assert normal.message(stamped) == {"event": "STOP"}
    assert normal.message({"timestamp": 7, "event": "STOP"}) == {"timestamp": 7, "event": "STOP"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {steps: [{a: {}, b: {}}]}", "theme/a: step 1: expected one command or verb, got a, b"),
        ("a: {steps: [{}]}", "expected one command or verb, got nothing"),
        ("a: {steps: [{sleep: soon}]}", "sleep: expected a duration such as 10ms, got 'soon'"),
        ("a: {steps: [{guest: {write: [x, 1]}}]}", "expected a number of bytes such as 64k, got 'x'"),
        ("a: {step: []}", "theme.yaml: "),
        ("a: {steps: [], attach: zork}", "theme.yaml: "),
    ],
)
def test_a_session_that_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SetupError) as raised:
        played(tmp_path, text)
    assert said in str(raised.value)


def test_a_table_of_statistics_keeps_its_columns_and_not_its_times() -> None:
    """As 11.1 prints it: how long requests took is the host's, how many there were and how big is not."""
    row = "Write:                    65536                1                    91526          0\r\n"
    flush = "Flush:                                         2                     4711\r\n"
    told = Normaliser("/run").value(f"vda:\r\n{row}{flush}")
    assert told == "vda:\r\n" + row.replace("91526", " HOST") + flush.replace("4711", "HOST")


HANGING = """
a name:
  disks: {vda: {size: 1M}}
  steps:
    - drive-backup: {device: vda, target: none.img, sync: full, mode: existing, job-id: j}
    - device_add: {driver: virtio-blk-pci, id: d, drive: vda}
    - query-jobs
    - query-status
"""


def test_a_hang_that_is_foreseen_is_not_waited_for_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreseen = played(tmp_path, HANGING, "sim:5.2")
    assert foreseen[2:] == [[{"silence": True}]] * 3
    # Long enough to be told from the other on any host.
    monkeypatch.setattr("scenarios.conformance.play.REPLY_NS", 300_000_000_000)
    monkeypatch.setattr("scenarios.conformance.play._HOPELESS_NS", 500_000_000)
    [source] = load_file(tmp_path / "theme.yaml")
    began = time.monotonic()
    assert play(source, open_backend("sim-process:5.2"), foreseen=foreseen) == foreseen
    assert time.monotonic() - began < 300


def test_a_machine_that_hung_once_is_not_waited_for_as_long_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "theme.yaml"
    path.write_text(HANGING)
    [source] = load_file(path)
    monkeypatch.setattr("scenarios.conformance.play.REPLY_NS", 100_000_000)
    monkeypatch.setattr("scenarios.conformance.play._HOPELESS_NS", 50_000_000)
    backend = open_backend("sim:5.2")
    waited: list[int] = []
    more = InProcessMonitor.more

    async def noted(monitor: InProcessMonitor, timeout_ns: int) -> bool:
        waited.append(timeout_ns)
        return await more(monitor, timeout_ns)

    monkeypatch.setattr(InProcessMonitor, "more", noted)
    assert play(source, backend, foreseen=[])[2:] == [[{"silence": True}]] * 3
    assert [each for each in waited if each in (100_000_000, 50_000_000)][-3:] == [
        100_000_000, 50_000_000, 50_000_000,
    ]  # fmt: skip
