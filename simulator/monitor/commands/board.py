"""Commands about a board's memory and buttons (hw/core/machine-qmp-cmds.c, softmmu/cpus.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import board
from simulator.monitor.commands import recorded
from simulator.monitor.commands.refusing import refuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_MOUSE = {"name": "QEMU PS/2 Mouse", "index": 2, "current": True, "absolute": False}


async def query_memory_size_summary(machine: Machine, arguments: Arguments) -> Any:
    return {"base-memory": board.memory_bytes(machine), "plugged-memory": 0}


def _members_of(machine: Machine, query: str) -> list[str]:
    """What the version's introspection has of each that is listed."""
    types = machine.schema.by_name
    element = types[types[types[query]["ret-type"]]["element-type"]]
    return [member["name"] for member in element["members"]]


async def query_memdev(machine: Machine, arguments: Arguments) -> Any:
    members = _members_of(machine, "query-memdev")
    return [
        {"id": name, "size": properties["size"]}
        | {key: properties.get(key, value) for key, value in board.MEMORY_DEFAULTS.items() if key in members}
        for name, properties in board.memory_backends(machine)
    ]


# Of the boards that are modelled: one processor of the default kind.
_CPU_TYPE = "qemu64-x86_64-cpu"
_CPU = {
    "qom-path": "/machine/unattached/device[0]",
    "props": {"core-id": 0, "thread-id": 0, "socket-id": 0},
}
# The thread that it runs in is made before any other of the machine's.
_CPU_THREAD = 0


async def query_cpus_fast(machine: Machine, arguments: Arguments) -> Any:
    if machine.slots.board == board.NONE:
        return []
    members = _members_of(machine, "query-cpus-fast")
    more = {"arch": "x86", "qom-type": _CPU_TYPE}
    told = {name: value for name, value in more.items() if name in members}
    return [{**_CPU, "cpu-index": 0, "thread-id": _CPU_THREAD, "target": "x86_64", **told}]


async def query_hotpluggable_cpus(machine: Machine, arguments: Arguments) -> Any:
    if machine.slots.board == board.NONE:
        return recorded.reply(machine, "query-hotpluggable-cpus")
    return [{**_CPU, "vcpus-count": 1, "type": _CPU_TYPE}]


async def query_mice(machine: Machine, arguments: Arguments) -> Any:
    return [] if machine.slots.board == board.NONE else [dict(_MOUSE)]


async def inject_nmi(machine: Machine, arguments: Arguments) -> Any:
    if machine.slots.board == board.NONE:
        raise QmpError("this feature or command is not currently supported")
    return {}


COMMANDS = {
    "query-memory-size-summary": query_memory_size_summary,
    "query-memdev": query_memdev,
    "query-mice": query_mice,
    "query-cpus-fast": query_cpus_fast,
    "query-hotpluggable-cpus": query_hotpluggable_cpus,
    "inject-nmi": inject_nmi,
    "set-numa-node": refuses("The command is permitted only before the machine has been created"),
    "system_wakeup": refuses("Unable to wake up: guest is not in suspended state"),
    "x-exit-preconfig": refuses("The command is permitted only before machine initialization"),
}
