"""What a monitor is told of jobs, and when: values and orders that QEMU 5.2, 7.2, 10.0 and 11.1 gave in the
same dialogues."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine
from simulator.versions import load

VERSIONS = ("5.2", "7.2", "10.0", "11.1")
MIB = 1 << 20


class Client:
    """What comes of each command, in short: statuses of jobs with their id, "return", or a refusal's
    words."""

    def __init__(self, version: str) -> None:
        self.machine = Machine(load(version), MemoryHost())
        self._monitor = self.machine.connect_monitor()
        self.run("qmp_capabilities")
        for name in ("s", "t", "n", "m"):
            self.run("blockdev-add", {"driver": "null-co", "node-name": name, "size": MIB})

    def messages(
        self, command: str, arguments: dict[str, Any] | None = None, after_ns: int = 10**9
    ) -> list[dict[str, Any]]:
        self._monitor.output()
        asked = {"execute": command, "arguments": arguments or {}}
        self._monitor.receive(json.dumps(asked).encode())
        self.machine.run_for(after_ns)
        return [json.loads(line) for line in self._monitor.output().splitlines()]

    def run(self, command: str, arguments: dict[str, Any] | None = None) -> list[str]:
        return [_short(message) for message in self.messages(command, arguments)]

    def hmp(self, line: str) -> str:
        messages = self.messages("human-monitor-command", {"command-line": line})
        return next(message["return"] for message in messages if "return" in message)

    def image(self, name: str, size: int = MIB, backing: str | None = None) -> None:
        """A qcow2 node over a node NAME-file."""
        self.machine.host.write_all(f"/{name}", b"")
        self.run("blockdev-add", {"driver": "file", "node-name": f"{name}-file", "filename": f"/{name}"})
        options = {"driver": "qcow2", "file": f"{name}-file", "size": size}
        self.run("blockdev-create", {"job-id": "make", "options": options})
        self.run("job-dismiss", {"id": "make"})
        wanted = {"driver": "qcow2", "node-name": name, "file": f"{name}-file", "backing": backing}
        assert self.run("blockdev-add", wanted)[-1] == "return"

    def fleece(self) -> None:
        self.run("blockdev-backup", {"device": "n", "target": "m", "sync": "none", "job-id": "f"})

    def pauses(self, command: str, arguments: dict[str, Any]) -> int:
        """How often the job that fleeces is paused by a command about other nodes."""
        return self.run(command, arguments).count("f paused")


def _short(message: dict[str, Any]) -> str:
    if "error" in message:
        return str(message["error"]["desc"])
    if message.get("event") == "JOB_STATUS_CHANGE":
        return f"{message['data']['id']} {message['data']['status']}"
    return str(message.get("event", "return"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mirror_of_nothing_slow_is_ready_before_the_reply_and_ends_after_it(version):
    client = Client(version)
    began = client.run("blockdev-mirror", {"device": "s", "target": "t", "sync": "full", "job-id": "j"})
    ready = ["j ready", "BLOCK_JOB_READY"]
    rest = ["return", *ready] if version == "5.2" else [*ready, "return"]
    assert began == ["j created", "j running", *rest]
    ended = client.run("job-complete", {"id": "j"})
    assert ended == ["return", "j waiting", "j pending", "BLOCK_JOB_COMPLETED", "j concluded", "j null"]


@pytest.mark.parametrize(
    ("version", "counts"), [("7.2", (0, 0, 0)), ("10.0", (14, 2, 2)), ("11.1", (12, 2, 1))]
)
def test_a_job_sees_how_often_the_graph_changes(version, counts):
    client = Client(version)
    client.fleece()
    client.machine.host.write_all("/i", b"")
    client.run("blockdev-add", {"driver": "file", "node-name": "i-file", "filename": "/i"})
    options = {"driver": "qcow2", "file": "i-file", "size": MIB}
    missing = {"driver": "qcow2", "file": {"driver": "file", "filename": "/not"}, "size": MIB}
    created = client.pauses("blockdev-create", {"job-id": "c", "options": options})
    refused = client.pauses("blockdev-create", {"job-id": "d", "options": missing})
    inline = {"driver": "raw", "node-name": "r", "file": {"driver": "null-co", "size": MIB}}
    client.run("blockdev-add", inline)
    closed = client.pauses("blockdev-del", {"node-name": "r"})
    assert (created, refused, closed) == counts


@pytest.mark.parametrize(("version", "count"), [("7.2", 1), ("10.0", 3), ("11.1", 3)])
def test_a_job_sees_an_overlay_come(version, count):
    client = Client(version)
    client.image("base")
    client.image("over")
    client.fleece()
    assert client.pauses("blockdev-snapshot", {"node": "base", "overlay": "over"}) == count


@pytest.mark.parametrize("version", VERSIONS)
def test_at_the_end_of_the_process(version):
    client = Client(version)
    client.fleece()
    statuses = [told for told in client.run("quit") if told.startswith("f ")]
    held = {"5.2": 0, "7.2": 1, "10.0": 2, "11.1": 2}[version]
    assert statuses == ["f paused", "f running"] * held + ["f aborting", "f concluded", "f null"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_paused_mirror_may_be_completed_but_in_5_2(version):
    client = Client(version)
    client.run("blockdev-mirror", {"device": "s", "target": "t", "sync": "full", "job-id": "j"})
    client.messages("job-pause", {"id": "j"}, after_ns=0)
    refused = "The active block job 'j' cannot be completed"
    assert (refused in client.run("job-complete", {"id": "j"})) == (version == "5.2")


@pytest.mark.parametrize("version", VERSIONS)
def test_amending_what_is_not_encrypted(version):
    client = Client(version)
    client.image("q")

    def amend(node: str, **options: Any) -> list[str]:
        return client.run("x-blockdev-amend", {"job-id": "a", "node-name": node, "options": options})

    assert amend("q", driver="raw") == ["x-blockdev-amend doesn't support changing the block driver"]
    assert amend("q-file", driver="file") == ["Driver does not support x-blockdev-amend"]
    amend("q", driver="qcow2", encrypt={"format": "luks", "state": "active"})
    [job] = client.messages("query-jobs")[0]["return"]
    assert (job["status"], job["error"]) == ("concluded", "image is not encrypted, can't amend")
    client.run("job-dismiss", {"id": "a"})
    assert "a concluded" in amend("q", driver="qcow2")
    closed = client.run("blockdev-del", {"node-name": "q"})
    assert closed == (["return"] if version == "5.2" else ["Block device q is in use"])


@pytest.mark.parametrize("version", VERSIONS)
def test_commit_by_hand(version):
    client = Client(version)
    client.image("base")
    client.image("over", 2 * MIB, backing="base")
    prefix = "Error: " if version == "11.1" else ""
    client.hmp("drive_add 0 if=none,id=e")
    assert client.hmp("commit nope") == f"{prefix}Device 'nope' not found\r\n"
    assert client.hmp("commit e") == f"{prefix}Device 'e' has no medium\r\n"
    client.hmp("drive_add 0 if=none,id=d,file=over")
    node = client.machine.graph.nodes["over"]
    client.machine.scheduler.run_until(client.machine.spawn(node.write(MIB, b"\7" * 512), "guest"))
    client.run("blockdev-add", {"driver": "raw", "node-name": "top", "file": "over"})
    client.hmp("drive_add 0 if=none,id=f,driver=raw,file=over")
    assert client.hmp("commit f") == f"{prefix}'commit' error for 'f': Operation not supported\r\n"
    assert client.hmp("commit all") == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_about_a_migration_that_is_not(version):
    client = Client(version)
    assert client.run("migrate_cancel") == ["return"]
    assert client.run("migrate-continue", {"state": "active"}) == ["Migration not in expected state: none"]
    old = "For use with '-incoming defer'"
    new = "'-incoming' was not specified on the command line"
    assert client.run("migrate-incoming", {"uri": "tcp:a:1"}) == [old if version == "5.2" else new]
    asked = "Enable postcopy with migrate_set_capability before the start of migration"
    assert client.run("migrate-start-postcopy") == [asked]
