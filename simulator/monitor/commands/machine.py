"""The machine as a whole: run state, its end, what it is."""

from __future__ import annotations

from simulator.block import activity
from simulator.block.errors import QmpError
from simulator.block.tops import tops
from simulator.monitor.commands import recorded
from simulator.monitor.running import go_on, halt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def quit_machine(machine: Machine, arguments: Arguments) -> Any:
    if machine.version.qmp.quit_replies_first:
        machine.end_soon("host-qmp-quit")
    else:
        await machine.shut_down("host-qmp-quit")
    return {}


async def stop(machine: Machine, arguments: Arguments) -> Any:
    if machine.run_state == "inmigrate":
        machine.runs_on_arrival = False
        return {}
    await halt(machine, "paused")
    return {}


async def cont(machine: Machine, arguments: Arguments) -> Any:
    """qmp_cont, monitor/qmp-cmds.c, 7.2 and 10.0."""
    if machine.run_state == "shutdown":
        raise QmpError("Resetting the Virtual Machine is required")
    if machine.run_state == "finish-migrate":
        raise QmpError("Migration is not finalized yet")
    is_waiting = machine.run_state == "inmigrate"
    if not is_waiting or machine.version.migration.activates_early:
        await activity.activate_all(tops(machine.graph))
    if is_waiting:
        machine.runs_on_arrival = True
        return {}
    go_on(machine)
    return {}


async def query_status(machine: Machine, arguments: Arguments) -> Any:
    singlestep = {"singlestep": False} if machine.version.queries.status_singlestep else {}
    return {"running": machine.run_state == "running", **singlestep, "status": machine.run_state}


async def query_version(machine: Machine, arguments: Arguments) -> Any:
    return machine.version_info()


async def query_name(machine: Machine, arguments: Arguments) -> Any:
    return {"name": machine.name} if machine.name else {}


async def query_kvm(machine: Machine, arguments: Arguments) -> Any:
    return {"enabled": False, "present": True}


async def query_qmp_schema(machine: Machine, arguments: Arguments) -> Any:
    return machine.schema.entries


async def query_command_line_options(machine: Machine, arguments: Arguments) -> Any:
    """All that were recorded, or the one that is asked for (util/qemu-config.c:230, 7.2)."""
    known = recorded.reply(machine, "query-command-line-options")
    if "option" not in arguments:
        return known
    asked = [entry for entry in known if entry["option"] == arguments["option"]]
    if not asked:
        raise QmpError(f"invalid option name: {arguments['option']}")
    return asked


async def system_powerdown(machine: Machine, arguments: Arguments) -> Any:
    # Nobody answers the button: a guest that reacts to it is no part of the simulator.
    machine.in_main_loop(lambda: machine.outbox.emit("POWERDOWN", {}))
    return {}


async def set_action(machine: Machine, arguments: Arguments) -> Any:
    """What a machine does at such events (softmmu/runstate-action.c, 7.2); a guest that panics and a watchdog
    are not here."""
    machine.actions |= arguments
    return {}


async def watchdog_set_action(machine: Machine, arguments: Arguments) -> Any:
    machine.actions["watchdog"] = arguments["action"]
    return {}


COMMANDS = {
    "set-action": set_action,
    "watchdog-set-action": watchdog_set_action,
    "quit": quit_machine,
    "stop": stop,
    "cont": cont,
    "query-status": query_status,
    "query-version": query_version,
    "query-name": query_name,
    "query-kvm": query_kvm,
    "query-command-line-options": query_command_line_options,
    "query-qmp-schema": query_qmp_schema,
    "system_powerdown": system_powerdown,
}
