"""Two machines on one scheduler and one host: how a guest goes, and what stops it. Words and states are those
of QEMU, where it has any; what a stream holds is the simulator's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.block.host import HostProcess
from simulator.block.memory_host import MemoryHost
from simulator.engine.domain import Domain
from simulator.engine.scheduler import Scheduler
from simulator.machine import Machine
from simulator.versions import load
from simulator.wire import migration as wire

VERSIONS = ("5.2", "7.2", "10.0", "11.1")
TOLD = [{"capability": "events", "state": True}, {"capability": "dirty-bitmaps", "state": True}]
SECOND_NS = 1_000_000_000


class Client:
    """One machine and its monitor. `events`: (name, status or nothing)."""

    def __init__(self, scheduler: Scheduler, host: MemoryHost, version: str, run_state: str) -> None:
        self.scheduler, self.process = scheduler, HostProcess(host)
        self.machine = Machine(load(version), self.process, scheduler=Domain(scheduler))
        self.machine.run_state, self.machine.runs_on_arrival = run_state, False
        self._monitor = self.machine.connect_monitor()
        self._monitor.output()
        self.events: list[tuple[str, str]] = []
        self.run("qmp_capabilities")
        self.run("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 1 << 30})
        self.run("migrate-set-capabilities", {"capabilities": TOLD})

    def run(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        self._monitor.receive(json.dumps({"execute": command, "arguments": arguments or {}}).encode())
        return self.after(0)

    def after(self, duration_ns: int) -> Any:
        """The reply to the last command, if it comes in that time, or the refusal's words."""
        self.scheduler.advance_to(self.scheduler.now_ns + duration_ns)
        self.machine.flush_events()
        reply = None
        for line in self._monitor.output().splitlines():
            message = json.loads(line)
            if "event" in message and message["event"] != "MIGRATION_PASS":
                self.events.append((message["event"], message.get("data", {}).get("status", "")))
            elif "event" not in message:
                reply = message["return"] if "return" in message else message["error"]["desc"]
        return reply

    @property
    def status(self) -> str:
        found: str = self.run("query-migrate").get("status", "")
        return found

    def bitmaps(self) -> list[str]:
        nodes = self.run("query-named-block-nodes")
        return [each["name"] for each in nodes[0].get("dirty-bitmaps", []) if "name" in each]


class Pair:
    def __init__(self, version: str, run_state: str = "prelaunch") -> None:
        self.scheduler, host = Scheduler(), MemoryHost()
        self.host = host
        host.later = lambda act: self.scheduler.call_at(self.scheduler.now_ns, act)
        self.here = Client(self.scheduler, host, version, run_state)
        self.there = Client(self.scheduler, host, version, "inmigrate")

    def meet(self) -> None:
        assert self.there.run("migrate-incoming", {"uri": "unix:/m"}) == {}
        assert self.here.run("migrate", {"uri": "unix:/m"}) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_states_of_a_guest_that_goes_and_runs_on(version: str) -> None:
    pair = Pair(version, "running")
    pair.there.run("cont")
    pair.meet()
    pair.here.after(SECOND_NS)
    pair.there.after(0)
    device = [("MIGRATION", "device")] if version in ("10.0", "11.1") else []
    states = [("MIGRATION", "setup"), ("MIGRATION", "active"), ("STOP", ""), *device]
    assert pair.here.events == [*states, ("MIGRATION", "completed")]
    arrived = [("MIGRATION", "setup"), ("MIGRATION", "active"), ("RESUME", "")]
    assert pair.there.events == [*arrived, ("MIGRATION", "completed")]
    assert pair.here.run("query-status")["status"] == "postmigrate"
    assert pair.here.machine.graph.nodes["n"].inactive
    assert not pair.there.machine.graph.nodes["n"].inactive
    again = pair.here.run("migrate", {"uri": "unix:/m"})
    assert again == (
        {} if version == "5.2" else "Can't migrate the vm that was paused due to previous migration"
    )


