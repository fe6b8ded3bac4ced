"""Descriptors that a client passes over the monitor's socket (monitor/misc.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.session import Session

    Arguments = dict[str, Any]


def _monitor(machine: Machine) -> Session:
    assert machine.current_monitor is not None, "a command without a monitor"
    return machine.current_monitor


def _take_passed(machine: Machine) -> int:
    """Those that came with it and were not asked for are closed. Raises QmpError."""
    monitor = _monitor(machine)
    descriptor = monitor.take_passed()
    while (unused := monitor.take_passed()) is not None:
        machine.host.close_descriptor(unused)
    if descriptor is None:
        raise QmpError("No file descriptor supplied via SCM_RIGHTS")
    return descriptor


def take_named(machine: Machine, name: str) -> int:
    """A descriptor for a command that uses it up. Raises QmpError."""
    if machine.storage_daemon:
        raise QmpError("only QEMU supports file descriptor passing")
    descriptor = _monitor(machine).take_named(name)
    if descriptor is None:
        raise QmpError(f"File descriptor named '{name}' has not been found")
    return descriptor


async def getfd(machine: Machine, arguments: Arguments) -> Any:
    name, descriptor = arguments["fdname"], _take_passed(machine)
    if name[:1] in tuple("0123456789"):
        machine.host.close_descriptor(descriptor)
        raise QmpError("Parameter 'fdname' expects a name not starting with a digit")
    replaced = _monitor(machine).take_named(name)
    if replaced is not None:
        machine.host.close_descriptor(replaced)
    _monitor(machine).named[name] = descriptor
    return {}


async def closefd(machine: Machine, arguments: Arguments) -> Any:
    descriptor = _monitor(machine).take_named(arguments["fdname"])
    if descriptor is None:
        raise QmpError(f"File descriptor named '{arguments['fdname']}' not found")
    machine.host.close_descriptor(descriptor)
    return {}


async def add_fd(machine: Machine, arguments: Arguments) -> Any:
    descriptor = _take_passed(machine)
    try:
        number = machine.fdsets.add(descriptor, arguments.get("fdset-id"), arguments.get("opaque"))
    except QmpError:
        machine.host.close_descriptor(descriptor)
        raise
    return {"fdset-id": number, "fd": descriptor}


async def remove_fd(machine: Machine, arguments: Arguments) -> Any:
    machine.fdsets.remove(arguments["fdset-id"], arguments.get("fd"))
    return {}


async def query_fdsets(machine: Machine, arguments: Arguments) -> Any:
    return machine.fdsets.describe()


COMMANDS = {
    "getfd": getfd,
    "closefd": closefd,
    "add-fd": add_fd,
    "remove-fd": remove_fd,
    "query-fdsets": query_fdsets,
}
