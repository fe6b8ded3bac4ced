"""The devices on a board's own PCI bus (hw/pci/pci.c, qmp_query_pci, 7.2): what the binary said of those of
the board and of each type that was plugged in, no address of which any guest has set."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import board
from simulator.monitor.commands import recorded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.plugging import Plugged

    Arguments = dict[str, Any]


async def query_pci(machine: Machine, arguments: Arguments) -> Any:
    buses: list[dict[str, Any]] = recorded.reply(machine, "query-pci")
    plugged = [_told(machine, each) for each in machine.slots.pci_devices()]
    if not plugged:
        return buses
    own, *others = buses
    devices = [*own["devices"], *plugged]
    return [{**own, "devices": sorted(devices, key=lambda each: (each["slot"], each["function"]))}, *others]


def _told(machine: Machine, device: Plugged) -> dict[str, Any]:
    slot = machine.slots.slot_of(device.path)
    told = board.told(machine).get("devices", {}).get(device.type_name, {}).get("pci")
    if told is None or slot is None:
        raise QmpError(f"query-pci is not simulated for a '{device.type_name}' that stands there")
    return {**told, "slot": slot, "qdev_id": device.device_id}


COMMANDS = {"query-pci": query_pci}