def test_a_guest_that_has_gone_is_sent_off_once_more() -> None:
    """Observed with 5.2, which begins and aborts; later versions refuse."""
    pair = Pair("5.2")
    pair.meet()
    pair.here.after(SECOND_NS)
    third = Client(pair.scheduler, pair.host, "5.2", "inmigrate")
    third.run("migrate-incoming", {"uri": "unix:/again"})
    pair.here.run("migrate", {"uri": "unix:/again"})
    pair.here.after(SECOND_NS)
    assert (pair.here.machine.gone, pair.here.machine.exit_status) == (True, -6)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_writes_where_the_guest_has_gone_from_ends_the_process(version: str) -> None:
    pair = Pair(version)
    pair.meet()
    pair.here.after(SECOND_NS)
    node = pair.here.machine.graph.nodes["n"]
    task = pair.here.machine.spawn(node.write(0, bytes(512)), "a write")
    pair.here.after(0)
    assert not task.done()
    assert (pair.here.machine.gone, pair.here.machine.exit_status) == (True, -6)


@pytest.mark.parametrize("version", VERSIONS)
def test_states_of_postcopy(version: str) -> None:
    pair = Pair(version, "running")
    pair.here.run("migrate-set-parameters", {"downtime-limit": 0})
    pair.here.run("block-dirty-bitmap-add", {"node": "n", "name": "b", "granularity": 512})
    pair.meet()
    pair.here.after(SECOND_NS)
    assert pair.here.status == "active"
    refused = pair.here.run("migrate-set-capabilities", {"capabilities": []})
    assert refused == "There's a migration process in progress"
    pair.here.run("migrate-start-postcopy")
    pair.here.after(SECOND_NS)
    stops = [("STOP", ""), ("MIGRATION", "device"), ("MIGRATION", "postcopy-active")]
    if version in ("5.2", "7.2"):
        stops = [("MIGRATION", "postcopy-active"), ("STOP", "")]
    begins = [("MIGRATION", "setup"), ("MIGRATION", "active")]
    assert pair.here.events == [*begins, *stops, ("MIGRATION", "completed")]
    assert pair.there.bitmaps() == ["b"]
    # Nobody has said that it is to run there.
    assert pair.there.run("query-status")["status"] == "paused"


def test_a_large_rest_never_goes_while_the_guest_stands_still() -> None:
    pair = Pair("7.2")
    for name in "ab":
        pair.here.run("block-dirty-bitmap-add", {"node": "n", "name": name, "granularity": 512})
    pair.meet()
    pair.here.after(60 * SECOND_NS)
    assert pair.here.status == "active"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_that_is_called_back_stays(version: str) -> None:
    pair = Pair(version, "running")
    pair.here.run("migrate-set-parameters", {"downtime-limit": 0})
    pair.here.run("block-dirty-bitmap-add", {"node": "n", "name": "b", "granularity": 512})
    pair.meet()
    pair.here.after(SECOND_NS)
    assert pair.here.run("migrate_cancel") == {}
    pair.here.after(SECOND_NS)
    assert pair.here.events[-2:] == [("MIGRATION", "cancelling"), ("MIGRATION", "cancelled")]
    assert pair.here.run("query-status")["status"] == "running"
    assert pair.here.run("block-dirty-bitmap-remove", {"node": "n", "name": "b"}) == {}
    assert (pair.there.machine.gone, pair.there.machine.exit_status) == (True, 1)
    assert "load of migration failed" in pair.there.machine.warnings[-1]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_bitmap_that_is_there_already_ends_the_destination(version: str) -> None:
    pair = Pair(version)
    for client in (pair.here, pair.there):
        client.run("block-dirty-bitmap-add", {"node": "n", "name": "p"})
    pair.meet()
    pair.here.after(SECOND_NS)
    assert pair.there.machine.exit_status == 1
    words = "Bitmap with the same name ('p') already exists on destination"
    assert words in pair.there.machine.warnings[-1]
    assert pair.here.status == "failed"
    assert pair.here.run("query-status")["status"] == "prelaunch"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("l" * 256, f"Cannot migrate bitmap '{'l' * 256}' on node 'n': Name is longer than 255 bytes"),
        ("busy", "Bitmap 'busy' is currently in use by another operation and cannot be used"),
    ],
)
def test_a_bitmap_that_cannot_go_keeps_the_guest(name: str, words: str) -> None:
    for version in VERSIONS:
        pair = Pair(version)
        pair.here.run("block-dirty-bitmap-add", {"node": "n", "name": "fine"})
        pair.here.run("block-dirty-bitmap-add", {"node": "n", "name": name})
        found = {each.name: each for each in pair.here.machine.graph.nodes["n"].bitmaps}
        found[name].busy = name == "busy"
        pair.meet()
        pair.here.after(SECOND_NS)
        told = {"error-desc": words} if version in ("10.0", "11.1") else {}
        assert pair.here.run("query-migrate") == {"status": "failed", **told}
        assert words in pair.here.machine.warnings[-1]
        assert not found["fine"].busy


