"""HMP: info pci (hmp_info_pci_device, monitor/hmp-cmds.c, 7.2)."""

from __future__ import annotations

from simulator.monitor.commands import pci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine


async def info_pci(machine: Machine, arguments: dict[str, Any]) -> str:
    buses = await pci.query_pci(machine, {})
    unmapped = machine.version.texts.pci_regions_unmapped
    return "".join(_device(device, unmapped) for bus in buses for device in bus["devices"])


def _device(device: dict[str, Any], tells_unmapped: bool) -> str:
    kind, identity = device["class_info"], device["id"]
    named = kind.get("desc") or f"Class {kind['class']:04d}"
    text = f"  Bus {device['bus']:2}, device {device['slot']:3}, function {device['function']}:\n"
    text += f"    {named}: PCI device {identity['vendor']:04x}:{identity['device']:04x}\n"
    if "subsystem" in identity and "subsystem-vendor" in identity:
        text += f"      PCI subsystem {identity['subsystem-vendor']:04x}:{identity['subsystem']:04x}\n"
    if "irq" in device:
        text += f"      IRQ {device['irq']}, pin {chr(ord('A') + device['irq_pin'] - 1)}\n"
    for region in device["regions"]:
        text += f"      BAR{region['bar']}: {_region(region, tells_unmapped)}\n"
    return text + f'      id "{device["qdev_id"]}"\n'


def _region(region: dict[str, Any], tells_unmapped: bool) -> str:
    """Where no guest has put it: at -1, in unsigned numbers of 64 bits."""
    start, end = region["address"] % 2**64, (region["address"] + region["size"] - 1) % 2**64
    if region["type"] == "io":
        return "I/O (not mapped)" if tells_unmapped else f"I/O at 0x{start:04x} [0x{end:04x}]."
    bits, marks = 64 if region["mem_type_64"] else 32, " prefetchable" if region["prefetch"] else ""
    kind = f"{bits} bit{marks} memory"
    return f"{kind} (not mapped)" if tells_unmapped else f"{kind} at 0x{start:08x} [0x{end:08x}]."


COMMANDS = {"info pci": ("", info_pci)}
