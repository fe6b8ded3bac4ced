"""`quit`: QMP quit, whatever is going on."""

from __future__ import annotations

from contextlib import suppress

from scenarios.backends.interface import MachineGone
from scenarios.language.steps import Quit
from scenarios.run.execution import END_NS, Execution, NotAsExpectedError, Where
from scenarios.run.history import MachineEnded
from scenarios.run.steps.crash import restart


async def run(x: Execution, quit_: Quit, where: Where) -> None:
    status = await end_machine(x, where)
    if status != 0:
        raise NotAsExpectedError("exit status 0", str(status))
    check_last_words(x, quit_.says)
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


def check_last_words(x: Execution, says: str | None) -> None:
    """What the machine that has just ended said. Raises NotAsExpectedError."""
    said = x.history.of(MachineEnded)[-1].stderr
    if says is not None and x.named(says) not in said:
        raise NotAsExpectedError(f"{x.named(says)!r} on its standard error", repr(said))
