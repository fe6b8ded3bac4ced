"""Which bus a device is put on (qbus_find and qbus_find_recursive, softmmu/qdev-monitor.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.buses import BUSES, DEFAULT_BUS, SCSI_ADAPTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from simulator.block.guest import GuestDevice
    from simulator.monitor.plugging import Plugged

# What a device brings with it, by how its type begins: the kind of bus, the names ({} is the device's id),
# and whether devices can come to it while the machine runs.
_BROUGHT: tuple[tuple[tuple[str, ...], str, tuple[str, ...], bool], ...] = (
    (SCSI_ADAPTERS, "SCSI", ("{}.0",), True),
    (
        ("piix3-usb", "piix4-usb", "usb-ehci", "ich9-usb", "nec-usb-xhci", "qemu-xhci", "pci-ohci"),
        "usb-bus",
        ("{}.0",),
        True,
    ),
    (("ich9-ahci",), "IDE", tuple(f"{{}}.{port}" for port in range(6)), False),
    (("sdhci-pci",), "sd-bus", ("sd-bus",), False),
    (("nvme",), "nvme-bus", ("{}",), False),
    (("virtio-serial",), "virtio-serial-bus", ("{}.0",), True),
    (("pci-bridge", "pcie-pci-bridge"), "PCI", ("{}",), True),
    (("pcie-root-port", "ioh3420", "xio3130", "x3130"), "PCIE", ("{}",), True),
)


def found_buses(board: str, others: Iterable[Plugged | GuestDevice]) -> dict[str, tuple[str, bool]]:
    """Name -> (kind, whether devices can come to it while the machine runs): of the board, and of the
    devices, whose own buses have their names. A device without an id has numbers for them."""
    found: dict[str, tuple[str, bool]] = dict(BUSES.get(board, {}))
    numbered: dict[str, int] = {}
    for other in others:
        for types, kind, names, takes_hot in _BROUGHT:
            if not other.type_name.startswith(types):
                continue
            for name in names:
                if not other.device_id:
                    name = f"{kind.lower()}.{numbered.setdefault(kind, 0)}"
                    numbered[kind] += 1
                found[name.format(other.device_id)] = kind, takes_hot
            break
    return found


def find(
    board: str, buses: Mapping[str, tuple[str, bool]], driver: str, kind: str, asked: Any, is_hot: bool
) -> str:
    """The name of the bus that is `asked` for, or else the newest of the `kind`; "" where it is not
    looked at. Raises QmpError."""
    if asked is not None:
        if asked not in buses and board in BUSES:
            raise QmpError(f"Bus '{asked}' not found")
        found, takes_hot = buses.get(str(asked), ("", True))
        if found and kind and not found.startswith(kind):
            raise QmpError(f"Device '{driver}' can't go on {found} bus")
        name = str(asked)
    elif kind:
        name, takes_hot = _default(board, buses, driver, kind)
    else:
        return ""
    if is_hot and not takes_hot:
        raise QmpError(f"Bus '{name}' does not support hotplugging")
    return name


def _default(board: str, buses: Mapping[str, tuple[str, bool]], driver: str, kind: str) -> tuple[str, bool]:
    name = DEFAULT_BUS.get(board, {}).get(kind)
    if name is None:
        name = next((each for each in reversed(list(buses)) if buses[each][0] == kind), None)
    if name is None and board not in BUSES and kind != "SCSI":
        # A board that is not known in so much detail has these.
        return "", True
    if name is None:
        raise QmpError(f"No '{kind}' bus found for device '{driver}'")
    return name, buses[name][1]
