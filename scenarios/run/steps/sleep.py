"""`sleep`: let time pass."""

from __future__ import annotations

from scenarios.language.steps import Sleep
from scenarios.run.execution import Execution, Where


async def run(x: Execution, sleep: Sleep, where: Where) -> None:
    await x.session.sleep(sleep.ns)
    x.take_events()