def test_a_node_whose_name_was_made_up_keeps_the_guest() -> None:
    pair = Pair("7.2")
    graph = pair.here.machine.graph
    pair.here.run("blockdev-add", {"driver": "raw", "node-name": "r", "file": {"driver": "null-co"}})
    made_up = graph.nodes["r"].children["file"].node.node_name
    pair.here.run("block-dirty-bitmap-add", {"node": made_up, "name": "b"})
    pair.meet()
    pair.here.after(SECOND_NS)
    words = f"Bitmap 'b' in a node with auto-generated name '{made_up}' can't be migrated"
    assert words in pair.here.machine.warnings[-1]


def test_a_stream_of_qemu_is_refused() -> None:
    pair = Pair("7.2")
    pair.there.run("migrate-incoming", {"uri": "unix:/m"})
    got: list[bytes] = []
    stream = pair.host.connect({"type": "unix", "path": "/m"}, got.append)
    stream.send([wire.QEMU_MAGIC + b"\0\0\0\3"])
    pair.there.after(0)
    assert (pair.there.machine.gone, pair.there.machine.exit_status) == (True, 1)
    words = "a simulator takes guests from simulators only, and this is a stream of QEMU's"
    assert words in pair.there.machine.warnings[-1]
    assert ("MIGRATION", "failed") in pair.there.events
    assert got == [b""]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "The other side does not answer: a simulator sends guests to simulators only"),
        ([b"NBDMAGIC"], "The other side answers with no stream of a simulator's"),
        ([wire.QEMU_MAGIC], "The other side answers with a stream of QEMU's, with its memory and devices"),
        ([b"gold", b""], "Unable to write to socket: Broken pipe"),
    ],
)
def test_who_does_not_greet_gets_no_guest(answer: list[bytes], words: str) -> None:
    pair = Pair("10.0")

    def accept(stream: Any) -> Any:
        for payload in answer:
            if payload:
                stream.send([payload])
            else:
                stream.close()
        return lambda payload: None

    pair.host.listen({"type": "unix", "path": "/m"}, accept)
    assert pair.here.run("migrate", {"uri": "unix:/m"}) == {}
    pair.here.after(9 * SECOND_NS)
    assert pair.here.status == ("failed" if answer else "setup")
    pair.here.after(2 * SECOND_NS)
    assert pair.here.run("query-migrate") == {"status": "failed", "error-desc": words}
    assert pair.here.run("query-status")["status"] == "prelaunch"


def test_a_second_guest_is_not_let_in() -> None:
    pair = Pair("7.2")
    pair.there.run("migrate-incoming", {"uri": "unix:/m"})
    again = pair.there.run("migrate-incoming", {"uri": "unix:/m"})
    assert again == "The incoming migration has already been started"
    first: list[bytes] = []
    second: list[bytes] = []
    stream = pair.host.connect({"type": "unix", "path": "/m"}, first.append)
    pair.host.connect({"type": "unix", "path": "/m"}, second.append)
    stream.send([wire.GREETING])
    pair.there.after(0)
    assert (first, second) == ([wire.GREETING], [b""])


def test_a_message_comes_in_any_pieces() -> None:
    whole = wire.GREETING + wire.encode("bits", 0, [[0, 512]]) + wire.encode("end", "running")
    reader = wire.Reader()
    messages = [each for byte in whole for each in reader.receive(bytes([byte]))]
    assert messages == [["bits", 0, [[0, 512]]], ["end", "running"]]
    with pytest.raises(wire.ForeignError, match="a message of"):
        reader.receive(b"\xff\xff\xff\xff")
