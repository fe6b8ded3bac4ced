"""Where disks stand on SCSI buses: target and unit, each device at a place of its own
(hw/scsi/scsi-bus.c:202, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Adapter -> (highest target, highest unit); the first whose name a type begins with.
_LIMITS = {
    "virtio-scsi": (255, 16383),
    "lsi": (7, 0),
    "megasas": (128, 255),
    "mptsas": (8, 1),
    "pvscsi": (64, 0),
    "am53c974": (7, 7),
    "dc390": (7, 7),
    "esp": (7, 7),
    "usb-uas": (0, 255),
}
_USUAL = _LIMITS["virtio-scsi"]
_CHOOSE = (None, -1, 0xFFFFFFFF)


class ScsiAddresses:
    def __init__(self) -> None:
        self._taken: dict[str, dict[tuple[int, int], str]] = {}  # of each bus, with the id of who is there
        self._of: dict[str, tuple[str, tuple[int, int]]] = {}  # path of a device: its bus and place

    def find(self, adapter: str, bus: str, values: Mapping[str, Any]) -> tuple[int, int]:
        """The place that is asked for, or the first that is free. Raises QmpError."""
        most_target, most_unit = next(
            (limits for name, limits in _LIMITS.items() if adapter.startswith(name)), _USUAL
        )
        target, unit = (
            None if values.get(name) in _CHOOSE else int(values[name]) for name in ("scsi-id", "lun")
        )
        if values.get("channel", 0):
            raise QmpError(f"bad scsi channel id: {values['channel']}")
        if target is not None and target > most_target:
            raise QmpError(f"bad scsi device id: {target}")
        if unit is not None and unit > most_unit:
            raise QmpError(f"bad scsi device lun: {unit}")
        taken = self._taken.get(bus, {})
        if target is None:
            unit = unit or 0
            target = next((each for each in range(most_target + 1) if (each, unit) not in taken), None)
            if target is None:
                raise QmpError("no free target")
        elif unit is None:
            unit = next((each for each in range(most_unit + 1) if (target, each) not in taken), None)
            if unit is None:
                raise QmpError("no free lun")
        elif (target, unit) in taken:
            raise QmpError(f"lun already used by '{taken[target, unit] or '(null)'}'")
        return target, unit

    def take(self, bus: str, place: tuple[int, int], path: str, device_id: str) -> None:
        self._taken.setdefault(bus, {})[place] = device_id
        self._of[path] = bus, place

    def leave(self, path: str) -> None:
        bus, place = self._of.pop(path, ("", (0, 0)))
        self._taken.get(bus, {}).pop(place, None)

    def of(self, path: str) -> tuple[int, int] | None:
        """(target, unit) of a device."""
        found = self._of.get(path)
        return found[1] if found is not None else None
