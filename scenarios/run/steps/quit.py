"""`quit`: QMP quit, whatever is going on."""

from __future__ import annotations

from contextlib import suppress

from scenarios.backends.interface import MachineGone
from scenarios.language.steps import Quit
from scenarios.run.execution import END_NS, Execution, NotAsExpectedError, Where
from scenarios.run.steps.crash import restart


async def run(x: Execution, quit_: Quit, where: Where) -> None:
    status = await end_machine(x, where)
    if status != 0:
        raise NotAsExpectedError("exit status 0", str(status))
    if quit_.restart:
        await restart(x)


async def end_machine(x: Execution, where: Where) -> int | None:
    """Tell it to quit and wait until it has. Raises DeadlinePassed."""
    x.ends += 1
    x.going = True
    with suppress(MachineGone):  # it may go before its reply is out
        await x.qmp(where, "quit")
    status, stderr = await x.session.wait_end(END_NS)
    x.crashed = status != 0
    x.ended(where, status == 0, status, stderr)
    return status
