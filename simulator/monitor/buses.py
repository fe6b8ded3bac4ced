"""The buses that machines have, and those that devices need."""

from __future__ import annotations

# What each machine has: bus -> (its kind, whether devices can come to it while the machine runs).
BUSES = {
    "none": {},
    "pc": {
        "pci.0": ("PCI", True),
        "ide.0": ("IDE", False),
        "ide.1": ("IDE", False),
        "isa.0": ("ISA", False),
        "floppy-bus.0": ("floppy-bus", False),
    },
    "q35": {"pcie.0": ("PCIE", False), **{f"ide.{number}": ("IDE", False) for number in range(6)}},
}
# The bus that a device is put on that names none: the last of its kind (qbus_find_recursive).
DEFAULT_BUS = {
    "pc": {"PCI": "pci.0", "IDE": "ide.1", "ISA": "isa.0", "floppy-bus": "floppy-bus.0"},
    "q35": {"PCI": "pcie.0", "IDE": "ide.5"},
}
# The bus that a kind of device needs, of devices that are no disks of ours.
BUS_OF_KIND = {
    "pci-device": "PCI",
    "scsi-device": "SCSI",
    "virtio-device": "virtio-bus",
    "usb-device": "usb-bus",
    "isa-device": "ISA",
    "floppy": "floppy-bus",
    "ide-device": "IDE",
    "sd-card": "sd-bus",
    "nvme-ns": "nvme-bus",
}
# Device types that are SCSI adapters, by how they begin.
SCSI_ADAPTERS = (
    "virtio-scsi",
    "lsi53c",
    "lsi",
    "megasas",
    "mptsas",
    "pvscsi",
    "am53c974",
    "dc390",
    "usb-bot",
    "usb-uas",
    "esp",
)
# Other names of device types (qdev_alias_table).
ALIASES = {"ahci": "ich9-ahci", "lsi": "lsi53c895a", "virtio-scsi": "virtio-scsi-pci"}
# Parts of boards that do not come to a machine that runs (DeviceClass.hotpluggable).
FIXED = ("piix3-ide", "piix4-ide", "piix3-ide-xen")
