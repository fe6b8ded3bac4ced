"""Monitors as objects of the machine, which they are since 11.1 (observed): of `-object monitor-qmp` and
`monitor-hmp`, and one for each monitor that another option makes."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor.plain_object import PlainObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.machine import Machine

TYPES = {"monitor-qmp": "control", "monitor-hmp": "readline"}


def announce(machine: Machine, mode: str, identifier: str = "") -> None:
    """A monitor was made by an option. Without a name of its own it gets one."""
    if not machine.version.qmp.monitors_are_objects:
        return
    if not identifier:
        identifier = f"compat_monitor{machine.unnamed_monitors}"
        machine.unnamed_monitors += 1
    type_name = next(name for name, of in TYPES.items() if of == mode)
    machine.objects[identifier] = PlainObject(type_name, {})


def check_deleting(type_name: str) -> None:
    """Raises QmpError."""
    if type_name == "monitor-hmp":
        raise QmpError("Deleting HMP monitors is not supported")
    if type_name == "monitor-qmp":
        raise QmpError("Deleting QMP monitors is not simulated")
