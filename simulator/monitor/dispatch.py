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

# One family of commands a file in commands/; imported when the first command comes, not at start.
_FAMILIES = (
    "backup",
    "beside",
    "bitmaps",
    "board",
    "chains",
    "chardevs",
    "create",
    "descriptors",
    "devices",
    "exports",
    "human",
    "internal_snapshots",
    "iothreads",
    "jobs",
    "legacy",
    "limits",
    "machine",
    "media",
    "migration",
    "mirror",
    "nodes",
    "objects",
    "qom",
    "statistics",
    "transaction",
    "types",
    "vm_snapshots",
)

_handlers: dict[str, Handler] = {}


def handlers() -> dict[str, Handler]:
    """All commands that the simulator runs, by name."""
    if not _handlers:
        for family in _FAMILIES:
            _handlers.update(import_module(f"simulator.monitor.commands.{family}").COMMANDS)
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
    handler = (_handlers or handlers()).get(name)
    if handler is None:
        return recorded.reply(machine, name)
    if machine.jobs.ending:
        await machine.jobs.main_loop_free()
    try:
        return await handler(machine, arguments)
    except OSError as error:
        # An image that cannot be read or written, where nobody on the way had more to say.
        raise QmpError(error.strerror or "Input/output error") from None
