"""Commands that a machine of the simulator can only refuse, since what they are about never is."""

from __future__ import annotations

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.dispatch import Handler


def refuses(desc: str, error_class: str = "GenericError") -> Handler:
    """A command that is refused in these words."""

    async def run(machine: Machine, arguments: dict[str, Any]) -> Any:
        raise QmpError(desc, error_class)

    return run
