"""`ends`: the machine ends by itself."""

from __future__ import annotations

from scenarios.language.steps import Ends
from scenarios.run.execution import END_NS, Execution, NotAsExpectedError, Where
from scenarios.run.steps.quit import check_last_words


async def run(x: Execution, ends: Ends, where: Where) -> None:
    """Raises DeadlinePassed, and then it is killed."""
    x.ends += 1
    x.going = True
    status, stderr = await x.session.wait_end(END_NS)
    x.crashed = status != 0
    x.ended(where, status == ends.status, status, stderr)
    if status != ends.status:
        raise NotAsExpectedError(f"exit status {ends.status}", str(status))
    check_last_words(x, ends.says)
