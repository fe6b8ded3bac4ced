"""The guest is stopped and goes on (vm_stop and vm_start, softmmu/cpus.c, 7.2)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.machine import Machine


async def halt(machine: Machine, state: str) -> None:
    """A guest that runs stands still from here on, in this run state; what it wrote is on its disks then."""
    if machine.run_state == "running":
        machine.run_state = state
        machine.outbox.emit("STOP", {})
    async with machine.graph.drained_all():
        for node in list(machine.graph.nodes.values()):
            await node.flush()


def go_on(machine: Machine) -> None:
    if machine.run_state != "running":
        machine.run_state = "running"
        machine.outbox.emit("RESUME", {})
