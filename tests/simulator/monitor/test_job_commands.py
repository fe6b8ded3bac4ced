"""Jobs, backups, transactions, images and bitmaps through a monitor: every reply and every event is one
that 7.2's introspection allows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator import versions
from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine
from simulator.monitor.commands import backup, bitmaps, create, jobs, transaction
from simulator.qapi.reply import validate_event, validate_reply
from simulator.versions import load

MIB = 1 << 20


class Client:
    """A QMP client that judges what it is told."""

    def __init__(self, storage_daemon: bool = False) -> None:
        self.machine = Machine(load("7.2"), MemoryHost(), storage_daemon=storage_daemon)
        self._monitor = self.machine.connect_monitor()
        self._monitor.output()
        self.events: list[str] = []
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: Any) -> Any:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._monitor.receive(json.dumps({"execute": command, "arguments": named}).encode())
        self.machine.run_for(0)
        reply: Any = None
        for line in self._monitor.output().splitlines():
            message = json.loads(line)
            if "event" in message:
                assert validate_event(self.machine.schema, message["event"], message["data"]) == []
                self.events.append(message["event"])
            elif "error" in message:
                raise AssertionError(f"{command}: {message['error']['desc']}")
            else:
                reply = message["return"]
        assert reply is not None, f"{command} has not been answered"
        assert validate_reply(self.machine.schema, command, reply) == []
        return reply


def client_with_disks(storage_daemon: bool = False) -> Client:
    client = Client(storage_daemon)
    for name in ("s", "t"):
        client.run("blockdev-add", driver="null-co", node_name=name, size=4 * MIB)
    return client


@pytest.mark.parametrize("storage_daemon", [False, True])
def test_a_job_through_all_its_commands(storage_daemon: bool) -> None:
    client = client_with_disks(storage_daemon)
    client.run("block-dirty-bitmap-add", node="s", name="b")
    client.run(
        "blockdev-backup",
        device="s",
        target="t",
        sync="bitmap",
        bitmap="b",
        bitmap_mode="always",
        job_id="j",
        auto_dismiss=False,
    )
    assert client.run("query-jobs")[0]["status"] == "concluded"
    assert client.run("query-block-jobs")[0]["device"] == "j"
    client.run("job-dismiss", id="j")
    data = {"device": "s", "target": "t", "sync": "full", "job-id": "j", "speed": 1, "auto-finalize": False}
    client.run("transaction", actions=[{"type": "blockdev-backup", "data": data}])
    client.run("block-job-pause", device="j")
    assert client.run("query-block-jobs")[0]["paused"] is True
    client.run("block-job-resume", device="j")
    client.run("block-job-set-speed", device="j", speed=0)
    client.run("job-finalize", id="j")
    assert client.run("query-jobs") == []
    assert {"BLOCK_JOB_COMPLETED", "BLOCK_JOB_PENDING", "JOB_STATUS_CHANGE"} == set(client.events)


def test_the_replies_of_bitmap_and_create_commands() -> None:
    client = client_with_disks()
    client.run("block-dirty-bitmap-add", node="s", name="b")
    client.run("block-dirty-bitmap-add", node="s", name="c", disabled=True)
    client.run("block-dirty-bitmap-merge", node="s", target="b", bitmaps=["c"])
    assert len(client.run("x-debug-block-dirty-bitmap-sha256", node="s", name="b")["sha256"]) == 64
    for command in ("enable", "disable", "clear", "remove"):
        assert client.run(f"block-dirty-bitmap-{command}", node="s", name="b") == {}
    client.run("blockdev-create", job_id="c", options={"driver": "file", "filename": "/i", "size": MIB})
    assert client.run("query-jobs") == [
        {"current-progress": 1, "status": "concluded", "total-progress": 1, "type": "create", "id": "c"}
    ]


def test_a_job_of_an_error_says_so_in_both_queries() -> None:
    client = client_with_disks()
    client.run("blockdev-add", driver="snapshot-access", node_name="bad", file="s")
    client.run("blockdev-backup", device="bad", target="t", sync="full", job_id="j", auto_dismiss=False)
    assert client.run("query-jobs")[0]["error"] == "Operation not supported"
    assert client.run("query-block-jobs")[0]["error"] == "Operation not supported"
    assert "BLOCK_JOB_ERROR" in client.events


@pytest.mark.parametrize("family", [backup, bitmaps, create, jobs, transaction])
def test_the_commands_are_qemus(family: Any) -> None:
    schemas = [versions.load(name).schema("system") for name in versions.names()]
    unknown = [name for name in family.COMMANDS if not any(schema.command(name) for schema in schemas)]
    assert unknown == []


def test_quit_cancels_what_runs() -> None:
    client = client_with_disks()
    client.run("blockdev-backup", device="s", target="t", sync="none", job_id="j")
    client.run("quit")
    assert "BLOCK_JOB_CANCELLED" in client.events
    assert client.machine.jobs.by_age == []
