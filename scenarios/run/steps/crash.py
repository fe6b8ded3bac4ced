"""`crash`: kill the machine without warning."""

from __future__ import annotations

from scenarios.language.steps import Crash
from scenarios.run.execution import END_NS, Execution, Where


async def run(x: Execution, crash: Crash, where: Where) -> None:
    x.ends += 1
    x.going = x.crashed = True
    await x.session.kill()
    status, stderr = await x.session.wait_end(END_NS)
    x.ended(where, True, status, stderr)
    if crash.restart:
        await restart(x)


async def restart(x: Execution) -> None:
    """Start the machine again. Raises SetupError."""
    await x.session.restart()
    x.going = x.crashed = False
    x.take_events()
    await x.note_nodes()
