"""Disks of a scenario on the in-process simulator: images, and what stands on them in the machine."""

from __future__ import annotations

from scenarios.backends.interface import SetupError
from scenarios.language.steps import Disk
from simulator import image_tool
from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine


def create(host: MemoryHost, path: str, disk: Disk) -> None:
    """Raises SetupError."""
    options = ["-o", f"cluster_size={disk.cluster}"] if disk.cluster is not None else []
    argv = ["create", "-q", "-f", disk.format, *options, path, str(disk.size)]
    status, _, stderr = image_tool.run(host, argv)
    if status:
        raise SetupError(f"qemu-img {' '.join(argv)}: {stderr.strip()}")


async def add(machine: Machine, name: str, disk: Disk, attach: str) -> None:
    """Nodes, and a device or drive, as Session names them. `attach` is Scenario.attach."""
    if attach == "drive":
        await machine.add_drive(
            f"if=none,id={name},driver={disk.format},node-name={name}-format,discard=unmap,"
            f"file.driver=file,file.filename={name}.{disk.format},file.node-name={name}-file"
        )
        machine.devices.add("virtio-blk-pci", f"{name}-device", name)
        return
    file = {"driver": "file", "filename": f"{name}.{disk.format}", "node-name": f"{name}-file"}
    await machine.add_node({**file, "discard": "unmap"})
    await machine.add_node(
        {"driver": disk.format, "file": f"{name}-file", "node-name": name, "discard": "unmap"}
    )
    if attach == "device":
        machine.devices.add("virtio-blk-pci", f"{name}-device", name)
