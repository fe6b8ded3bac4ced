"""The runner on a machine that can be wrong on purpose: what goes right, and what each fault becomes."""

from __future__ import annotations

import pytest
from small_machine import SmallBackend

from scenarios.language.steps import (
    Copy,
    Crash,
    Disk,
    End,
    Ends,
    Event,
    ExpectedError,
    Fleece,
    Guest,
    GuestRead,
    Qmp,
    Quit,
    Read,
    Scenario,
    Step,
    Write,
)
from scenarios.run.history import (
    GuestOp,
    MachineEnded,
    Missed,
    PointInTime,
    QmpEvent,
    QmpExchange,
    Unexpected,
)
from scenarios.run.runner import run_case
from scenarios.run.steps.qmp import difference

SIZE = 8192


def write(at=0, length=4096, pattern=None, disk="vda", **members):
    return Step(guest=Guest(disk=disk, write=Write(at=at, length=length, pattern=pattern), **members))


def fleece(name="monday", disks=("vda",), **members):
    return Step(fleece=Fleece(id=name, disks=list(disks), **members))


def copy(name="monday", **members):
    return Step(copy=Copy(source=name, **members))


def read(name="monday", **members):
    return Step(read=Read(source=name, length=4096, **members))


def end(name="monday", by="cancel"):
    return Step(end=End(id=name, by=by))


ONE = [write(), fleece(), write(), copy(chunk=1000), end()]


def run(steps, fault="", method="overlay", **members):
    members.setdefault("disks", {"vda": Disk(size=SIZE)})
    backend = SmallBackend(fault)
    result = run_case(Scenario(name="small", steps=steps, methods=["overlay"], **members), backend, method, 0)
    result.session = None if result.history is None else backend.session
    return result


@pytest.fixture(autouse=True)
def _results_can_hold_their_session(monkeypatch):
    from scenarios.run import runner

    class Result(runner.CaseResult, kw_only=True):
        session: object = None

    monkeypatch.setattr(runner, "CaseResult", Result)


def told(result):
    """What the judges found."""
    assert result.outcome in ("holds", "finding"), result.reason
    found = [finding.explanation for verdict in result.verdicts for finding in verdict.findings]
    assert (found == []) is (result.outcome == "holds")
    return found


def test_a_whole_run_holds():
    result = run(ONE)
    assert told(result) == []
    assert result.session.connections == 0
    assert result.session.removed == ["monday-vda.scratch"]
    [point] = result.history.of(PointInTime)
    assert point.begin < point.end
    exchange = next(each for each in result.history.of(QmpExchange) if each.command == "transaction")
    assert point.begin < exchange.begin < exchange.end < point.end
    inside = [each for each in result.history.of(QmpEvent) if exchange.begin < each.begin < exchange.end]
    assert [each.data["status"] for each in inside] == ["created", "running", "paused", "running"]


def test_patterns_are_counted_and_every_read_is_recorded():
    result = run([*ONE[:4], Step(guest=Guest(disk="vda", read=GuestRead(at=0, length=SIZE))), end()])
    first, second, reads = result.history.of(GuestOp)
    assert (first.pattern, second.pattern) == (1, 2)
    assert reads.content == [(0, 4096, 2), (4096, 4096, 0)]
    assert told(result) == []


@pytest.mark.parametrize("by", ["cancel", "remove-export", "remove-export-hard", "stop-server"])
def test_every_way_to_end(by):
    result = run([*ONE[:-1], end(by=by)])
    assert told(result) == []
    first = {"cancel": "job-cancel", "stop-server": "nbd-server-stop"}.get(by, "block-export-del")
    undoing = [
        name
        for name, _ in result.session.commands
        if name in ("job-cancel", "nbd-server-stop", "block-export-del")
    ]
    assert undoing[0] == first


def test_points_in_time_that_nobody_ends_are_ended_newest_first():
    result = run([fleece("one"), fleece("two"), fleece("three")])
    assert told(result) == []
    cancelled = [arguments["id"] for name, arguments in result.session.commands if name == "job-cancel"]
    assert cancelled == ["three-vda-job", "two-vda-job", "one-vda-job"]


