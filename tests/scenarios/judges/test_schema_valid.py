"""The judge, on histories made of what a real storage daemon said, as they were and with one thing spoilt."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import time
from pathlib import Path

import pytest

from scenarios.judges.schema_valid import judge
from scenarios.run.history import History, QmpEvent, QmpExchange

STORAGE_DAEMON = Path("/usr/bin/qemu-storage-daemon")
NODE = {"driver": "null-co", "size": 1 << 20, "read-zeroes": True}
COMMANDS = [
    ("blockdev-add", {**NODE, "node-name": "src"}),
    ("blockdev-add", {**NODE, "node-name": "tgt"}),
    ("blockdev-add", {"driver": "raw", "file": "src", "node-name": "top", "read-only": True}),
    ("block-dirty-bitmap-add", {"node": "src", "name": "b0"}),
    ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "nbd.sock"}}}),
    ("block-export-add", {"type": "nbd", "id": "e0", "node-name": "top", "name": "x"}),
    ("blockdev-backup", {"job-id": "j0", "device": "src", "target": "tgt", "sync": "none"}),
    ("query-named-block-nodes", {}),
    ("query-block-jobs", {}),
    ("query-jobs", {}),
    ("query-block-exports", {}),
    ("query-blockstats", {"query-nodes": True}),
    ("x-debug-query-block-graph", {}),
    ("qom-list-types", {}),
    ("qom-get", {"path": "/", "property": "type"}),
    ("blockdev-del", {"node-name": "none"}),
    ("no-such-command", {}),
    ("block-job-cancel", {"device": "j0"}),
    ("block-export-del", {"id": "e0"}),
    ("nbd-server-stop", {}),
    ("quit", {}),
]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """A history of a real storage daemon's own words."""
    if not STORAGE_DAEMON.exists():
        pytest.skip(f"{STORAGE_DAEMON} is not installed")
    directory = tmp_path_factory.mktemp("daemon")
    options = [
        "--chardev",
        "socket,path=qmp,server=on,wait=off,id=c",
        "--monitor",
        "chardev=c",
        "--pidfile",
        "pid",
    ]
    process = subprocess.Popen([STORAGE_DAEMON, *options], cwd=directory)
    try:
        deadline = time.monotonic() + 20
        while not (directory / "pid").exists():
            assert time.monotonic() < deadline, "the storage daemon wrote no pid file within 20 s"
            time.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(directory / "qmp"))
            history = _converse(connection)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert len(history.of(QmpEvent)) >= 5
    return history


def _converse(connection):
    stream = connection.makefile("rw")
    history = History(scenario="said by a real daemon", backend="storage-daemon")
    waiting = ["qmp_capabilities", "query-qmp-schema", *(name for name, _ in COMMANDS)]
    for number, name in enumerate(waiting):
        given = COMMANDS[number - 2][1] if number > 1 else {}
        stream.write(json.dumps({"execute": name, "arguments": given, "id": number}) + "\n")
        stream.flush()
        begin = history.tick()
        while True:
            message = json.loads(stream.readline())
            if "event" in message:
                tick = history.tick()
                data = message.get("data", {})
                history.records.append(QmpEvent(begin=tick, end=tick, name=message["event"], data=data))
            elif message.get("id") == number:
                break
        if name == "query-qmp-schema":
            history.introspection = message["return"]
        error = message.get("error", {})
        history.records.append(
            QmpExchange(
                begin=begin,
                end=history.tick(),
                command=name,
                arguments=given,
                returns=message.get("return"),
                error_class=error.get("class"),
                error_desc=error.get("desc"),
            )
        )
    return history


def exchange(history, command):
    return next(record for record in history.of(QmpExchange) if record.command == command)


def event(history, name):
    return next(record for record in history.of(QmpEvent) if record.name == name)


def spoilt(said, spoil):
    history = copy.deepcopy(said)
    spoil(history)
    return judge(history)


def test_what_a_real_daemon_says_is_valid(said):
    assert exchange(said, "query-block-exports").returns
    assert exchange(said, "no-such-command").error_class == "CommandNotFound"
    verdict = judge(said)
    assert verdict.outcome == "valid", verdict.findings


BUGS = {
    "$.return[0].inserted: not in the schema": lambda h: (
        exchange(h, "query-jobs").returns[0].update(inserted=1)
    ),
    "$.return[0].id: missing": lambda h: exchange(h, "query-jobs").returns[0].pop("id"),
    "$.return[0].id: expected string, got integer 7": lambda h: (
        exchange(h, "query-jobs").returns[0].update(id=7)
    ),
    "$.return[0].current-progress: expected integer, got number 1.0": (
        lambda h: exchange(h, "query-jobs").returns[0].update({"current-progress": 1.0})
    ),
    "$.return[0].shutting-down: expected boolean, got string 'no'": (
        lambda h: exchange(h, "query-block-exports").returns[0].update({"shutting-down": "no"})
    ),
    "$.return[0].image.filename: missing": (
        lambda h: exchange(h, "query-named-block-nodes").returns[0]["image"].pop("filename")
    ),
    "$.return: expected array, got object": lambda h: setattr(exchange(h, "query-jobs"), "returns", {}),
    "$.return: expected object, got null": lambda h: setattr(exchange(h, "nbd-server-stop"), "returns", None),
    "$.return.zork: not in the schema": lambda h: exchange(h, "nbd-server-stop").returns.update(zork=1),
    "the schema has no command zork": lambda h: setattr(exchange(h, "query-jobs"), "command", "zork"),
    "the schema has no event ZORK": lambda h: setattr(event(h, "JOB_STATUS_CHANGE"), "name", "ZORK"),
    "$.data.status: expected one of": lambda h: event(h, "JOB_STATUS_CHANGE").data.update(status="zork"),
    "$.data.id: missing": lambda h: event(h, "BLOCK_EXPORT_DELETED").data.pop("id"),
    "$.data.extra: not in the schema": lambda h: event(h, "BLOCK_JOB_CANCELLED").data.update(extra=None),
    "'Oops' is no QapiErrorClass": lambda h: setattr(exchange(h, "blockdev-del"), "error_class", "Oops"),
}


@pytest.mark.parametrize("message", BUGS)
def test_a_seeded_bug_is_found_and_named(said, message):
    verdict = spoilt(said, BUGS[message])
    assert verdict.outcome == "invalid"
    [finding] = verdict.findings
    assert message in finding.explanation
    assert len(finding.evidence) == 1


def test_no_introspection_is_unknown(said):
    def forget(history):
        history.introspection = []

    verdict = spoilt(said, forget)
    assert (verdict.outcome, verdict.findings) == ("unknown", [])
    assert "introspection" in verdict.reason


def test_a_command_that_never_returned_is_not_judged(said):
    def lose(history):
        record = exchange(history, "query-jobs")
        record.end, record.returns = None, None

    assert spoilt(said, lose).outcome == "valid"
