"""Character devices that come and go while the machine runs (chardev/char.c, 7.2).

Those that reach nothing outside of the machine; what a command line makes is in serve/chardevs.py, and in
the same table of the machine.
"""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_SILENT = ("null", "ringbuf", "memory", "testdev")


class SilentChardev:
    """Takes everything and gives nothing."""

    __slots__ = ("in_use",)

    def __init__(self) -> None:
        self.in_use = False

    def close(self) -> None:
        """It holds nothing."""


async def chardev_add(machine: Machine, arguments: Arguments) -> Any:
    identifier, backend = arguments["id"], arguments["backend"]
    if identifier in machine.chardevs:
        raise QmpError(f"Chardev with id '{identifier}' already exists")
    if backend["type"] not in _SILENT:
        raise QmpError(f"chardev-add of type '{backend['type']}' is not simulated")
    if backend["type"] in ("ringbuf", "memory"):
        size = backend["data"].get("size", 65536)
        if size.bit_count() != 1:
            raise QmpError(
                f"Failed to add chardev '{identifier}': size of ringbuf chardev must be power of two"
            )
    machine.chardevs[identifier] = SilentChardev()
    return {}


async def chardev_remove(machine: Machine, arguments: Arguments) -> Any:
    identifier = arguments["id"]
    found = machine.chardevs.get(identifier)
    if found is None:
        raise QmpError(f"Chardev '{identifier}' not found")
    if found.in_use:
        raise QmpError(f"Chardev '{identifier}' is busy")
    del machine.chardevs[identifier]
    found.close()
    return {}


COMMANDS = {"chardev-add": chardev_add, "chardev-remove": chardev_remove}
