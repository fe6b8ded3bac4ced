"""What a device is told, apart from the values of its properties: names, PCI addresses, and what its backend
has to know of it."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from simulator.block.guest import GuestDevice
    from simulator.machine import Machine

# Whether invalid and failed requests count, such as that a device is in use (see block/accounting.py).
COUNTED = ("account-invalid", "account-failed")
LAST_SLOT = 0x1F


def check_names(machine: Machine, driver: str, given: Mapping[str, Any], fine: frozenset[str]) -> None:
    if fine.issuperset(given):
        return
    driver = "virtio-blk-pci" if driver == "virtio-blk" else driver
    known = machine.device_properties(driver)
    for name in given:
        if name not in fine and known is not None and name not in known:
            raise QmpError(f"Property '{driver}.{name}' not found")


def asked_slot(driver: str, given: Mapping[str, Any]) -> int | None:
    """Of a PCI address: SLOT or SLOT.FUNCTION, hexadecimal (set_pci_devfn); None where a function but the
    first is asked for, as several of them share a slot. Raises QmpError."""
    address = given.get("addr")
    if not isinstance(address, str):
        return None
    text, dot, function = address.partition(".")
    try:
        slot = int(text, 16)
    except ValueError:
        slot = -1
    if not 0 <= slot <= LAST_SLOT or (dot and function not in tuple("01234567")):
        raise QmpError(f"Property '{driver}.addr' doesn't take value '{address}'")
    return slot if not dot or function == "0" else None


def set_on_backend(disk: GuestDevice, values: Mapping[str, Any]) -> None:
    """What is told of the write cache and of what counts; "auto" is as if nothing was."""
    if values.get("write-cache", "auto") != "auto":
        disk.backend.write_cache = values["write-cache"] == "on"
    for name in COUNTED:
        if values.get(name, "auto") != "auto":
            setattr(disk.backend.accounting, name.replace("-", "_"), values[name] == "on")
