"""`together`: lanes side by side; the steps of one lane in their order."""

from __future__ import annotations

from scenarios.language.steps import Step
from scenarios.run.execution import Execution, Where


async def run(x: Execution, lanes: list[Step | list[Step]], where: Where) -> None:
    from scenarios.run.runner import run_step, run_steps

    await x.session.together(
        [
            run_step(x, lane, f"{where.path}.{index}", racing=True)
            if isinstance(lane, Step)
            else run_steps(x, lane, f"{where.path}.{index}", racing=True)
            for index, lane in enumerate(lanes, 1)
        ]
    )