def test_layers_for_several_points_in_time_are_there_before_the_first_job():
    result = run([fleece("one"), fleece("two"), end("one"), end("two")])
    commands = result.session.commands
    layer = next(index for index, (name, words) in enumerate(commands) if name == "qom-set")
    first_job = next(index for index, (name, words) in enumerate(commands) if name == "transaction")
    assert layer < first_job
    assert result.session.nodes == {"vda", "vda-file"}


def test_a_race_of_the_guest_with_a_point_in_time_over_two_disks():
    disks = {"vda": Disk(size=SIZE), "vdb": Disk(size=SIZE)}
    lane = [write(disk=disk) for _ in range(6) for disk in disks]
    steps = [Step(together=[lane, fleece("cut", ("vda", "vdb"))]), copy("cut", connections=3, chunk=512)]
    assert told(run(steps, disks=disks)) == []


FAULTS = {
    "leak": "leaked",
    "write-lost": "as if nothing had been written",
    "guest-fails": "wanted success, got EIO",
    "refuse transaction": "it would rather not",
    "refuse job-cancel": "it would rather not",
    "hang transaction": "waited 30 s for reply to transaction",
    "hang job-cancel": "waited 30 s for reply to job-cancel",
    "die transaction": "the machine ended by signal 6; its standard error: its last words",
    "die blockdev-del": "the machine ended by signal 6",
    "die quit": "the machine ended by signal 6",
    "node-left": "node monday-vda-scratch",
    "job-left": "job monday-vda-job",
    "file-left": "file core (1 byte) is left",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault):
    result = run(ONE, fault)
    assert result.outcome == "finding"
    assert any(FAULTS[fault] in words for words in told(result)), told(result)


def test_a_refusal_that_is_expected_leaves_nothing():
    result = run([fleece(error="would rather")], "refuse transaction")
    assert told(result) == []
    assert result.history.of(PointInTime)[0].error == "it would rather not"
    assert result.session.nodes == {"vda", "vda-file"}
    [unexpected] = run([fleece(error="other words")], "refuse transaction").history.of(Unexpected)
    assert unexpected.wanted == "other words"


def test_what_goes_wrong_ends_the_steps_but_not_the_clean_up():
    result = run([fleece(), Step(qmp=Qmp(execute="query-jobs", returns=[{}, {}])), write()])
    [unexpected] = result.history.of(Unexpected)
    assert unexpected.wanted == "2 items at $"
    assert result.history.of(GuestOp) == []
    assert result.session.status == 0
    assert result.session.jobs == {}


@pytest.mark.parametrize(
    ("item", "wanted", "got"),
    [
        ({"id": "monday-vda-job", "status": "paused"}, "$[0].status to be 'paused'", "'running'"),
        ({"id": "tuesday-vda-job"}, "one like {'id': 'tuesday-vda-job'} in $", "1 others"),
    ],
)
def test_what_a_reply_includes(item, wanted, got):
    present = {"id": "monday-vda-job", "status": "running"}
    asked = [Step(qmp=Qmp(execute="query-jobs", includes=each)) for each in ([present], [present, item])]
    [unexpected] = run([fleece(), *asked]).history.of(Unexpected)
    assert (unexpected.step, unexpected.wanted, unexpected.got) == ("3", wanted, got)


def test_what_is_included_may_stand_anywhere_and_lists_within_are_taken_alike():
    bitmaps = [{"name": "x"}, {"name": "y", "count": 2}]
    nodes = [{"name": "a", "bitmaps": bitmaps}, {"name": "b", "bitmaps": []}]
    assert difference([{"name": "b"}, {"bitmaps": bitmaps[1:]}], nodes, "$", some=True) is None
    wrong = difference([{"name": "a", "bitmaps": [{"name": "y", "count": 3}]}], nodes, "$", some=True)
    assert wrong == ("$[0].bitmaps[1].count to be 3", "2")
    assert difference([{}], {}, "$", some=True) == ("$ to be [{}]", "{}")


