"""A machine that waits for a guest, or sends its own nowhere. Values are those that QEMU 5.2, 7.2,
10.0 and 11.1 gave when they were asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine
from simulator.versions import load

VERSIONS = ("5.2", "7.2", "10.0", "11.1")


class Client:
    def __init__(self, version: str, run_state: str) -> None:
        self.machine = Machine(load(version), MemoryHost())
        self.machine.run_state = run_state
        self._monitor = self.machine.connect_monitor()
        self._monitor.output()
        self.states: list[str] = []
        self.run("qmp_capabilities")

    def run(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What is returned, or the refusal's words; states of the migration are kept."""
        self._monitor.receive(json.dumps({"execute": command, "arguments": arguments or {}}).encode())
        self.machine.run_for(0)
        messages = [json.loads(line) for line in self._monitor.output().splitlines()]
        self.states += [each["data"]["status"] for each in messages if each.get("event") == "MIGRATION"]
        reply = next(each for each in messages if "event" not in each)
        return reply["return"] if "return" in reply else reply["error"]["desc"]


@pytest.mark.parametrize("version", VERSIONS)
def test_nodes_are_inactive_until_the_guest_has_come(version):
    client = Client(version, "inmigrate")
    assert client.run("blockdev-add", {"driver": "null-co", "node-name": "n"}) == {}
    assert client.machine.graph.nodes["n"].inactive
    for command in ("cont", "stop"):
        assert client.run(command) == {}
        assert client.run("query-status")["status"] == "inmigrate"
    assert client.run("migrate", {"uri": "unix:x"}) == "Guest is waiting for an incoming migration"


@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_that_a_guest_cannot_come_from(version):
    client = Client(version, "inmigrate")
    assert client.run("migrate-incoming", {"uri": "foo:x"}) == "unknown migration protocol: foo:x"
    assert client.run("migrate-incoming", {"uri": "unix:"}) == "invalid Unix socket address"
    assert client.run("migrate-incoming", {"uri": "fd:z"}) == "File descriptor named 'z' has not been found"
    assert client.states == (["setup"] * 3 if version in ("5.2", "7.2") else [])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_that_nobody_takes_stays(version):
    client = Client(version, "prelaunch")
    client.run("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
    assert client.run("migrate", {"uri": "unix:nobody"}) == {}
    assert client.run("query-migrate") == {
        "status": "failed",
        "error-desc": "Failed to connect to 'nobody': No such file or directory",
    }
    failing = ["failing"] if version == "11.1" else []
    assert client.states == ["setup", *failing, "failed"]
    assert client.run("query-status")["status"] == "prelaunch"


def test_ways_that_are_not_simulated_are_told():
    client = Client("7.2", "prelaunch")
    assert client.run("migrate", {"uri": "rdma:a:1"}) == {}
    assert client.run("query-migrate")["error-desc"].startswith(
        "The simulator sends and takes guests by unix:, tcp: and exec: only"
    )
