"""The object tree where only the binary knows it: what it said of the board and of devices that had just been
made, with what is known of these here."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import board

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.plugging import Plugged

MACHINE = "/machine"
_BELOW = "virtio-backend"
# Where the devices stood that were asked.
_RECORDED_PATH = "/machine/peripheral/device"
_RECORDED_BUS = "device.0"  # that of a device which has one below it
# Found from the disk, which was another one.
_BY_DISK = ("cyls", "heads", "secs")


class Told:
    """A device that was plugged in, or with `is_below` the part of it that has its properties on a bus of its
    own."""

    def __init__(self, machine: Machine, plugged: Plugged, is_below: bool) -> None:
        self._machine, self.plugged, self._is_below = machine, plugged, is_below
        told = board.told(machine).get("devices", {}).get(plugged.type_name)
        if told is not None and is_below:
            told = told.get(_BELOW)
        self.is_recorded = told is not None
        self._list: list[list[str]] = told["list"] if told is not None else []
        self._values: dict[str, Any] = told["values"] if told is not None else {}

    @property
    def type_name(self) -> str:
        return str(self._values.get("type", self.plugged.type_name))

    def listed(self) -> list[dict[str, str]]:
        own_bus = f"{self.plugged.device_id}.0"
        return [
            {"name": own_bus if name == _RECORDED_BUS else name, "type": kind} for name, kind in self._list
        ]

    def has(self, name: str) -> bool:
        return any(name == each for each, _ in self._list)

    def value(self, name: str) -> Any:
        """None for one that only somebody knows who made the device."""
        known = self._known(name)
        if known is not None or name in self.plugged.settings or name in _BY_DISK:
            return known
        found = self._values.get(name)
        if isinstance(found, str) and found.startswith(_RECORDED_PATH):
            return self.plugged.path + found.removeprefix(_RECORDED_PATH)
        return found

    def _known(self, name: str) -> Any:
        plugged, slots = self.plugged, self._machine.slots
        if name == "drive" and plugged.type_name == "usb-storage":
            # The disk below it has that.
            return ""
        if name == "hotplugged":
            return plugged.is_hot
        if name == "iothread":
            given = plugged.settings.get("iothread")
            # One that was deleted has no path any more.
            return f"/objects/{given}" if given in self._machine.objects else ""
        if name in ("addr", "legacy-addr") and not self._is_below:
            return _address(slots.slot_of(plugged.path), name)
        if name in ("scsi-id", "lun"):
            place = slots.scsi.of(plugged.path)
            return None if place is None else place[name == "lun"]
        if name == "parent_bus" and slots.scsi.of(plugged.path) is not None:
            bus = slots.bus_of(plugged.path)
            return f"/machine/peripheral/{bus.removesuffix('.0')}/{_BELOW}/{bus}"
        return None


def _address(slot: int | None, name: str) -> Any:
    if slot is None:
        return None
    return slot << 3 if name == "addr" else f"{slot:02x}.0"


def at(machine: Machine, path: str) -> Told | None:
    """The device of a whole path, or the part of one."""
    plugged = machine.slots.find(path)
    if plugged is not None:
        return Told(machine, plugged, False)
    above, _, last = path.rpartition("/")
    plugged = machine.slots.find(above) if last == _BELOW else None
    if plugged is None:
        return None
    below = Told(machine, plugged, True)
    return below if below.is_recorded else None


def machine_list(machine: Machine) -> list[dict[str, str]]:
    """Raises QmpError for a board that was not asked."""
    return [{"name": name, "type": kind} for name, kind in _of_machine(machine)["list"]]


def machine_value(machine: Machine, name: str) -> Any:
    if name == "type":
        return machine.machine_properties(machine.slots.board)[0]
    told = _of_machine(machine)
    if name not in dict(told["list"]):
        raise QmpError(f"Property '{told['values']['type']}.{name}' not found")
    if name == "memory":
        return {**told["values"][name], "size": board.memory_bytes(machine)}
    if name not in told["values"]:
        raise QmpError(f"Property '{told['values']['type']}.{name}' is not simulated")
    return told["values"][name]


def _of_machine(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] | None = board.told(machine).get("machine")
    if found is None:
        raise QmpError(f"The properties of the machine '{machine.slots.board}' are not simulated")
    return found
