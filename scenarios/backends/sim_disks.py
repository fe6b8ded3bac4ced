"""Disks of a scenario on the in-process simulator: what stands on their images in the machine."""

from __future__ import annotations

from scenarios.language.steps import Disk
from simulator.machine import Machine


def _device(name: str) -> dict[str, str]:
    return {"driver": "virtio-blk-pci", "id": f"{name}-device", "drive": name}


async def add(machine: Machine, name: str, disk: Disk, attach: str, suffix: str = "") -> None:
    """Nodes, and a device or drive, as Session names them. `attach` is Scenario.attach; `suffix`
    what images' names have between disk and format."""
    image = f"{name}{suffix}.{disk.format}"
    if attach == "drive":
        await machine.add_drive(
            f"if=none,id={name},driver={disk.format},node-name={name}-format,discard=unmap,"
            f"file.driver=file,file.filename={image},file.node-name={name}-file"
        )
        await machine.slots.plug(
            {"driver": "virtio-blk-pci", "id": f"{name}-device", "drive": name}, is_hot=False
        )
        return
    file = {"driver": "file", "filename": image, "node-name": f"{name}-file"}
    await machine.add_node({**file, "discard": "unmap"})
    await machine.add_node(
        {"driver": disk.format, "file": f"{name}-file", "node-name": name, "discard": "unmap"}
    )
    if attach == "device":
        await machine.slots.plug(
            {"driver": "virtio-blk-pci", "id": f"{name}-device", "drive": name}, is_hot=False
        )
