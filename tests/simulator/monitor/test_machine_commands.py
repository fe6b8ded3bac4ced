"""What a machine has besides disks: memory, a mouse, a button, character devices, ids of devices. Words and
values are those that QEMU 5.2, 7.2, 10.0 and 11.1 gave when they were asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine
from simulator.monitor import board, monitor_objects
from simulator.monitor.hmp.block import in_columns
from simulator.versions import load

VERSIONS = ("5.2", "7.2", "10.0", "11.1")
MIB = 1 << 20


class Client:
    """Replies as they come: the value, or the refusal's words."""

    def __init__(self, version: str, machine_type: str = "pc", memory_bytes: int = 256 * MIB) -> None:
        self.machine = Machine(load(version), MemoryHost())
        self.machine.slots.board = machine_type
        board.furnish(self.machine, memory_bytes)
        self._monitor = self.machine.connect_monitor()
        self._monitor.output()
        self.run("qmp_capabilities")

    def raw(self, text: str) -> list[dict[str, Any]]:
        self._monitor.receive(text.encode())
        self.machine.run_for(0)
        return [json.loads(line) for line in self._monitor.output().splitlines()]

    def run(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        asked = {"execute": command, "arguments": arguments or {}}
        reply = next(each for each in self.raw(json.dumps(asked)) if "event" not in each)
        return reply["return"] if "return" in reply else reply["error"]["desc"]

    def objects(self) -> list[str]:
        return [each["name"] for each in self.run("qom-list", {"path": "/objects"})]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_board_has_its_memory(version):
    client = Client(version)
    assert client.run("query-memory-size-summary") == {"base-memory": 256 * MIB, "plugged-memory": 0}
    client.run("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 4096})
    since_6 = {} if version == "5.2" else {"share": False, "reserve": True}
    told = {"prealloc": False, "host-nodes": [], "merge": True, "dump": True, "policy": "default", **since_6}
    assert client.run("query-memdev") == [
        {"id": "m", "size": 4096, **told},
        {"id": "pc.ram", "size": 256 * MIB, **told},
    ]
    in_use = "object 'pc.ram' is in use, can not be deleted"
    words = "Cannot delete host memory backend 'pc.ram' which is mapped" if version == "11.1" else in_use
    assert client.run("object-del", {"id": "pc.ram"}) == words


@pytest.mark.parametrize("version", VERSIONS)
def test_no_board_has_nothing(version):
    client = Client(version, "none")
    assert client.run("query-memory-size-summary") == {"base-memory": 0, "plugged-memory": 0}
    assert client.run("query-mice") == []
    no_nmi = "this feature or command is not currently supported"
    assert client.run("inject-nmi") == (
        no_nmi if version in ("5.2", "7.2") else "machine does not provide NMIs"
    )


def test_memory_is_in_units_of_8_kib_and_may_be_an_object():
    assert Client("7.2", memory_bytes=MIB + 1).run("query-memory-size-summary")["base-memory"] == MIB + 8192
    client = Client("7.2", "none")
    client.run("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 2 * MIB})
    client.machine.slots.board = "q35"
    board.furnish(client.machine, memory_id="m")
    assert client.run("query-memory-size-summary")["base-memory"] == 2 * MIB
    assert client.objects() == ["type", "m"]


@pytest.mark.parametrize("version", VERSIONS)
def test_character_devices_come_and_go(version):
    client = Client(version)

    def add(identifier, **backend):
        return client.run("chardev-add", {"id": identifier, "backend": backend})

    failed = "" if version == "5.2" else "Failed to add chardev 'c': "
    assert add("c", type="ringbuf", data={"size": 10}) == (
        f"{failed}size of ringbuf chardev must be power of two"
    )
    assert add("c", type="ringbuf", data={}) == {}
    assert add("c", type="null", data={}) == (
        "attempt to add duplicate property 'c' to object (type 'container')"
        if version == "5.2"
        else "Chardev with id 'c' already exists"
    )
    client.machine.chardevs["c"].in_use = True
    assert client.run("chardev-remove", {"id": "c"}) == "Chardev 'c' is busy"
    client.machine.chardevs["c"].in_use = False
    assert client.run("chardev-remove", {"id": "c"}) == {}
    assert client.run("chardev-remove", {"id": "c"}) == "Chardev 'c' not found"


def test_a_file_is_made_and_emptied():
    client = Client("7.2")
    client.machine.host.write_all("/log", b"old")  # type: ignore[attr-defined]

    def add(identifier, **data):
        return client.run("chardev-add", {"id": identifier, "backend": {"type": "file", "data": data}})

    failed = "Failed to add chardev 'c': Could not open '/nope/log': No such file or directory"
    assert add("c", out="/nope/log") == failed
    assert add("c", out="/log", append=True) == {}
    assert client.machine.host.read_all("/log") == b"old"  # type: ignore[attr-defined]
    assert add("d", out="/log") == {}
    assert client.machine.host.read_all("/log") == b""  # type: ignore[attr-defined]
    assert client.run("chardev-change", {"id": "d", "backend": {"type": "null", "data": {}}}) == {}
    client.machine.chardevs["d"].in_use = True
    words = client.run("chardev-change", {"id": "d", "backend": {"type": "null", "data": {}}})
    assert words == "Chardev user does not support chardev hotswap"


@pytest.mark.parametrize(
    ("version", "first", "second"),
    [
        ("5.2", "Parameter 'id' expects an identifier", "Parameter 'id' expects an identifier"),
        ("7.2", "Parameter 'id' expects an identifier", "Parameter 'id' expects an identifier"),
        ("10.0", {}, "Duplicate device ID '1'"),
        ("11.1", "Invalid qdev ID '1'", "Invalid qdev ID '1'"),
    ],
)
def test_ids_of_devices(version, first, second):
    client = Client(version)
    given = {"driver": "virtio-net-pci", "id": "1"}
    assert client.run("device_add", given) == first
    assert client.run("device_add", given) == second


@pytest.mark.parametrize(
    ("version", "taken"),
    [("5.2", "Try"), ("7.2", "Error: Duplicate device ID 'd'"), ("10.0", "Error: Duplicate device ID 'd'")],
)
def test_ids_of_devices_by_hand(version, taken):
    """What is wrong with the option text itself goes to standard error."""
    client = Client(version)

    def add(identifier):
        line = f"device_add virtio-net-pci,id={identifier}"
        return client.run("human-monitor-command", {"command-line": line})

    assert add("1") == 'Try "help device_add" for more information\r\n'
    assert client.machine.warnings == ["Parameter 'id' expects an identifier"]
    assert add("d") == ""
    assert add("d").startswith(taken)


@pytest.mark.parametrize(
    ("version", "prefix", "default", "value"),
    [
        ("5.2", "", "default", "this default"),
        ("7.2", "", "default", "this default"),
        ("10.0", "", "(default)", "this value"),
        ("11.1", "qemu-system-x86_64: ", "(default)", "this value"),
    ],
)
def test_what_a_backup_says_on_standard_error(version, prefix, default, value):
    """As the four printed it for these commands of QMP."""
    client = Client(version)
    for name in ("a", "t"):
        client.run("blockdev-add", {"driver": "null-co", "node-name": name, "size": 1 << 20})
    client.run("blockdev-backup", {"job-id": "j", "device": "a", "target": "t", "sync": "full"})
    assert client.machine.warnings == [
        f"{prefix}warning: The target block device doesn't provide information about the block size and it "
        f"doesn't have a backing file. The {default} block size of 65536 bytes is used. If the actual block "
        f"size of the target exceeds {value}, the backup may be unusable"
    ]


def test_a_device_tells_its_texts():
    client = Client("7.2")
    client.run("blockdev-add", {"driver": "null-co", "node-name": "n"})
    client.run("device_add", {"driver": "virtio-blk-pci", "drive": "n", "id": "d", "serial": "abc"})

    def ask(name):
        return client.run("qom-get", {"path": "/machine/peripheral/d", "property": name})

    assert ask("serial") == "abc"
    assert ask("failover_pair_id") == ""
    assert ask("zork") == "Property 'virtio-blk-pci.zork' not found"


@pytest.mark.parametrize(("version", "is_first"), [("5.2", False), ("7.2", True), ("10.0", True)])
@pytest.mark.parametrize("command", ["system_powerdown", "system_reset"])
def test_the_main_loop_comes_to_buttons(version, is_first, command):
    messages = Client(version).raw(f'{{"execute": "{command}"}}')
    assert [("event" in each) for each in messages] == [is_first, not is_first]


@pytest.mark.parametrize(
    ("version", "text"),
    [("5.2", b"3.141593"), ("7.2", b"3.1415926535897931"), ("10.0", b"3.1415926535897931")],
)
def test_numbers_of_many_places(version, text):
    machine = Machine(load(version), MemoryHost())
    monitor = machine.connect_monitor()
    monitor.receive(b'{"execute": "qmp_capabilities", "id": 3.14159265358979312}')
    machine.run_for(0)
    assert b'"id": ' + text in monitor.output()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("7.2", "Parameter 'size' expects a non-negative number below 2^64"),
        ("11.1", "Value '-1' is out of range for parameter 'size'"),
    ],
)
@pytest.mark.parametrize("by_hand", [False, True])
def test_what_aborts_qemu_ends_the_machine(version, words, by_hand):
    """A driver that takes it for granted that its options can be read."""
    machine = Client(version).machine
    monitor = machine.connect_monitor()
    line = "drive_add 0 if=none,id=c,driver=null-co,size=-1"
    asked = {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n", "size": -1}}
    if by_hand:
        asked = {"execute": "human-monitor-command", "arguments": {"command-line": line}}
    monitor.receive(b'{"execute": "qmp_capabilities"}' + json.dumps(asked).encode())
    machine.run_for(0)
    assert len(monitor.output().splitlines()) == 2
    assert (machine.gone, machine.exit_status, machine.warnings) == (True, -6, [words])


def test_monitors_are_objects_in_11_1():
    def furnished(version: str) -> Client:
        machine = Client(version, "none")
        monitor_objects.announce(machine.machine, "control")
        monitor_objects.announce(machine.machine, "readline")
        monitor_objects.announce(machine.machine, "readline", "mm")
        machine.machine.slots.board = "pc"
        board.furnish(machine.machine)
        return machine

    assert furnished("10.0").objects() == ["type", "pc.ram"]
    client = furnished("11.1")
    assert client.objects() == ["type", "compat_monitor1", "pc.ram", "mm", "compat_monitor0"]
    assert client.run("object-del", {"id": "mm"}) == "Deleting HMP monitors is not supported"


def test_statistics_in_columns():
    """As 11.1.3 printed them of a drive after one write and one flush."""
    counted = {
        **dict.fromkeys(("rd_bytes", "rd_operations", "rd_total_time_ns", "rd_merged", "wr_merged"), 0),
        "wr_bytes": 4096,
        "wr_operations": 1,
        "wr_total_time_ns": 16234,
        "flush_operations": 1,
        "flush_total_time_ns": 8483,
        "idle_time_ns": 200665615,
    }
    assert in_columns("e", counted) == (
        "e: idle_time_ns=200665615\n"
        "                          bytes       operations            total_time_ns     merged\n"
        "Read:                         0                0                        0          0\n"
        "Write:                     4096                1                    16234          0\n"
        "Flush:                                         1                     8483\n"
    )
