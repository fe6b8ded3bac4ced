"""What a machine's board has besides disks and their buses: memory, a mouse, a button for NMIs.

Source: hw/core/machine.c (create_default_memdev), hw/i386/pc.c, 7.2.
"""

from __future__ import annotations

from simulator.monitor.plain_object import PlainObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

NONE = "none"
MEMORY_BACKENDS = "memory-backend-"
MEMORY_BACKEND = "memory-backend-ram"
_SHARED_UNLESS_TOLD = "memory-backend-memfd"
DEFAULT_MEMORY_BYTES = 128 << 20
# What the machine makes a size a multiple of (set_memory_options).
_MEMORY_UNIT_BYTES = 8192

# What query-memdev tells of a memory-backend-ram that was not told otherwise.
MEMORY_DEFAULTS: dict[str, Any] = {
    "merge": True,
    "dump": True,
    "prealloc": False,
    "share": False,
    "reserve": True,
    "host-nodes": [],
    "policy": "default",
}


def furnish(machine: Machine, memory_bytes: int = DEFAULT_MEMORY_BYTES, memory_id: str = "") -> None:
    """Put what comes with the board named in `machine.slots.board` into the machine. `memory_id`: an object
    that is to be its memory."""
    if machine.slots.board == NONE:
        return
    machine.slots.memory_id = memory_id or _memory_id(machine)
    if not memory_id:
        size = memory_bytes + -memory_bytes % _MEMORY_UNIT_BYTES
        machine.objects[machine.slots.memory_id] = PlainObject(MEMORY_BACKEND, {"size": size})


def told(machine: Machine) -> dict[str, Any]:
    """What the binary said of a machine with this board, see scenarios/record/boards.py; nothing for a board
    that was not asked."""
    try:
        boards = machine.version.recorded(machine.binary, "boards")
    except LookupError:
        return {}
    found: dict[str, Any] = boards.get(machine.slots.board, {})
    return found


def _memory_id(machine: Machine) -> str:
    """Of boards that every version has nothing needs to be looked up, which takes time."""
    if machine.slots.board in ("pc", "q35"):
        return "pc.ram"
    for entry in machine.version.recorded(machine.binary, "queries")["query-machines"]["return"]:
        if machine.slots.board in (entry["name"], entry.get("alias")):
            return str(entry.get("default-ram-id", "pc.ram"))
    return "pc.ram"


def memory_bytes(machine: Machine) -> int:
    memory = machine.objects.get(machine.slots.memory_id)
    return int(memory.properties["size"]) if memory is not None else 0


def memory_backends(machine: Machine) -> list[tuple[str, dict[str, Any]]]:
    """(id, properties) of each object that is memory."""
    kinds = {name: getattr(found, "type_name", "") for name, found in machine.objects.items()}
    return [
        (name, {"share": kinds[name] == _SHARED_UNLESS_TOLD, **found.properties})
        for name, found in machine.objects.in_qom_order()
        if kinds[name].startswith(MEMORY_BACKENDS)
    ]
