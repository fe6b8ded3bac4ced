"""From a request to the function that runs it, through the argument check (qapi/qmp-dispatch.c, 7.2)."""

from __future__ import annotations

from importlib import import_module

from simulator.block.errors import QmpError
from simulator.monitor.commands import recorded
from simulator.qapi.errors import ArgumentError
from simulator.qapi.schema import UnknownCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.machine import Machine
    from simulator.wire.qmp import Request

    Handler = Callable[["Machine", dict[str, Any]], Coroutine[Any, Any, Any]]

# One family of commands a file in commands/: imported when a command comes that none before it has. Those
# that are asked for first, and those that need least, stand in front.
_FAMILIES = (
    "machine",
    "human",
    "jobs",
    "iothreads",
    "types",
    "descriptors",
    "nodes",
    "bitmaps",
    "exports",
    "objects",
    "qom",
    "devices",
    "statistics",
    "chardevs",
    "backup",
    "beside",
    "board",
    "chains",
    "create",
    "internal_snapshots",
    "legacy",
    "limits",
    "pci",
    "media",
    "migration",
    "mirror",
    "transaction",
    "vm_snapshots",
)

_handlers: dict[str, Handler] = {}
_imported: list[str] = []


def handler_of(name: str) -> Handler | None:
    """What runs a command, if the simulator does."""
    for family in _FAMILIES[len(_imported) :]:
        if name in _handlers:
            break
        _import(family)
    return _handlers.get(name)


def import_another() -> bool:
    """Import a family that no command has asked for; whether there was one. Who has nothing else to do does
    this, so that no command waits for it."""
    if len(_imported) == len(_FAMILIES):
        return False
    _import(_FAMILIES[len(_imported)])
    return True


def _import(family: str) -> None:
    _handlers.update(import_module(f"simulator.monitor.commands.{family}").COMMANDS)
    _imported.append(family)


def handlers() -> dict[str, Handler]:
    """All commands that the simulator runs, by name."""
    handler_of("")
    return _handlers


async def run_command(machine: Machine, request: Request) -> Any:
    """The value of `return`. Raises QmpError for everything that a client sees as an error."""
    name, schema = request.command, machine.schema
    if request.oob and schema.command(name) is not None and not schema.allows_oob(name):
        raise QmpError(f"The command {name} does not support OOB")
    try:
        arguments = schema.check(name, request.arguments)
    except UnknownCommand:
        raise QmpError(f"The command {name} has not been found", "CommandNotFound") from None
    except ArgumentError as error:
        raise QmpError(error.desc, error.error_class) from None
    handler = _handlers.get(name) or handler_of(name)
    if handler is None:
        return recorded.reply(machine, name)
    if machine.jobs.ending:
        await machine.jobs.main_loop_free()
    try:
        return await handler(machine, arguments)
    except OSError as error:
        # An image that cannot be read or written, where nobody on the way had more to say.
        raise QmpError(error.strerror or "Input/output error") from None