def test_what_no_event_tells_is_asked_again():
    steps = [Step(qmp=Qmp(execute="query-status", returns={"running": True}, within=1_000_000_000))]
    result = run(steps, fault="runs at the third look")
    assert result.outcome == "holds"
    asked = [each.returns for each in result.history.of(QmpExchange) if each.command == "query-status"]
    assert asked == [{"running": False}, {"running": False}, {"running": True}]
    result = run(steps)
    [unexpected] = result.history.of(Unexpected)
    assert (unexpected.wanted, unexpected.got) == ("$.running to be True", "False")


def test_an_error_that_is_expected_and_does_not_come():
    [unexpected] = run([write(error="EIO")]).history.of(Unexpected)
    assert (unexpected.verb, unexpected.wanted, unexpected.got) == ("guest", "error EIO", "success")
    assert unexpected.step == "1"


def test_a_crash_ends_all_and_the_machine_comes_back():
    result = run([write(), fleece(), Step(crash=Crash()), write(at=4096), fleece(), copy(), end()])
    assert told(result) == []
    assert [each.status for each in result.history.of(MachineEnded)] == [-9, 0]
    assert result.session.removed.count("monday-vda.scratch") == 2


def test_after_a_quit_without_restart_nothing_is_asked():
    result = run([write(), fleece(), Step(quit=Quit())])
    assert told(result) == []
    assert result.session.commands[-1][0] == "quit"


@pytest.mark.parametrize(
    ("status", "says", "wanted"),
    [(-6, None, []), (1, None, ["exit status 1"]), (-6, "oh", ["'oh' on its standard error"])],
)
def test_an_end_that_the_machine_comes_to_by_itself(status, says, wanted):
    steps = [
        Step(qmp=Qmp(execute="stop", error=ExpectedError())),
        Step(ends=Ends(status=status, says=says)),
    ]
    result = run(steps, fault="end stop")
    assert [each.wanted for each in result.history.of(Unexpected)] == wanted
    [ended] = result.history.of(MachineEnded)
    assert (ended.expected, ended.status) == (status == -6, -6)


def test_a_client_may_lose_a_race_with_an_end_but_no_other():
    assert told(run([fleece(), Step(together=[[end()], [copy(chunk=64)]])])) == []
    assert "NBD_REP_ERR_UNKNOWN" in told(run([fleece(), end(), read()]))[0]
    assert told(run([fleece(), end(), read(error="NBD_REP_ERR_UNKNOWN")])) == []


def test_an_event_counts_once():
    event = Step(event=Event(name="BLOCK_EXPORT_DELETED"))
    assert told(run([fleece(), end(), event])) == []
    [missed] = run([fleece(), end(), event, event]).history.of(Missed)
    assert missed.waited_for == "event BLOCK_EXPORT_DELETED"


def test_names_are_put_in_and_unknown_ones_are_told():
    step = Step(qmp=Qmp(execute="query-jobs", arguments={"size": "${vda.size}", "file": "x:${vda.filename}"}))
    result = run([step], "refuse query-jobs")
    exchange = result.history.of(QmpExchange)[0]
    assert exchange.arguments == {"size": SIZE, "file": "x:/nowhere/vda.qcow2"}
    [unexpected] = run([Step(qmp=Qmp(execute="query-jobs", arguments={"size": "${vdz.size}"}))]).history.of(
        Unexpected
    )
    assert "${vdz.size} is not known here" in unexpected.got


def test_leaves_must_be_left_and_nothing_else():
    assert told(run([], "file-left", leaves=["file:core"])) == []
    [words] = told(run([], leaves=["file:core"]))
    assert "file:core to be left" in words


def test_what_is_missing_is_told():
    result = run(ONE, method="snapshot-access")
    assert result.outcome == "not-applicable"
    assert result.reason == "needs driver:copy-before-write, driver:snapshot-access"
    assert run([], needs=["hmp"]).reason == "needs hmp (a human monitor)"
