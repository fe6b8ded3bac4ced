"""What takes agree on is compared exactly, what they differ in as a set; what no take had is a difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.backends.interface import SetupError
from scenarios.conformance import recording
from scenarios.conformance.command import main as record_sessions
from scenarios.conformance.compare import difference_of, differences
from scenarios.conformance.recording import Expected, merge
from scenarios.conformance.session import SessionSource, Step
from scenarios.language.steps import Scenario

DONE = {"return": {}}
GREETING = [{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 5}}}}]


def event(status: str) -> dict[str, object]:
    return {"event": "JOB_STATUS_CHANGE", "data": {"id": "j", "status": status}}


def source(*said: str) -> SessionSource:
    steps = [Step("send", {"execute": command}) for command in said]
    return SessionSource("theme/a name", Scenario(name="theme/a name"), True, steps, "digest")


def merged(*takes: list[dict[str, object]]) -> Expected:
    return merge(source("stop"), "5.2.0", [[GREETING, take] for take in takes]).steps[1]


def test_what_all_takes_agree_on_is_expected_in_that_order() -> None:
    step = merged([event("paused"), DONE], [event("paused"), DONE])
    assert step.expect == [event("paused"), DONE]
    assert difference_of(step, [event("paused"), DONE]) == ""
    assert "message 1" in difference_of(step, [DONE, event("paused")])
    assert "message 2 did not come" in difference_of(step, [event("paused")])
    assert "one too many" in difference_of(step, [event("paused"), DONE, DONE])


def test_where_the_order_varies_it_is_a_set() -> None:
    step = merged([event("paused"), DONE], [DONE, event("paused")])
    assert step.expect is None
    assert difference_of(step, [DONE, event("paused")]) == ""
    assert difference_of(step, [event("paused"), DONE]) == ""
    assert "did not come" in difference_of(step, [DONE])
    assert "never came in any take" in difference_of(step, [DONE, event("paused"), event("paused")])


def test_what_only_some_takes_had_may_come_or_not() -> None:
    step = merged([event("paused"), event("running"), DONE], [DONE])
    assert (step.always, step.sometimes) == ([DONE], [event("paused"), event("running")])
    assert difference_of(step, [DONE]) == ""
    assert difference_of(step, [event("running"), DONE]) == ""
    assert "never came in any take" in difference_of(step, [event("null"), DONE])
    assert "did not come" in difference_of(step, [event("paused")])


def test_a_number_that_varies_is_any_number_and_nothing_else_is() -> None:
    step = merged([{"return": {"offset": 1, "id": "j"}}], [{"return": {"offset": 5, "id": "j"}}])
    assert step.expect == [{"return": {"offset": {"$varies": [1, 5]}, "id": "j"}}]
    assert difference_of(step, [{"return": {"offset": 9, "id": "j"}}]) == ""
    assert "wanted a number" in difference_of(step, [{"return": {"offset": "9", "id": "j"}}])
    assert "$.return.id" in difference_of(step, [{"return": {"offset": 9, "id": "k"}}])
    assert "$.return.offset: missing" in difference_of(step, [{"return": {"id": "j"}}])


def test_a_number_is_not_a_truth_value() -> None:
    step = merged([{"return": {"ro": True}}], [{"return": {"ro": True}}])
    assert difference_of(step, [{"return": {"ro": 1}}])


def test_takes_that_end_at_different_steps_cannot_be_recorded() -> None:
    with pytest.raises(SetupError, match=r"takes ended after \[1, 2\] steps"):
        merge(source("quit"), "5.2.0", [[GREETING, [DONE]], [GREETING]])


def test_what_never_came_is_a_difference() -> None:
    made = merge(source("stop", "cont"), "5.2.0", [[GREETING, [DONE], [DONE]]])
    [difference] = differences(made, [GREETING, [DONE]])
    assert (difference.step, difference.wanted) == (2, ['{"return": {}}'])


def test_a_recording_is_kept_and_an_equal_one_of_a_newer_version_only_named(tmp_path: Path) -> None:
    old = merge(source("stop"), "5.2.0", [[GREETING, [DONE]]])
    newer = [{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 7}}}}]
    new = merge(source("stop"), "7.2.1", [[newer, [DONE]]])
    recording.save(old, "5.2", None, tmp_path)
    path = recording.save(new, "7.2", "5.2", tmp_path)
    assert path == tmp_path / "7.2" / "theme" / "a-name.jsonl"
    assert "same_as" in path.read_text()
    assert recording.load("theme/a name", "5.2", tmp_path) == old
    assert recording.load("theme/a name", "7.2", tmp_path) == new
    other = merge(source("stop"), "7.2.1", [[newer, [event("paused"), DONE]]])
    assert "same_as" not in recording.save(other, "7.2", "5.2", tmp_path).read_text()
    assert recording.load("theme/a name", "10.0", tmp_path) is None


def test_one_that_is_only_named_still_tells_which_session_it_was_recorded_for(tmp_path: Path) -> None:
    before = merge(source("stop"), "5.2.0", [[GREETING, [DONE]]])
    recording.save(before, "5.2", None, tmp_path)
    recording.save(before, "7.2", "5.2", tmp_path)
    # The session has changed since, and only the older version was recorded anew.
    recording.save(merge(source("cont"), "5.2.0", [[GREETING, [DONE]]]), "5.2", None, tmp_path)
    newer = recording.load("theme/a name", "7.2", tmp_path)
    assert newer is not None
    assert newer.digest == source("stop").digest != source("cont").digest


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    path = recording.path_of("theme/a name", "5.2", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    with pytest.raises(SetupError, match=r"a-name\.jsonl: expected a recording"):
        recording.load("theme/a name", "5.2", tmp_path)


@pytest.mark.parametrize("name", ["sim:7.2", "sim-process:7.2"])
def test_the_simulator_is_never_recorded(name: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="only real binaries are recorded"):
        record_sessions(["--backend", name, "--directory", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
