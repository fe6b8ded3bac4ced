"""HMP: migration (migration/migration-hmp-cmds.c, 10.0)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import board
from simulator.monitor.dispatch import handlers
from simulator.monitor.hmp.dispatch import same_as
from simulator.qapi.errors import ArgumentError
from simulator.qapi.integers import NumberError, to_size
from simulator.qapi.qemu_opts import SIZE_HINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

# Parameters that are sizes: those that are rates are in MiB unless they say otherwise
# (hmp_migrate_set_parameter).
_IN_MIB = ("max-bandwidth", "avail-switchover-bandwidth")
_IN_BYTES = (
    "downtime-limit",
    "xbzrle-cache-size",
    "max-postcopy-bandwidth",
    "announce-initial",
    "announce-max",
    "announce-rounds",
    "announce-step",
)


async def migrate(machine: Machine, arguments: Arguments) -> str:
    given = {"uri": arguments["uri"]} | ({"resume": True} if "resume" in arguments else {})
    await handlers()["migrate"](machine, given)
    if "detach" in arguments:
        return ""
    # Only a monitor that somebody types at waits.
    return "terminal does not allow synchronous migration, continuing detached\n"


async def set_capability(machine: Machine, arguments: Arguments) -> str:
    if arguments["capability"] not in machine.migration.capabilities:
        raise QmpError(f"invalid parameter value: {arguments['capability']}")
    machine.migration.set_capabilities([arguments])
    return ""


async def set_parameter(machine: Machine, arguments: Arguments) -> str:
    name, text = arguments["parameter"], arguments["value"]
    command = machine.schema.command("migrate-set-parameters")
    assert command is not None
    members = {member["name"] for member in machine.schema.by_name[command["arg-type"]]["members"]}
    if name not in members:
        raise QmpError(f"invalid parameter value: {name}")
    if name in _IN_MIB or name in _IN_BYTES:
        text = str(_size(name, text))
    try:
        given = machine.schema.convert_keyval(command["arg-type"], {name: text})
    except ArgumentError as error:
        raise QmpError(error.desc) from None
    machine.migration.set_parameters(given)
    return ""


def _size(name: str, text: str) -> int:
    """Raises QmpError."""
    unit = 1 << 20 if name in _IN_MIB and not text[-1:].isalpha() else 1
    try:
        return to_size(text) * unit
    except NumberError:
        if name in _IN_MIB:
            raise QmpError(f"Invalid size {text}") from None
        refusal = QmpError(f"Parameter '{name}' expects a non-negative number below 2^64")
        refusal.hint = SIZE_HINT
        raise refusal from None


async def info_capabilities(machine: Machine, arguments: Arguments) -> str:
    known = machine.migration.capabilities.items()
    return "".join(f"{name}: {'on' if state else 'off'}\n" for name, state in known)


async def info_parameters(machine: Machine, arguments: Arguments) -> str:
    """The lines that the version prints, with the values that there are now."""
    lines = []
    for line in str(board.told(machine).get("info", {}).get("migrate_parameters", "")).splitlines():
        name, _, shown = line.partition(": ")
        unit = shown.partition(" ")[2]
        value = machine.migration.parameters.get(name)
        if value is not None and shown:
            text = ("on" if value else "off") if isinstance(value, bool) else str(value)
            line = f"{name}: " + (f"'{text}'" if shown.startswith("'") else f"{text} {unit}".rstrip())
        lines.append(f"{line}\n")
    return "".join(lines)


COMMANDS = {
    "info migrate_capabilities": ("", info_capabilities),
    "info migrate_parameters": ("", info_parameters),
    "migrate": ("detach:-d,blk:-b,inc:-i,resume:-r,uri:s", migrate),
    "migrate_cancel": ("", same_as("migrate_cancel")),
    "migrate_continue": ("state:s", same_as("migrate-continue")),
    "migrate_incoming": ("uri:s", same_as("migrate-incoming")),
    "migrate_pause": ("", same_as("migrate-pause")),
    "migrate_recover": ("uri:s", same_as("migrate-recover")),
    "migrate_set_capability": ("capability:s,state:b", set_capability),
    "migrate_set_parameter": ("parameter:s,value:s", set_parameter),
    "migrate_start_postcopy": ("", same_as("migrate-start-postcopy")),
}
