"""`destination`: steps on the second machine, in their order."""

from __future__ import annotations

from scenarios.language.steps import Step
from scenarios.run.execution import Execution, Where


async def run(x: Execution, steps: list[Step], where: Where) -> None:
    from scenarios.run.runner import run_steps

    assert x.second is not None
    await run_steps(x.second, steps, where.path, where.racing)
    x.stopped |= x.second.stopped
